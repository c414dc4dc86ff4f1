"""`cache: auto`: one request goes first and fills the prompt cache, the others follow once it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from claude_pipeline.controller import Kind, decide, describe, survey
from claude_pipeline.lane.primer import PATIENCE
from claude_pipeline.ledger import ChunkState
from claude_pipeline.report import summarize
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.factory import asked, note, prepared_snapshot, send_ready, states, workload_over

MANUAL = "Rules of the house. " * 300  # 1,500 tokens
RECORDS = 60


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Sixty records: a primer and chunks of 30 and 29."""
    return primed(tmp_path)


def primed(folder: Path, records: int = RECORDS, **changes: Any) -> Workload:
    fields = {"cache": "auto", "system": MANUAL, "chunk": {"requests": 30}, "max_rounds": 1}
    return workload_over(folder, [note(n) for n in range(records)], **(fields | changes))


def to_rest(desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock) -> None:
    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(BATCH_SECONDS)

    assert drive.run(desk, workload, wait).at_rest


def primer_ended(desk: Desk, simulator: Simulator) -> None:
    simulator.clock.advance(BATCH_SECONDS)
    look(desk)


def test_the_others_wait_until_the_primer_has_ended(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    prepared = prepared_snapshot(desk, workload)
    assert "one request goes first" in prepared.cache
    assert [chunk.requests for chunk in prepared.chunks] == [1, 30, 29]
    assert [chunk.waits_for for chunk in prepared.chunks] == [None, "r1-0001", "r1-0001"]
    done = send_ready(desk, workload)
    assert [chunk.key for chunk, _ in done.sent] == ["r1-0001"]
    assert "the one request that fills the prompt cache first" in str(done.waiting)
    situation = survey(desk, workload)
    assert (situation.sendable, situation.waiting_for_primer, situation.wall) == (0, 2, None)
    assert Kind.SUBMIT not in {action.kind for action in decide(situation)}
    assert "2 chunks wait for the one request that fills the prompt cache first" in describe(situation, clock())

    primer_ended(desk, simulator)

    assert survey(desk, workload).sendable == 2
    assert len(send_ready(desk, workload).sent) == 2


def test_most_of_the_input_is_read_from_the_cache_and_the_summary_shows_the_rate(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    to_rest(desk, workload, simulator, clock)
    rows = asked(
        desk, "SELECT count(*), sum(input_tokens), sum(cache_write_tokens), sum(cache_read_tokens) FROM notes.results"
    )
    count, fresh, written, read = rows[0]
    summary = summarize(desk, workload, desk.ledger.snapshots("notes")[0])
    assert count == RECORDS
    assert summary.cache_hit_rate == pytest.approx(read / (fresh + written + read))
    assert (summary.cache_hit_rate or 0) > 0.6
    assert dict(summary.rows())["prompt cache"].startswith(f"{summary.cache_hit_rate:.0%} of input read from it")
    assert summary.numbers()["cache_hit_rate"] == summary.cache_hit_rate


def test_it_costs_less_than_without(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    to_rest(desk, workload, simulator, clock)
    with_cache = float(simulator.invoice()["total_usd"])
    to_rest(desk, primed(tmp_path, cache="off", reuse=False, name="plain"), simulator, clock)
    # About half. Which requests miss is drawn by custom_id: were one in three to miss, not one in ten, it would be 0.8.
    assert with_cache < 0.8 * (float(simulator.invoice()["total_usd"]) - with_cache)


def test_the_mark_is_no_other_question(desk: Desk, workload: Workload, tmp_path: Path) -> None:
    first = prepared_snapshot(desk, workload)
    again = prepared_snapshot(desk, primed(tmp_path, cache="off"))
    assert again.new_requests == 0
    assert first.chunks == again.chunks


def test_a_long_head_of_the_prompt_is_cached_as_well(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    to_rest(desk, primed(tmp_path, system=None, prompt=MANUAL + "Sort: {{ text }}"), simulator, clock)
    read = asked(desk, "SELECT count(*) FROM notes.results WHERE cache_read_tokens > 1400 AND outcome = 'succeeded'")
    assert read[0][0] > 40


FEW: list[Any] = [
    pytest.param(19, MANUAL, "19 requests are too few", id="few-requests"),
    pytest.param(60, "Sort.", "caches from 512 on", id="short-prefix"),
]


@pytest.mark.parametrize(("records", "system", "why"), FEW)
def test_where_it_cannot_pay_nothing_is_marked_and_nothing_waits(
    desk: Desk, tmp_path: Path, records: int, system: str, why: str
) -> None:
    prepared = prepared_snapshot(desk, primed(tmp_path, records, system=system))
    assert why in prepared.cache
    assert {chunk.waits_for for chunk in prepared.chunks} == {None}
    assert b"cache_control" not in desk.path(prepared.chunks[0].params_path).read_bytes()


ENDS: list[Any] = [
    pytest.param({"kind": "expire", "count": 1}, 24 * 3600 + 1, id="expired"),
    pytest.param(
        {"kind": "line_error", "count": 1, "error_type": "invalid_request_error"}, BATCH_SECONDS, id="errored"
    ),
]


@pytest.mark.parametrize(("fault", "seconds"), ENDS)
def test_the_others_go_however_the_primer_ended(
    desk: Desk, workload: Workload, simulator: Simulator, fault: dict[str, Any], seconds: float
) -> None:
    simulator.faults.add(**fault)
    prepared_snapshot(desk, workload)
    send_ready(desk, workload)
    simulator.clock.advance(seconds)
    look(desk)
    assert len(send_ready(desk, workload).sent) == 2


def test_the_others_go_where_the_primer_was_refused(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind="400", endpoint="create", count=1)
    prepared_snapshot(desk, workload)
    done = send_ready(desk, workload)
    assert len(done.failed) == 1
    assert (len(done.sent), states(desk, workload)) == (2, ["failed", "live", "live"])


def test_a_primer_that_takes_too_long_is_waited_for_no_more(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="take", seconds=10 * 3600, count=1)
    prepared_snapshot(desk, workload)
    send_ready(desk, workload)
    clock.advance(PATIENCE.total_seconds() - 1)
    assert send_ready(desk, workload).sent == []
    clock.advance(1)
    assert len(send_ready(desk, workload).sent) == 2


def test_a_primer_before_the_budgets_wall_is_what_the_wall_is_said_of(
    desk: Desk, tmp_path: Path, clock: MovableClock
) -> None:
    workload = primed(tmp_path, budget_usd=1e-9)
    prepared_snapshot(desk, workload)
    send_ready(desk, workload)
    situation = survey(desk, workload)
    assert "would pass budget_usd" in str(situation.wall)
    assert decide(situation) == []


def test_the_reserve_counts_that_each_request_may_write_the_cache(desk: Desk, tmp_path: Path) -> None:
    plain = prepared_snapshot(desk, primed(tmp_path, cache="off", name="plain")).chunks
    cached = prepared_snapshot(desk, primed(tmp_path)).chunks
    assert sum(c.reserve_units for c in cached) > 1.8 * sum(c.reserve_units for c in plain)


def test_each_request_of_the_snapshot_carries_the_mark(desk: Desk, workload: Workload) -> None:
    chunks = prepared_snapshot(desk, workload).chunks
    lines = [line for chunk in chunks for line in desk.path(chunk.params_path).read_bytes().splitlines()]
    assert len(lines) == RECORDS
    assert all("cache_control" in orjson.loads(line)["system"][0] for line in lines)
    assert {chunk.state for chunk in chunks} == {ChunkState.READY}
