"""`claude-pipeline run` of a workload in real time: what its screen says, and its exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.simulator import Simulator, running
from claude_pipeline_tests.integration.command_case import CommandLine, workload_file
from claude_pipeline_tests.integration.realtime_case import TIER, fast_options, write_catalog

RECORDS = 20


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    with running(fast_options(paused=False, start=None)) as simulator:
        yield simulator


@pytest.fixture
def line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, simulator: Simulator, tmp_path: Path
) -> CommandLine:
    environment = {
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": simulator.api_key,
        "CLAUDE_PIPELINE_HOME": str(tmp_path / "home"),
        "CLAUDE_PIPELINE_TIER": TIER,
        "CLAUDE_PIPELINE_CATALOG": str(write_catalog(tmp_path)),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return CommandLine(capsys, monkeypatch)


def file_in(folder: Path, **changes: Any) -> str:
    data = folder / "notes.jsonl"
    return str(
        workload_file(folder, records=RECORDS, lane="realtime", dataset={"path": str(data), "id": "id"}, **changes)
    )


def test_the_screen_says_what_is_asked_and_what_it_cost(
    line: CommandLine, simulator: Simulator, tmp_path: Path
) -> None:
    said = line("run", file_in(tmp_path))
    assert said.code == 0, said.err
    assert "20 requests answered or settled in real time; 0 chunks wait to be asked" in said.err
    assert "merged; warehouse v1 published" in said.err
    assert "20 requests" in said.out + said.err
    assert simulator.invoice()["billed_requests"] == RECORDS
    assert "saved" not in said.out + said.err  # nothing is: it is the real-time price


ENDS = [
    pytest.param({"budget_usd": 0.0001}, {}, 3, "would pass budget_usd", id="budget"),
    pytest.param({}, {"kind": 402}, 3, "answered 402", id="account"),
    pytest.param({}, {"kind": 401}, 3, "ANTHROPIC_API_KEY", id="key"),
]


@pytest.mark.parametrize(("fields", "fault", "code", "sentence"), ENDS)
def test_what_only_a_person_can_mend_ends_it(
    line: CommandLine, simulator: Simulator, tmp_path: Path, fields: dict[str, Any], fault: dict[str, Any], code: int,
    sentence: str,
) -> None:  # fmt: skip
    if fault:
        simulator.faults.add(endpoint="messages", **fault)
    said = line("run", file_in(tmp_path, **fields))
    assert said.code == code, said.err
    assert sentence in said.err
    assert "Traceback" not in said.err
    if not fault:
        return
    simulator.faults.clear()
    again = line("run", file_in(tmp_path))  # a person is here: it is tried at once
    assert again.code == 0, again.err
    assert simulator.invoice()["billed_requests"] == RECORDS
