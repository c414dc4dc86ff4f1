"""`lane: auto`: which lane waiting chunks go through and why, and the rescue of batches that would miss their deadline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.controller import Kind, decide, survey
from claude_pipeline.ledger import ChunkState
from claude_pipeline.simulator import Simulator, running
from claude_pipeline.stage.collect import look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.lane_choice import LaneChooser, rescue
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.submit import walls
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import PARTITION, note, sent_chunks, states, workload_over
from claude_pipeline_tests.integration.realtime_case import (
    ask_now,
    bill,
    check_cost,
    check_delivered,
    chunks_of,
    fast,
    fast_options,
    to_rest,
)

ROWS = [note(number) for number in range(20)]
HOUR = 3600.0


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    with running(fast_options(batch_seconds=(30 * HOUR, 30 * HOUR))) as simulator:
        yield simulator


@pytest.fixture
def desk(desk: Desk, tmp_path: Path) -> Desk:
    """Its limits are high; how many requests may wait in batches is not published."""
    return fast(desk, tmp_path)


def lane_now(desk: Desk, workload: Workload) -> tuple[str, str]:
    """The lane of the first chunk that waits, and the reason."""
    chooser = LaneChooser(desk, workload, walls(desk, workload))
    choice = chooser.of(next(c for c in chunks_of(desk) if c.state in (ChunkState.READY, ChunkState.HELD)))
    return choice.lane, choice.why


def on(desk: Desk, tier: str) -> Desk:
    return replace(desk, settings=replace(desk.settings, tier=tier))


# Which lane.


def test_a_chunk_that_another_process_sent_meanwhile_has_a_lane_still(desk: Desk, tmp_path: Path) -> None:
    workload = workload_over(tmp_path, ROWS)
    prepare(desk, workload, PARTITION)
    read_before = chunks_of(desk)
    sent_chunks(desk, workload)

    chooser = LaneChooser(desk, workload, walls(desk, workload))

    assert [chooser.of(chunk).lane for chunk in read_before] == ["batch", "batch"]


CHOICES = [
    pytest.param({"lane": "batch", "deadline_hours": 0.1}, 0, "batch", "lane: batch asks for it", id="batch"),
    pytest.param({"lane": "realtime"}, 0, "realtime", "lane: realtime asks for it", id="realtime"),
    pytest.param({}, 0, "batch", "half the price, and in time: about 1 h, 24 h left", id="time-enough"),
    pytest.param(
        {"deadline_hours": 0.5}, 0, "realtime", "a batch (1 h) misses the deadline (30 min left)", id="near-its-deadline"
    ),
    pytest.param({}, 23.5, "realtime", "a batch (1 h) misses the deadline (30 min left)", id="held-till-near-its-deadline"),
    pytest.param({}, 25, "batch", "its deadline has passed before it could be sent", id="deadline-passed"),
    pytest.param(
        {"deadline_hours": 0.5, "budget_usd": 0.0005}, 0, "batch",
        "a batch (1 h) misses the deadline (30 min left), but real time would pass budget_usd", id="budget",
    ),
    pytest.param(
        {"deadline_hours": 0.5, "max_tokens": 30_000}, 0, "batch", "its max_tokens is too much for one answer", id="long"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "hours", "lane", "sentence"), CHOICES)
def test_the_lane_of_what_waits_follows_from_deadline_and_budget(
    desk: Desk, tmp_path: Path, clock: MovableClock, fields: dict[str, Any], hours: float, lane: str, sentence: str
) -> None:
    workload = workload_over(tmp_path, ROWS, **({"lane": "auto"} | fields))
    prepare(desk, workload, PARTITION)
    clock.advance(hours * HOUR)

    chosen, why = lane_now(desk, workload)

    assert (chosen, sentence in why) == (lane, True), why
    situation = survey(desk, workload)
    expected = Kind.ASK if lane == "realtime" else Kind.SUBMIT
    if situation.wall is None:
        assert [action.kind for action in decide(situation)] == [expected]


def test_at_a_small_tier_real_time_is_no_way_out_for_much(desk: Desk, tmp_path: Path) -> None:
    workload = workload_over(
        tmp_path, [note(n) for n in range(4_000)], lane="auto", deadline_hours=0.5, chunk={"requests": 4_000}
    )
    prepare(desk, workload, PARTITION)
    assert lane_now(on(desk, "start"), workload)[0] == "realtime"
    lane, why = lane_now(on(desk, "tier1"), workload)
    assert lane == "batch"
    assert (
        "no lane meets the deadline (30 min left), and real time is no faster: 1 h 20 min (50 requests per minute)"
        in why
    )
    assert lane_now(on(desk, "evaluation"), workload)[0] == "batch"


def test_limits_that_are_not_published_do_not_double_the_price(desk: Desk, tmp_path: Path) -> None:
    # A contract's rates in the user's catalogue, and no figure for its queue: all went in real time, with 24 h left.
    workload = workload_over(tmp_path, ROWS, lane="auto")
    prepare(desk, workload, PARTITION)
    assert desk.catalog.tier(desk.settings.tier).batch.queued_requests is None
    assert lane_now(desk, workload)[0] == "batch"


def test_a_pilot_is_asked_in_real_time(desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock) -> None:
    workload = workload_over(tmp_path, ROWS, lane="auto")
    prepare(desk, workload, PARTITION, pilot=8)
    to_rest(desk, workload, simulator, clock)
    assert bill(simulator) == (8, 0)
    assert simulator.invoice()["batches"] == 0
    assert {(c.lane, c.state) for c in chunks_of(desk)} == {("realtime", ChunkState.DONE)}


def test_the_full_run_after_a_pilot_has_all_the_time_there_is(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    workload = workload_over(tmp_path, ROWS, lane="auto")
    prepare(desk, workload, PARTITION, pilot=8)
    to_rest(desk, workload, simulator, clock)
    prepare(desk, workload, PARTITION)
    assert lane_now(desk, workload)[0] == "batch"


# Rescue.


def late_batches(desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, hours: float) -> None:
    """Batches that are at the API for so long, and have not ended."""
    sent_chunks(desk, workload)
    simulator.clock.advance(hours * HOUR)
    clock.advance(hours * HOUR)
    look(desk)


@pytest.mark.parametrize(
    ("deadline", "hours"), [pytest.param(2, 1.8, id="deadline"), pytest.param(24, 23.8, id="expiry")]
)
def test_what_a_batch_has_not_answered_near_the_deadline_is_asked_in_real_time_and_paid_once(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock, deadline: float, hours: float
) -> None:
    workload = workload_over(tmp_path, ROWS, lane="auto", deadline_hours=deadline)
    late_batches(desk, workload, simulator, clock, hours)

    given_up = rescue(desk, workload, walls(desk, workload))

    assert [chunk.key for chunk, _ in given_up] == ["r1-0001", "r1-0002"]
    assert "it has not ended, and its answers are wanted by" in given_up[0][1]
    assert decide(survey(desk, workload)) == []  # nothing is asked while a batch may still answer and bill
    look(desk)
    assert states(desk, workload) == ["live", "live"]
    assert simulator.state()["canceling"] == 2
    to_rest(desk, workload, simulator, clock)
    batches = simulator.invoice()["by_batch"]
    canceled, succeeded = (sum(batch[name] for batch in batches) for name in ("canceled", "succeeded"))
    assert canceled > 0
    assert bill(simulator) == (len(ROWS), 0)
    assert succeeded == len(ROWS) - canceled
    in_time = [(c.round, c.lane) for c in chunks_of(desk)]
    assert set(in_time) == {(1, "batch"), (2, "realtime")}
    check_delivered(desk, len(ROWS))
    check_cost(desk, simulator)


def test_what_is_rescued_is_not_sent_as_a_batch_again(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    # Where batches usually end in minutes, the rest of a late one was sent as another, given up in its turn, and so on.
    simulator.faults.add(kind="take", seconds=60)
    for number in range(3):
        rows = [note(number)]
        prepare(desk, workload_over(tmp_path, rows, lane="batch"), f"2026-11-1{number}")
        to_rest(desk, workload_over(tmp_path, rows, lane="batch"), simulator, clock)
    simulator.faults.clear()
    workload = workload_over(tmp_path, [note(n) for n in range(100, 120)], lane="auto", deadline_hours=2, reuse=False)
    late_batches(desk, workload, simulator, clock, 1.8)

    assert len(rescue(desk, workload, walls(desk, workload))) == 2
    to_rest(desk, workload, simulator, clock)

    assert {(c.round, c.lane) for c in chunks_of(desk) if c.snapshot == f"{PARTITION}.1"} == {
        (1, "batch"),
        (2, "realtime"),
    }


def test_a_rescue_is_not_begun_twice(desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock) -> None:
    workload = workload_over(tmp_path, ROWS, lane="auto", deadline_hours=2)
    late_batches(desk, workload, simulator, clock, 1.8)
    assert len(rescue(desk, workload, walls(desk, workload))) == 2
    assert rescue(desk, workload, walls(desk, workload)) == []


def test_a_batch_is_given_the_time_that_it_usually_takes(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    # Where real time would take as long as the deadline allows, every batch was given up as soon as it was sent.
    rows = [note(n) for n in range(2_000)]
    workload = workload_over(tmp_path, rows, lane="auto", deadline_hours=2, chunk={"requests": 2_000})
    slow = on(desk, "tier1")
    late_batches(slow, workload, simulator, clock, 0.9)
    assert rescue(slow, workload, walls(slow, workload)) == []
    clock.advance(0.2 * HOUR)
    assert len(rescue(slow, workload, walls(slow, workload))) == 1


LEFT_ALONE = [
    pytest.param({"lane": "batch", "deadline_hours": 2}, 1.8, id="lane-batch"),
    pytest.param({"lane": "auto", "deadline_hours": 4}, 1.8, id="time-enough"),
    pytest.param({"lane": "auto", "deadline_hours": 2, "budget_usd": "exact"}, 1.8, id="no-budget-for-real-time"),
]


@pytest.mark.parametrize(("fields", "hours"), LEFT_ALONE)
def test_a_batch_is_left_alone(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock, fields: dict[str, Any], hours: float
) -> None:
    workload = workload_over(tmp_path, ROWS, **{k: v for k, v in fields.items() if v != "exact"})
    if fields.get("budget_usd") == "exact":
        reserved = sum(chunk.reserve_units for chunk in prepare(desk, workload, PARTITION).chunks)
        workload = workload.model_copy(update={"budget_usd": 1.1 * reserved / UNITS_PER_USD})
    late_batches(desk, workload, simulator, clock, hours)
    assert rescue(desk, workload, walls(desk, workload)) == []
    look(desk)
    assert simulator.state()["canceling"] == 0


def test_nothing_of_a_canceled_snapshot_is_rescued(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    from claude_pipeline.stage.cancel import cancel

    workload = workload_over(tmp_path, ROWS, lane="auto", deadline_hours=2)
    sent_chunks(desk, workload)
    simulator.faults.add(kind=500, endpoint="cancel")
    cancel(desk, workload, f"{PARTITION}.1")
    clock.advance(1.8 * HOUR)
    assert rescue(desk, workload, walls(desk, workload)) == []


def test_a_batch_that_ends_before_it_is_canceled_is_collected_as_it_is(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="take", seconds=1.82 * HOUR)
    workload = workload_over(tmp_path, ROWS, lane="auto", deadline_hours=2)
    late_batches(desk, workload, simulator, clock, 1.8)
    assert len(rescue(desk, workload, walls(desk, workload))) == 2
    simulator.clock.advance(0.1 * HOUR)
    to_rest(desk, workload, simulator, clock)
    assert {(c.round, c.lane) for c in chunks_of(desk)} == {(1, "batch")}
    assert bill(simulator) == (len(ROWS), 0)


def test_a_batch_whose_cancel_is_lost_is_canceled_at_the_next_look(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="lost_after", endpoint="cancel", count=2)
    simulator.faults.add(kind="reset_before", endpoint="cancel", after=2, count=1)
    workload = workload_over(tmp_path, ROWS, lane="auto", deadline_hours=2)
    late_batches(desk, workload, simulator, clock, 1.8)
    rescue(desk, workload, walls(desk, workload))
    ask_now(desk, workload)
    assert bill(simulator) == (0, 0)
    to_rest(desk, workload, simulator, clock)
    assert bill(simulator) == (len(ROWS), 0)
    check_delivered(desk, len(ROWS))
