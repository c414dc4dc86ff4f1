"""Killed at every named point and started again: all records delivered, nothing billed twice.

Each point is read from the code, so that a new one is tested without a word here. The process that
is killed runs the stages alone, forked from one that has imported them (a new one costs two seconds
of imports); one test does the same through the command line and Dagster, whose last process is a new one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

import claude_pipeline
from claude_pipeline.home import Home
from claude_pipeline.ledger import Ledger
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.factory import attributes, note, token_of, write_dataset
from claude_pipeline_tests.forks import Forks, commanded, driven, log_of, make_forks
from claude_pipeline_tests.integration.realtime_case import TIER, write_catalog

RECORDS = 60
DUPLICATES = 3
POINTS = sorted(
    name
    for file in Path(claude_pipeline.__file__).parent.rglob("*.py")
    for name in re.findall(r'crash_point\("([a-z_.]+)"\)', file.read_text(encoding="utf-8"))
    if not name.startswith("prune.")  # no part of a run: test_prune kills it
    if not name.startswith("cascade.")  # this workload has none: see test_cascade
)
# What leads to a point that the plain way does not pass.
FAULTS: dict[str, dict[str, Any]] = {
    "reconcile.after_doubt": {"kind": "lost_after", "endpoint": "create", "count": 1},
    "reconcile.after_freeze": {"kind": "lost_after", "endpoint": "create", "count": 1},
    "reconcile.after_peek": {"kind": "lost_after", "endpoint": "create", "count": 1},
    "reconcile.after_absent": {"kind": "reset_before", "endpoint": "create", "count": 1},
}
# Points of the real-time lane: what is in flight then may be paid, and is asked again.
REALTIME = ("ask.", "journal.", "close.")
IN_FLIGHT = 2
# Points passed once for each chunk are also tried at a later passing.
LATER = ["submit.after_post:2", "submit.after_intent:3", "collect.before_record:2", "chunk_collected.before_commit:3",
         "journal.after_mark:30", "close.before_record:3"]  # fmt: skip
# Where the ledger alone knows what was sent: killed there on PostgreSQL as well.
LEDGERS_OWN = ("submit.", "reconcile.", "intent_live.", "chunk_collected.")
KILLED: list[Any] = [
    *(pytest.param("sqlite", point, id=point) for point in [*POINTS, *LATER]),
    *(
        pytest.param("postgresql", point, id=f"postgresql-{point}")
        for point in [*POINTS, *LATER]
        if point.startswith(LEDGERS_OWN)
    ),
]
CHAIN = [
    "prepare.after_chunks",
    "submit.after_post",
    "collect.after_download",
    "finalize.before_record",
    "publish.before_switch",
]


@pytest.fixture(scope="module")
def forks() -> Forks:
    return make_forks(
        "claude_pipeline.cli.runner", "claude_pipeline.components.compose"
    )  # of the command line: Dagster


@pytest.fixture(scope="module")
def fast_simulator() -> Iterator[Simulator]:
    """Ten simulated minutes a second: a batch takes a tenth of a real one."""
    with running(Options(speed=600, batch_seconds=(30, 60), seed=3, tier=TIER)) as simulator:
        yield simulator


@pytest.fixture
def file(tmp_path: Path, fast_simulator: Simulator) -> Path:
    """A workload of 60 records in three chunks; three ask what another one asks."""
    fast_simulator.reset()
    return write_file(tmp_path)


def write_file(tmp_path: Path, **changes: Any) -> Path:
    rows = [note(n, f"note {n % (RECORDS - DUPLICATES)}") for n in range(RECORDS)]
    write_dataset(tmp_path / "notes.jsonl", rows)
    file = tmp_path / "notes.yaml"
    fields = attributes(chunk={"requests": 20}, **changes)
    file.write_text(yaml.safe_dump({"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}))
    return file


def environment_of(simulator: Simulator, file: Path, crash_at: str, ledger_url: str | None) -> dict[str, str]:
    """Of an account with high limits: real time would begin slowly, as it does, and there is no clock to move."""
    return {
        "CLAUDE_PIPELINE_TIER": TIER,
        "CLAUDE_PIPELINE_CATALOG": str(write_catalog(file.parent)),
        "CLAUDE_PIPELINE_LEDGER_URL": ledger_url or "",
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": simulator.api_key,
        "CLAUDE_PIPELINE_SETTLE_SECONDS": "0.2",
        "CLAUDE_PIPELINE_CRASH_AT": crash_at,
        "CLAUDE_PIPELINE_REALTIME_IN_FLIGHT": str(IN_FLIGHT),
    }


def words_of(file: Path, home: Path) -> list[str]:
    return ["run", str(file), "--home", str(home), "--poll-seconds", "0.2"]


def start(simulator: Simulator, file: Path, home: Path) -> tuple[int, str]:
    """Exit code and stderr of the command line, in a new process as a person starts it."""
    environment = os.environ | environment_of(simulator, file, "", None)
    command = [sys.executable, "-m", "claude_pipeline.cli", *words_of(file, home)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
    return done.returncode, done.stderr


def fork_command(
    forks: Forks, simulator: Simulator, file: Path, home: Path, *, crash_at: str
) -> tuple[int | None, str]:
    """The same command line in a forked process that is killed."""
    child = forks.Process(
        target=commanded, args=(words_of(file, home), str(home), environment_of(simulator, file, crash_at, None))
    )
    child.start()
    child.join(60)
    return child.exitcode, log_of(home).read_text()


def fork(
    forks: Forks, simulator: Simulator, file: Path, home: Path, *, crash_at: str = "", ledger_url: str | None = None
) -> tuple[int | None, str]:
    """Exit code and stderr of a process that drives the workload to its end."""
    environment = environment_of(simulator, file, crash_at, ledger_url)
    child = forks.Process(target=driven, args=(str(file), str(home), environment))
    child.start()
    child.join(60)
    return child.exitcode, log_of(home).read_text()


def check_delivered(home: Home, simulator: Simulator, *, in_flight: int = 0) -> None:
    """What a user could see: each record once, with its own answer; each question billed once, but for those that
    were `in_flight` in real time when their process was killed: they are shown as lost."""
    with duckdb.connect(str(home.warehouse.resolve()), read_only=True) as duck:
        rows = duck.execute("SELECT record_id, text, outcome, answer FROM notes.results").fetchall()
        cost = duck.execute("SELECT sum(cost_usd) FROM notes.results").fetchall()[0][0]
        states = duck.execute("SELECT DISTINCT state FROM ops.chunks").fetchall()
        lost = duck.execute("SELECT sum(lost) FROM ops.chunks").fetchall()[0][0]
    assert sorted(row[0] for row in rows) == sorted(f"n{n}" for n in range(RECORDS))
    assert all(
        outcome == "succeeded" and answer.startswith(token_of(f"Sort: {text}")) for _, text, outcome, answer in rows
    )
    assert states == [("done",)]
    invoice = simulator.invoice()
    twice = invoice["billed_twice"]
    assert twice <= lost <= in_flight
    assert invoice["billed_requests"] == RECORDS - DUPLICATES + twice
    if not twice:
        assert cost == pytest.approx(float(invoice["total_usd"]), abs=1e-10)


def test_there_are_points_in_every_stage() -> None:
    stages = {name.partition(".")[0] for name in POINTS}
    assert stages >= {"prepare", "submit", "reconcile", "poll", "collect", "finalize", "publish"}
    assert set(FAULTS) | {name.partition(":")[0] for name in LATER} <= set(POINTS)


@pytest.mark.parametrize(("ledger_url", "point"), KILLED, indirect=["ledger_url"])
def test_a_run_killed_at_any_point_is_finished_by_the_next(
    forks: Forks, file: Path, tmp_path: Path, fast_simulator: Simulator, ledger_url: str | None, point: str
) -> None:
    if point in FAULTS:
        fast_simulator.faults.add(**FAULTS[point])
    in_flight = 0
    if point.startswith(REALTIME):
        file, in_flight = write_file(tmp_path, lane="realtime"), IN_FLIGHT
    home = Home(tmp_path / "home")
    code, stderr = fork(forks, fast_simulator, file, home.root, crash_at=point, ledger_url=ledger_url)
    assert code == -signal.SIGKILL, stderr
    code, stderr = fork(forks, fast_simulator, file, home.root, ledger_url=ledger_url)
    assert code == 0, stderr
    check_delivered(home, fast_simulator, in_flight=in_flight)


def test_one_run_killed_again_and_again_is_finished_by_the_command_line(
    forks: Forks, file: Path, tmp_path: Path, fast_simulator: Simulator
) -> None:
    home = Home(tmp_path / "home")
    for point in CHAIN:
        code, stderr = fork_command(forks, fast_simulator, file, home.root, crash_at=point)
        assert code == -signal.SIGKILL, (point, stderr)
    code, stderr = start(fast_simulator, file, home.root)
    assert code == 0, stderr
    check_delivered(home, fast_simulator)
    with Ledger.open(None, path=home.ledger) as ledger:
        assert ledger.unsettled_intents() == []
        assert len(ledger.snapshots("notes")) == 1
