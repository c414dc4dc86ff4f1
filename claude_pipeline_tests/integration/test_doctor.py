"""`claude-pipeline doctor`: each thing that may be amiss, its row, and its way out."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from claude_pipeline.home import Home
from claude_pipeline.lane.access import connect
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import Ledger
from claude_pipeline.settings import PREFIX, VARIABLES
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.doctor import examine
from claude_pipeline.stage.finalize import finalize
from claude_pipeline.stage.finding import Finding, Verdict, exit_code_of
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import PARTITION, collected_chunks, note, ready_chunks, sent_chunks, workload_over
from claude_pipeline_tests.integration.command_case import CommandLine

Rows = dict[str, tuple[str, str, str]]
ALL = ["versions", "environment", "home", "disk", "ledger", "doubts", "files", "workloads", "key", "clock"]


def real_clock() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def environment(simulator: Simulator, home: Home) -> dict[str, str]:
    """As a person has it who started the simulator."""
    return {
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": simulator.api_key,
        "CLAUDE_PIPELINE_HOME": str(home.root),
    }


def findings(
    environment: Mapping[str, str], clock: Callable[[], datetime] = real_clock, *, deep: bool = False
) -> list[Finding]:
    client = BatchClient(connect=lambda: connect(environment))
    try:
        return list(examine(environment, folder=None, client=client, clock=clock, deep=deep))
    finally:
        client.close()


def examined(environment: Mapping[str, str], clock: Callable[[], datetime] = real_clock) -> tuple[Rows, int]:
    """The last row of each check (the only one, but where several are wrong), and the exit code."""
    found = findings(environment, clock)
    return {f.check: (f.verdict.value, f.fact, f.way_out) for f in found}, exit_code_of(found)


def test_all_is_well_before_the_first_run_and_nothing_was_made_or_paid(
    environment: dict[str, str], home: Home, simulator: Simulator
) -> None:
    os.rmdir(home.root)

    rows, code = examined(environment)

    assert list(rows) == [check for check in ALL if check not in ("doubts", "files")]
    assert ({row[0] for row in rows.values()}, code) == ({"ok"}, 0)
    assert rows["home"][1] == f"{home.root} is not there yet; the first run makes it"
    assert not home.root.exists()
    assert simulator.invoice()["accepted_requests"] == 0


@pytest.mark.both_databases
def test_all_is_well_with_a_ledger(environment: dict[str, str], desk: Desk, ledger_url: str | None, home: Home) -> None:
    ready_chunks(desk.ledger, desk.clock())
    home.root.chmod(0o700)

    rows, code = examined(environment | ({"CLAUDE_PIPELINE_LEDGER_URL": ledger_url} if ledger_url else {}))

    assert list(rows) == ALL
    assert ({row[0] for row in rows.values()}, code) == ({"ok"}, 0), rows
    assert "1 snapshot" in rows["ledger"][1]
    assert "password" not in str(rows)


@pytest.mark.parametrize(
    ("changes", "check", "row", "code"),
    [
        pytest.param(
            {"ANTHROPIC_API_KEY": ""},
            "key",
            ("wrong", "ANTHROPIC_API_KEY is not set", "export it, or start `claude-pipeline simulate` and set the two variables it prints"),
            3,
            id="no key",
        ),
        pytest.param(
            {"ANTHROPIC_API_KEY": "secret "},
            "key",
            ("wrong", "ANTHROPIC_API_KEY has white space around it (length 7)", "set it without"),
            2,
            id="key with white space",
        ),
        pytest.param(
            {"ANTHROPIC_BASE_URL": "http://api.example"},
            "key",
            ("wrong", "ANTHROPIC_BASE_URL is http://api.example: the key would travel in clear", "use https://"),
            2,
            id="key in clear",
        ),
        pytest.param(
            {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"},
            "api",
            ("wrong", "no answer from 127.0.0.1 (ConnectError)", "look at the network, a proxy and ANTHROPIC_BASE_URL, and run again"),
            4,
            id="no API",
        ),
        pytest.param(
            {"CLAUDE_PIPELINE_BUDGET": "3"},
            "environment",
            ("warning", "CLAUDE_PIPELINE_BUDGET is set, and nothing reads it", "rename it to CLAUDE_PIPELINE_BUDGET_USD"),
            0,
            id="misspelt variable",
        ),
        pytest.param(
            {"CLAUDE_PIPELINE_BUDGET_USD": "ten"},
            "environment",
            ("wrong", "CLAUDE_PIPELINE_BUDGET_USD must be a number, got 'ten'", "correct or unset that variable"),
            2,
            id="unusable variable",
        ),
        pytest.param(
            {"CLAUDE_PIPELINE_CRASH_AT": "send.before_post"},
            "environment",
            ("warning", "CLAUDE_PIPELINE_CRASH_AT kills or stops processes: it is for tests", "unset it"),
            0,
            id="crash point left behind",
        ),
        pytest.param(
            {"CLAUDE_PIPELINE_LEDGER_URL": "mysql://u:hidden@h/d"},
            "ledger",
            ("wrong", "CLAUDE_PIPELINE_LEDGER_URL must be sqlite:///… or postgresql+psycopg://…", "see the README, When something goes wrong"),
            2,
            id="unusable ledger",
        ),
        pytest.param(
            {"CLAUDE_PIPELINE_HOME": f"{__file__}/home"},
            "home",
            ("wrong", f"{__file__}/home cannot be written", "name another folder with --home or CLAUDE_PIPELINE_HOME"),
            2,
            id="home that cannot be",
        ),
    ],
)  # fmt: skip
def test_what_is_amiss_in_the_environment_is_named_with_its_way_out(
    environment: dict[str, str], home: Home, changes: dict[str, str], check: str, row: tuple[str, str, str], code: int
) -> None:
    home.root.chmod(0o700)

    rows, found = examined(environment | changes)

    assert rows[check] == row
    assert found == code


def test_a_refused_key_is_told_without_it(environment: dict[str, str], simulator: Simulator) -> None:
    key = environment["ANTHROPIC_API_KEY"]
    simulator.faults.add(endpoint="list", kind="status", status=401, message=f"invalid key {key}", count=1)

    rows, code = examined(environment)

    refused = "the API refused the key (401: invalid key ********)"
    assert rows["key"] == ("wrong", refused, "check ANTHROPIC_API_KEY")
    assert code == 3


def test_a_key_of_another_workspace_is_told(environment: dict[str, str], ledger: Ledger, clock: MovableClock) -> None:
    ledger.pin_workspace("wrkspc_other", at=clock())

    rows, code = examined(environment)

    assert rows["key"][0] == "wrong"
    assert rows["key"][1].endswith("the ledger's batches are in wrkspc_other")
    assert code == 3


@pytest.mark.parametrize("seconds", [-4_000, 4_000], ids=["behind", "ahead"])
def test_a_clock_that_is_off_is_told(environment: dict[str, str], seconds: float) -> None:
    rows, code = examined(environment, lambda: real_clock() + timedelta(seconds=seconds))

    assert rows["clock"][0] == "wrong"
    assert ("ahead" in rows["clock"][1]) == (seconds > 0)
    assert code == 2


@pytest.mark.parametrize("damage", ["header", "page", "no database", "row"])
def test_a_damaged_ledger_is_told_and_the_rest_still_checked(
    environment: dict[str, str], home: Home, ledger: Ledger, clock: MovableClock, damage: str
) -> None:
    ready_chunks(ledger, clock())
    ledger.close()
    raw = sqlite3.connect(home.ledger)
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if damage == "row":
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("UPDATE chunk SET snapshot = 'none'")
        raw.execute("UPDATE intent SET chunk_id = 77")
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute(
            "INSERT INTO intent (chunk_id, tag, requests, state, created_at) VALUES (77, 't', 1, 'open', '2026')"
        )
        raw.commit()
    raw.close()
    content = bytearray(home.ledger.read_bytes())
    if damage == "header":
        content[:100] = os.urandom(100)
    elif damage == "page":
        content[4096 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4096)
    elif damage == "no database":
        content = bytearray(b"something else\n" * 999)
    home.ledger.write_bytes(content)

    rows, code = examined(environment)

    assert rows["ledger"][0] == "wrong", rows
    assert rows["ledger"][2]
    assert rows["key"][0] == "ok"
    assert code == 1


@pytest.mark.parametrize(("schema", "row"), [(3, "warning"), (999, "wrong")], ids=["older", "newer"])
def test_a_ledger_of_another_version_is_told_and_left_as_it_is(
    environment: dict[str, str], ledger: Ledger, ledger_sql: object, home: Home, schema: int, row: str
) -> None:
    with sqlite3.connect(home.ledger) as raw:
        raw.execute("UPDATE setting SET value = ? WHERE key = 'schema_version'", [str(schema)])
    raw.close()

    rows, _ = examined(environment)

    assert rows["ledger"][0] == row
    assert ledger.get_setting("schema_version") == str(schema)


def test_a_stop_of_the_account_is_told(environment: dict[str, str], ledger: Ledger, clock: MovableClock) -> None:
    ledger.account_stopped("account", "your credit balance is too low", at=clock())

    rows, code = examined(environment)

    sentence = "stopped since 2026-11-22 14:30 UTC: your credit balance is too low"
    assert rows["account"] == ("wrong", sentence, "claude-pipeline resume, once that is mended")
    assert code == 3


@pytest.mark.parametrize(
    ("seconds", "way_out"),
    [
        pytest.param(1, "nothing: they are settled 10 s after they came in doubt, by whatever runs then", id="young"),
        pytest.param(60, "claude-pipeline reconcile", id="old"),
    ],
)
def test_a_create_in_doubt_is_told(
    environment: dict[str, str],
    desk: Desk,
    simulator: Simulator,
    clock: MovableClock,
    tmp_path: Path,
    seconds: float,
    way_out: str,
) -> None:
    simulator.faults.add(endpoint="create", kind="lost_after", count=1)
    sent_chunks(desk, workload_over(tmp_path, [note(1)]))

    rows, _code = examined(environment, lambda: clock() + timedelta(seconds=seconds))

    assert rows["doubts"][0] == "warning"
    assert "1 create without a clear answer" in rows["doubts"][1]
    assert rows["doubts"][2] == way_out


def test_a_ledger_that_has_forgotten_what_was_sent_is_told(
    environment: dict[str, str], ledger: Ledger, home: Home
) -> None:
    ledger.put_mark(5)

    rows, code = examined(environment)

    assert rows["ledger"][0] == "wrong"
    assert "reconcile --rebuild" in rows["ledger"][1] + rows["ledger"][2]
    assert code == 3


def test_an_open_home_and_temporary_files_are_told(environment: dict[str, str], home: Home, ledger: Ledger) -> None:
    home.root.chmod(0o755)
    home.ledger.chmod(0o644)

    rows, _code = examined(environment)

    assert rows["home"][:2] == ("warning", f"others on this machine can read {home.root}, {home.ledger}")
    assert rows["home"][2].startswith(f"chmod -R go-rwx {home.root}")
    home.root.chmod(0o700)
    left = home.root / "results" / ".x.tmp"
    left.parent.mkdir()
    left.touch()
    os.utime(left, (0, 0))
    assert examined(environment)[0]["home"] == (
        "warning",
        "1 temporary file of a process that died",
        "claude-pipeline prune",
    )


def test_files_that_the_ledger_vouches_for_are_looked_for_and_with_deep_read(
    environment: dict[str, str], desk: Desk, simulator: Simulator, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(3)])
    collected_chunks(desk, workload, simulator)
    finalize(desk, workload, PARTITION)
    first = desk.home.absolute(desk.ledger.merged_parts(workload.name)[0].path)
    assert examined(environment)[0]["files"][0] == "ok"

    first.write_bytes(first.read_bytes()[:-1] + b"x")
    assert examined(environment)[0]["files"][0] == "ok"
    deep = [finding for finding in findings(environment, deep=True) if finding.check == "files"]
    assert [(f.verdict, f.fact) for f in deep] == [(Verdict.WRONG, f"{first} is not what was written (sha256 differs)")]

    first.unlink()
    rows, code = examined(environment)
    assert (rows["files"][:2], code) == (("wrong", f"{first} is missing"), 1)


def test_a_workload_that_cannot_be_loaded_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "defs" / "odd"
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text("type: claude_pipeline.ClaudeWorkload\nattributes: {name: odd, modle: x}\n")

    found = findings(environment | {"CLAUDE_PIPELINE_DEFS": str(folder.parent)})
    rows = [finding for finding in found if finding.check == "workloads"]

    assert [row.verdict for row in rows] == [Verdict.WARNING, Verdict.OK]
    assert "unknown field modle (did you mean model?)" in rows[0].fact


def test_every_variable_that_is_read_is_known() -> None:
    package = Path(__file__).parents[2] / "claude_pipeline"
    text = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    read = {f"{PREFIX}{word}" for word in {*_words_after(text, PREFIX)}}

    assert read == VARIABLES


def _words_after(text: str, prefix: str) -> list[str]:
    pieces = text.split(prefix)[1:]
    words = ["".join(c if c.isupper() or c == "_" else " " for c in piece).split(" ")[0] for piece in pieces]
    return [word for word in words if word]


def test_machines_get_the_same_as_json_with_the_exit_code(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    line = CommandLine(capsys, monkeypatch)

    told, plain = line("doctor", "--json"), line("doctor")

    document = json.loads(told.out)
    assert (document["ok"], document["exit_code"], told.code, plain.code) == (False, 3, 3, 3)
    assert [check["check"] for check in document["checks"]][:3] == ["versions", "environment", "home"]
    assert document["checks"][-1]["verdict"] == "wrong"
    assert "wrong    key          ANTHROPIC_API_KEY is not set\n" in plain.out
    assert "-> export it, or start `claude-pipeline simulate`" in plain.out
