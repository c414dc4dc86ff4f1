"""An append-only table as a person meets it on the command line: `plan`, `run` through Dagster, `report`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import open_desk
from claude_pipeline.workload_file import read_workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.factory import note, write_dataset
from claude_pipeline_tests.integration.command_case import CommandLine, workload_file

YESTERDAY = "2026-01-01"  # some partition before the running one
TABLE: list[dict[str, Any]] = [{**note(n), "at": f"2025-11-01 10:{n:02d}"} for n in range(25)]


@pytest.fixture
def file(quick: Simulator, tmp_path: Path) -> Path:
    """A workload whose first 20 records were answered yesterday."""
    file = workload_file(tmp_path, dataset={"path": "notes.jsonl", "id": "id", "watermark": "at"})
    write_dataset(tmp_path / "notes.jsonl", TABLE[:20])
    with open_desk() as desk:
        drive.run(desk, read_workload(file), lambda: time.sleep(0.05), partition=YESTERDAY)
    assert quick.invoice()["billed_requests"] == 20
    return file


def test_a_plan_and_a_run_are_about_the_new_records(
    file: Path, quick: Simulator, line: CommandLine, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "notes.jsonl", TABLE)
    assert "5 in 1 chunk" in line("plan", str(file), "--offline").out
    assert json.loads(line("plan", str(file), "--json", "--offline").out)["records"] == 5
    said = line("run", str(file), "--poll-seconds", "0.1", "--quiet")
    assert (said.code, quick.invoice()["billed_requests"]) == (0, 25)
    assert json.loads(line("plan", str(file), "--json", "--offline").out)["records"] == 5  # of the same partition


def test_a_day_without_anything_new_runs_to_its_end(file: Path, quick: Simulator, line: CommandLine) -> None:
    assert json.loads(line("plan", str(file), "--json", "--offline").out)["records"] == 0
    said = line("run", str(file), "--poll-seconds", "0.1", "--quiet")
    assert (said.code, quick.invoice()["billed_requests"]) == (0, 20), said.err
    assert line("status").code == 0
    report = line("report", str(file))
    assert report.code == 0, report.err


def test_a_report_does_not_take_old_records_for_lost_ones(
    file: Path, quick: Simulator, line: CommandLine, tmp_path: Path
) -> None:
    with open_desk() as desk:  # a night without anything new between them: nothing to compare with
        drive.run(desk, read_workload(file), lambda: time.sleep(0.05), partition="2026-01-02")
    write_dataset(tmp_path / "notes.jsonl", TABLE)
    line("run", str(file), "--poll-seconds", "0.1", "--quiet")
    page = Path(line("report", str(file)).out.partition(": ")[2].splitlines()[0]).read_text(encoding="utf-8")
    assert f"Against snapshot {YESTERDAY}.1" in page
    assert "It holds only what is newer than snapshot 2026-01-02.1" in page
    assert "only there" not in page


def test_a_watermark_that_does_not_grow_is_refused_in_one_sentence(
    file: Path, quick: Simulator, line: CommandLine, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "notes.jsonl", [*TABLE, {**note(25), "at": "1.11.2025 11:00"}])
    said = line("plan", str(file), "--offline")
    assert said.code == 2
    assert "watermark: column 'at' holds text that does not grow" in said.last
    assert "line 26" in said.last
