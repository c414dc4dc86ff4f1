"""The budget's walls: per snapshot, per UTC day, per ledger; held, said in one sentence, and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from claude_pipeline.catalog import UNITS_PER_USD, load
from claude_pipeline.components.assets import _within_budget
from claude_pipeline.controller import Kind, Situation, decide, describe, held_sentence, survey
from claude_pipeline.ledger import ChunkRow, ChunkState
from claude_pipeline.request import params_of
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.reserve import reserve
from claude_pipeline.stage.submit import give_up_batch, walls
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.factory import note, prepared_snapshot, send_ready, states, workload_over

Run = Callable[[Workload], Situation]
TOMORROW = "2026-11-23"


@pytest.fixture
def run(desk: Desk, simulator: Simulator, clock: MovableClock) -> Run:
    """Carry on until at rest or before a wall; both clocks move where nothing else is to be done."""

    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(BATCH_SECONDS)

    return lambda workload: drive.carry_on(desk, workload, wait)


def thirty(folder: Path, **changes: Any) -> Workload:
    """Thirty records in three chunks of one worst case."""
    return workload_over(folder, [note(n) for n in range(10, 40)], **changes)


def reserve_usd(desk: Desk, workload: Workload, chunks: float = 1) -> float:
    """The worst case of so many of its chunks."""
    return chunks * prepared_snapshot(desk, workload).chunks[0].reserve_units / UNITS_PER_USD


def walled(workload: Workload, **budget: float) -> Workload:
    return workload.model_copy(update=budget)


def billed_usd(simulator: Simulator) -> float:
    return float(simulator.invoice()["total_usd"])


# The day.


def test_the_wall_of_a_day_holds_over_its_snapshots_and_gives_way_when_the_day_is_over(
    desk: Desk, tmp_path: Path, clock: MovableClock, simulator: Simulator, run: Run
) -> None:
    workload = thirty(tmp_path)
    workload = walled(workload, budget_usd_per_day=reserve_usd(desk, workload, 1.01))
    before = run(workload)  # each in turn, as the one before turns out cheaper, until none fits
    assert before.held >= 1
    assert "would pass budget_usd_per_day" in str(before.wall)
    assert "it goes on after 2026-11-23 00:05 UTC" in str(before.wall)
    first_day = billed_usd(simulator)

    to_the_next_day(clock, simulator)

    assert survey(desk, workload).held_that_fit == 1
    assert Kind.SUBMIT in {action.kind for action in decide(survey(desk, workload))}
    run(workload)
    assert billed_usd(simulator) > first_day
    assert billed_usd(simulator) - first_day <= workload.budget_usd_per_day  # type: ignore[operator]


def to_the_next_day(clock: MovableClock, simulator: Simulator) -> None:
    midnight = (clock.at + timedelta(days=1)).replace(hour=0, minute=5)
    simulator.clock.advance((midnight - clock.at).total_seconds())
    clock.at = midnight


def test_what_is_in_flight_over_midnight_counts_for_the_new_day_as_well(
    desk: Desk, tmp_path: Path, clock: MovableClock
) -> None:
    workload = thirty(tmp_path)
    workload = walled(workload, budget_usd_per_day=reserve_usd(desk, workload, 1.5))
    assert len(send_ready(desk, workload).sent) == 1
    clock.at = (clock.at + timedelta(days=1)).replace(hour=0, minute=5)
    assert survey(desk, workload).held_that_fit == 0


def test_the_day_counts_other_snapshots_of_the_workload_and_no_other_workload(desk: Desk, tmp_path: Path) -> None:
    workload = thirty(tmp_path)
    day = reserve_usd(desk, workload, 3.5)
    workload = walled(workload, budget_usd_per_day=day)
    assert len(send_ready(desk, workload).sent) == 3
    more = walled(workload_over(tmp_path, [note(n) for n in range(50, 60)]), budget_usd_per_day=day)
    prepared_snapshot(desk, more, TOMORROW)
    assert "budget_usd_per_day" in send_ready(desk, more).held[0][1]
    other = walled(thirty(tmp_path, name="other"), budget_usd_per_day=day)
    prepared_snapshot(desk, other)
    assert len(send_ready(desk, other).sent) == 3


# Raise it and go on.


@pytest.mark.parametrize("wall", ["budget_usd", "budget_usd_per_day"])
def test_a_raised_wall_lets_held_chunks_go_without_a_person(
    desk: Desk, tmp_path: Path, run: Run, simulator: Simulator, wall: str
) -> None:
    workload = thirty(tmp_path)
    tight = walled(workload, **{wall: reserve_usd(desk, workload, 0.5)})
    end = run(tight)
    assert (end.held, end.in_flight, simulator.invoice()["batches"]) == (3, 0, 0)
    assert decide(end) == []
    raised = walled(workload, **{wall: 1.0})
    assert survey(desk, raised).held_that_fit >= 1
    assert run(raised).at_rest
    assert simulator.invoice()["billed_requests"] == 30


def test_a_held_chunk_of_one_snapshot_does_not_hide_that_another_ones_fits(
    desk: Desk, tmp_path: Path, simulator: Simulator, run: Run
) -> None:
    """The first snapshot has spent its own budget; the next one's was never touched."""
    workload = thirty(tmp_path)
    tight = walled(workload, budget_usd=reserve_usd(desk, workload, 0.5))
    run(tight)
    small = workload_over(tmp_path, [note(1)], budget_usd=tight.budget_usd)
    prepared_snapshot(desk, small, TOMORROW)
    later = desk.ledger.chunks("notes", snapshot=f"{TOMORROW}.1")[0]
    desk.ledger.reserve_raised(later, 10**12, at=desk.clock())
    assert send_ready(desk, small).held != []
    desk.ledger.reserve_raised(later, later.reserve_units, at=desk.clock())
    assert survey(desk, small).held_that_fit == 1
    assert [chunk.snapshot for chunk, _ in send_ready(desk, small).sent] == [f"{TOMORROW}.1"]


# The wall of the ledger.


def test_two_workloads_share_the_wall_of_the_ledger(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    one, two = (thirty(tmp_path / name, name=name) for name in ("one", "two"))
    limit = reserve_usd(desk, one, 1.7)
    prepared_snapshot(desk, two)
    shared = replace(desk, settings=replace(desk.settings, budget_usd=limit))
    for turn in range(8):
        for workload in (one, two) if turn % 2 else (two, one):
            send_ready(shared, workload)
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(BATCH_SECONDS)
        look(shared)
        for workload in (one, two):
            collect(shared, workload)
        assert billed_usd(simulator) <= limit
    assert "CLAUDE_PIPELINE_BUDGET_USD" in str(survey(shared, one).wall or survey(shared, two).wall)
    assert "done" in states(desk, one)
    assert "done" in states(desk, two)


# One sentence.


def test_the_check_the_skip_reason_and_the_terminal_say_the_same(desk: Desk, tmp_path: Path, run: Run) -> None:
    workload = thirty(tmp_path)
    tight = walled(workload, budget_usd=reserve_usd(desk, workload, 0.5))
    chunks = desk.ledger.chunks("notes")
    check = _within_budget(desk, tight, chunks)
    assert not check.passed
    assert "would pass budget_usd: $0.0000 committed" not in str(check.description)  # small sums show their digits
    assert "reserved for 3 chunks" in str(check.description)
    end = run(tight)
    assert str(end.wall) in describe(end, desk.clock())
    assert held_sentence(end) == f"3 chunks are held by the budget: {end.wall}"
    assert "raise budget_usd to go on" in held_sentence(end)
    assert _within_budget(desk, walled(workload, budget_usd=1.0), chunks).passed


# The reserve.


def test_an_expected_reserve_is_never_above_the_worst(desk: Desk, tmp_path: Path, run: Run) -> None:
    workload = thirty(tmp_path, max_tokens=1_000)
    worst = prepared_snapshot(desk, workload).chunks
    run(workload)
    later = [note(n) for n in range(50, 80)]
    expected = workload_over(tmp_path, later, max_tokens=1_000, budget_reserve="expected")
    chunks = prepared_snapshot(desk, expected, TOMORROW).chunks
    assert all(c.reserve_units < 0.3 * w.reserve_units for c, w in zip(chunks, worst, strict=True))
    run(expected)
    costs = [c.cost_units or 0 for c in desk.ledger.chunks("notes", snapshot=f"{TOMORROW}.1")]
    assert all(cost <= chunk.reserve_units for cost, chunk in zip(costs, chunks, strict=True))
    assert sum(chunk.reserve_units for chunk in chunks) < 1.6 * sum(costs)


def test_without_past_answers_only_the_input_is_expected_to_be_less(desk: Desk, tmp_path: Path) -> None:
    worst = prepared_snapshot(desk, thirty(tmp_path, name="worst")).chunks[0]
    expected = prepared_snapshot(desk, thirty(tmp_path, budget_reserve="expected")).chunks[0]
    assert 0.3 < expected.reserve_units / worst.reserve_units < 1


def test_a_price_that_rose_after_a_chunk_was_cut_raises_its_reserve_once(
    desk: Desk, tmp_path: Path, clock: MovableClock
) -> None:
    file = tmp_path / "catalog.yaml"
    dearer = {"input": "0.3", "cache_write_5m": "0.3", "cache_write_1h": "0.4", "cache_read": "0.03", "output": "1.5"}
    row = {"from": date(2026, 11, 23), "usd_per_mtok": dearer, "source": "a test", "read": date(2026, 11, 22)}
    file.write_text(yaml.safe_dump({"prices": {"claude-haiku-5-5": [row]}}))
    dear = replace(desk, catalog=load(file))
    workload = thirty(tmp_path, budget_usd=1e-9)
    cut = prepared_snapshot(dear, workload).chunks[0]
    send_ready(dear, workload)
    assert held(desk)[0].reserve_units == cut.reserve_units
    clock.at = (clock.at + timedelta(days=1)).replace(hour=0, minute=0)
    for _ in range(2):
        send_ready(dear, workload)
        assert held(desk)[0].reserve_units == 3 * cut.reserve_units


def held(desk: Desk) -> list[ChunkRow]:
    return desk.ledger.chunks("notes", states=[ChunkState.HELD])


@pytest.mark.parametrize("kind", ["worst", "expected"])
def test_a_request_is_reserved_alike_whatever_was_priced_before_it(desk: Desk, tmp_path: Path, kind: str) -> None:
    """What requests have in common is read once; that changes no reserve."""
    texts = ["a", 'quoted " \\', '","role":"user"}],"model":"other', '"content":"b"', "a" * 5_000, "a"]
    asking = [thirty(tmp_path, budget_reserve=kind, **changes) for changes in (
        {}, {"max_tokens": 8}, {"model": "claude-opus-5-5"}, {"system": "Be short."}, {"params": {"inference_geo": "us"}},
    )]  # fmt: skip
    params = [
        orjson.dumps(params_of(workload, text), option=orjson.OPT_SORT_KEYS) for workload in asking for text in texts
    ]
    bound = reserve(desk, asking[0])
    assert [bound(one) for one in params * 2] == [reserve(desk, asking[0])(one) for one in params] * 2


# What nobody knows the cost of stays reserved.


def test_an_answer_without_its_usage_keeps_its_reserve(
    desk: Desk, tmp_path: Path, simulator: Simulator, run: Run
) -> None:
    simulator.faults.add(kind="line_answer", form="no_usage", share=1.0, count=1)
    workload = thirty(tmp_path, chunk={"requests": 30})
    cut = prepared_snapshot(desk, workload).chunks[0]
    run(workload)
    chunk = desk.ledger.chunk(cut.id)
    assert (chunk.cost_units, chunk.kept_units) == (0, cut.reserve_units)
    same = walled(workload, budget_usd=1.5 * cut.reserve_units / UNITS_PER_USD)
    assert desk.ledger.wall_before(replace(chunk, id=0), walls(desk, same), at=desk.clock()) is not None


def test_lost_results_stay_reserved_also_when_what_they_answered_is_asked_again(
    desk: Desk, tmp_path: Path, simulator: Simulator
) -> None:
    workload = thirty(tmp_path, chunk={"requests": 30}, max_rounds=1)
    chunk = prepared_snapshot(desk, workload).chunks[0]
    batch_id = send_ready(desk, workload).sent[0][1]
    simulator.clock.advance(BATCH_SECONDS)
    look(desk)
    desk.client.sdk.messages.batches.delete(batch_id)
    collect(desk, workload)
    give_up_batch(desk, batch_id)
    desk.ledger.chunk_ready_again(desk.ledger.chunk(chunk.id), at=desk.clock())
    tight = walled(workload, budget_usd=1.9 * chunk.reserve_units / UNITS_PER_USD)
    assert len(send_ready(desk, tight).held) == 1
