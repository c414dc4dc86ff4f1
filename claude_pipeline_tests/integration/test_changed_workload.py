"""A changed workload asks again only what it must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.submit import plan_submission, send
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS
from claude_pipeline_tests.factory import asked, note, workload_over

ROWS = [note(n) for n in range(20)]
CUT_SHARE = 0.5


@pytest.fixture
def cut(simulator: Simulator) -> Simulator:
    """About half of the questions get an answer that max_tokens cut, until the faults are cleared."""
    simulator.faults.add(kind="line_answer", form="max_tokens", share=CUT_SHARE)
    return simulator


def finish(
    desk: Desk, folder: Path, simulator: Simulator, *, partition: str = drive.PARTITION, **changes: Any
) -> Workload:
    workload = workload_over(folder, ROWS, **changes)
    drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS), partition=partition)
    return workload


def count(desk: Desk, what: str) -> int:
    ((found,),) = asked(desk, f"SELECT count(*) FROM notes.results WHERE {what}")
    return int(found)


@pytest.mark.parametrize("partition", [drive.PARTITION, "2026-11-23"], ids=["same-snapshot", "next-snapshot"])
def test_a_higher_max_tokens_asks_only_what_was_cut(partition: str, desk: Desk, tmp_path: Path, cut: Simulator) -> None:
    finish(desk, tmp_path, cut, max_tokens=64)
    short = count(desk, "stop_reason = 'max_tokens'")
    assert 0 < short < 20
    cut.faults.clear()

    finish(desk, tmp_path, cut, max_tokens=128, partition=partition)

    assert cut.invoice()["billed_requests"] == 20 + short
    assert count(desk, f"snapshot = '{partition}.1' AND stop_reason = 'max_tokens'") == 0
    assert count(desk, f"snapshot = '{partition}.1' AND outcome = 'succeeded'") == 20


@pytest.mark.parametrize("max_tokens", [64, 32], ids=["equal", "lower"])
def test_no_higher_max_tokens_asks_nothing(max_tokens: int, desk: Desk, tmp_path: Path, cut: Simulator) -> None:
    finish(desk, tmp_path, cut, max_tokens=64)
    finish(desk, tmp_path, cut, max_tokens=max_tokens)
    assert cut.invoice()["billed_requests"] == 20
    assert count(desk, "outcome = 'succeeded'") == 20


def test_what_is_on_its_way_is_not_asked_again_by_a_new_plan(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    workload = workload_over(tmp_path, ROWS, max_tokens=64)
    prepare(desk, workload, drive.PARTITION)
    send(desk, workload, plan_submission(desk, workload).chunks)

    finish(desk, tmp_path, simulator, max_tokens=128)

    assert desk.ledger.snapshots(workload.name)[-1].plan_number == 2
    assert simulator.invoice()["billed_requests"] == 20
    assert count(desk, "outcome = 'succeeded'") == 20


def test_a_cut_answer_stays_when_the_longer_one_fails(desk: Desk, tmp_path: Path, cut: Simulator) -> None:
    finish(desk, tmp_path, cut, max_tokens=64)
    short = count(desk, "stop_reason = 'max_tokens'")
    cut.faults.clear()
    cut.faults.add(kind="line_error", error_type="invalid_request_error", share=1.0)
    finish(desk, tmp_path, cut, max_tokens=128)
    assert count(desk, "stop_reason = 'max_tokens'") == short
    assert count(desk, "outcome = 'succeeded'") == 20


def test_what_a_record_cost_under_an_earlier_plan_stays_its_cost(desk: Desk, tmp_path: Path, cut: Simulator) -> None:
    finish(desk, tmp_path, cut, max_tokens=64)
    cut.faults.clear()
    finish(desk, tmp_path, cut, max_tokens=128)
    assert count(desk, "answer_source = 'batch' AND cost_usd > 0") == 20


def test_a_changed_prompt_asks_only_the_records_that_it_changes(
    desk: Desk, tmp_path: Path, simulator: Simulator
) -> None:
    finish(desk, tmp_path, simulator)
    finish(desk, tmp_path, simulator, prompt="Sort: {{ text }}{{ '!' if text.endswith('7') }}")
    assert simulator.invoice()["billed_requests"] == 22  # notes 7 and 17
    assert count(desk, "answer_source = 'batch'") == 20


def test_each_record_of_a_plan_is_counted_once(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    finish(desk, tmp_path, simulator)
    finish(desk, tmp_path, simulator, partition="2026-11-23", prompt="Sort: {{ text }}{{ '!' if text.endswith('7') }}")
    counts = [(s.asked, s.reused, s.duplicates, s.records) for s in desk.ledger.snapshots("notes")]
    assert counts == [(20, 0, 0, 20), (2, 18, 0, 20)]
