"""The budget's walls in real time, and costs to the cent: the invoice never passes a wall, whatever is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.controller import decide, survey
from claude_pipeline.errors import AccountStopped, ClaudePipelineError
from claude_pipeline.lane.journal import Journal
from claude_pipeline.lane.message_client import MessageClient
from claude_pipeline.ledger import ChunkRow
from claude_pipeline.simulator import Simulator, running
from claude_pipeline.stage.close import journal_of
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.reserve import realtime_reserves
from claude_pipeline.stage.submit import walls
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import MovableClock, client_of, messages_of
from claude_pipeline_tests.factory import PARTITION, asked, note, states, workload_over
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

WALLS = ("budget_usd", "budget_usd_per_day", "CLAUDE_PIPELINE_BUDGET_USD")
SEEDS = range(9)
STEPS, STEP_SECONDS = 25, 45
FAULTS: list[dict[str, Any]] = [
    {"kind": "lost_after"},
    {"kind": "reset_before"},
    {"kind": "bad_body", "form": "cut"},
    {"kind": "bad_body", "form": "html"},
    {"kind": "529"},
    {"kind": "429", "retry_after": 0.01},
    {"kind": "line_error", "share": 0.3},
    {"kind": "line_answer", "form": "no_usage", "share": 0.3},
    {"kind": "line_answer", "form": "max_tokens", "share": 0.8},
    {"kind": "low_credit", "share": 0.1, "attempts": 1},
    {"kind": "slow_bytes", "bytes_per_second": 20_000},
]


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    with running(fast_options()) as simulator:
        yield simulator


@pytest.fixture
def desk(desk: Desk, tmp_path: Path) -> Desk:
    return fast(desk, tmp_path)


def reserves_of(desk: Desk) -> list[int]:
    """What each chunk may cost in real time, in units."""
    return [int(realtime_reserves(desk, chunk).sum()) for chunk in chunks_of(desk)]


def walled(desk: Desk, workload: Workload, name: str, usd: float) -> tuple[Desk, Workload]:
    if name in Workload.model_fields:
        return desk, workload.model_copy(update={name: usd})
    return replace(desk, settings=replace(desk.settings, budget_usd=usd)), workload


def billed_usd(simulator: Simulator) -> float:
    return float(simulator.invoice()["total_usd"])


@pytest.mark.parametrize("seed", SEEDS)
def test_no_fault_makes_the_invoice_exceed_the_wall(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    fields = {"cache": "auto", "system": "Rules. " * 400} if dice.random() < 0.3 else {}
    workload = workload_over(tmp_path, [note(n) for n in range(40)], lane="realtime", max_tokens=512, **fields)
    prepare(desk, workload, PARTITION)
    wall = max(reserves_of(desk)) * dice.uniform(0.5, 2.5) / UNITS_PER_USD
    desk, workload = walled(desk, workload, WALLS[seed % len(WALLS)], wall)
    for fault in dice.sample(FAULTS, 4):
        simulator.faults.add(endpoint="messages", **fault, count=dice.randint(1, 12), after=dice.randint(0, 10))
    for _ in range(STEPS):
        with suppress(ClaudePipelineError):  # it stops, and is started again
            for action in decide(survey(desk, workload)):
                drive.act(desk, workload, action)
        simulator.clock.advance(STEP_SECONDS)
        clock.advance(STEP_SECONDS)
        situation = survey(desk, workload)
        if situation.at_rest or situation.wall is not None:
            break
    else:
        pytest.fail(f"neither at rest nor before its wall: {situation}")
    assert 0 <= billed_usd(simulator) <= wall


def died_asking(desk: Desk, workload: Workload, count: int) -> ChunkRow:
    """The first chunk as a process left it that was killed with so many requests in flight: paid, and unheard of."""
    chunk = chunks_of(desk)[0]
    chunk = desk.ledger.asking_started(
        chunk, reserve_units=reserves_of(desk)[0], walls=walls(desk, workload), why="a test", at=desk.clock()
    )
    journal = Journal.open(journal_of(desk, chunk), chunk.key, chunk.requests)
    lines = desk.path(chunk.params_path).read_bytes().splitlines()

    async def pay() -> None:
        async with MessageClient(desk.clock, connect=desk.messages) as client:
            for position in range(count):
                journal.sending(position)
                await client.ask(lines[position], 60)

    asyncio.run(pay())
    journal.close()
    return chunk


TIGHT = [
    pytest.param(1.0, 0, id="no-room"),
    pytest.param(1.25, 2, id="room-for-some"),
    pytest.param(1.4, 4, id="room-for-all"),
]


@pytest.mark.parametrize(("share", "again"), TIGHT)
def test_what_a_dead_process_had_in_flight_is_asked_again_only_where_the_wall_leaves_room(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path, share: float, again: int
) -> None:
    # Its requests were reserved once more, wall or not, and asked again: the invoice passed the wall.
    workload = workload_over(tmp_path, [note(n) for n in range(10)], lane="realtime", max_tokens=16_000)
    prepare(desk, workload, PARTITION)
    simulator.faults.add(kind="line_answer", endpoint="messages", form="max_tokens")  # as dear as a request can be
    wall = share * reserves_of(desk)[0] / UNITS_PER_USD
    workload = workload.model_copy(update={"budget_usd": wall})
    died_asking(desk, workload, 4)
    assert bill(simulator)[0] == 4

    to_rest_or_wall(desk, workload, simulator, clock)

    assert bill(simulator) == (10 + again, again)
    assert billed_usd(simulator) <= wall
    (chunk,) = chunks_of(desk)
    assert chunk.lost == 4
    dead = dict(asked(desk, "SELECT error_type, count(*) FROM notes.dead_letters GROUP BY 1"))
    assert dead == ({"lost_answer": 4 - again} if again < 4 else {})
    # What they cost stays committed, since nobody knows it.
    assert (chunk.cost_units or 0) + (chunk.kept_units or 0) >= billed_usd(simulator) * UNITS_PER_USD


def test_the_figure_of_lost_answers_is_the_same_however_often_a_process_dies_before_it_asks(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(10)], lane="realtime")
    prepare(desk, workload, PARTITION)
    died_asking(desk, workload, 3)
    simulator.faults.add(endpoint="messages", kind=402)
    for _ in range(3):
        with pytest.raises(AccountStopped):
            ask_now(desk, workload)
        clock.advance(3600)
    (chunk,) = chunks_of(desk)
    assert chunk.lost == 3
    assert chunk.reserve_units == reserves_of(desk)[0] + sum(realtime_reserves(desk, chunk)[:3])
    simulator.faults.clear()
    to_rest_or_wall(desk, workload, simulator, clock)
    assert bill(simulator) == (13, 3)
    check_delivered(desk, 10)


def to_rest_or_wall(desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock) -> None:
    for _ in range(STEPS):
        for action in decide(survey(desk, workload)):
            drive.act(desk, workload, action)
        simulator.clock.advance(STEP_SECONDS)
        clock.advance(STEP_SECONDS)
        situation = survey(desk, workload)
        if situation.at_rest or situation.wall is not None:
            return
    raise AssertionError(f"neither at rest nor before its wall: {situation}")


# Each wall holds chunks back, and lets them go on.


def test_a_chunk_that_does_not_fit_is_held_until_the_wall_is_raised(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(30)], lane="realtime")
    prepare(desk, workload, PARTITION)
    wall = 1.2 * reserves_of(desk)[0] / UNITS_PER_USD
    low = workload.model_copy(update={"budget_usd": wall})
    to_rest_or_wall(desk, low, simulator, clock)
    situation = survey(desk, low)
    assert situation.wall is not None
    assert "would pass budget_usd" in situation.wall
    assert "held" in states(desk, low)
    assert billed_usd(simulator) <= wall
    to_rest(desk, workload, simulator, clock)
    assert bill(simulator) == (30, 0)
    check_delivered(desk, 30)


def test_a_wall_of_the_day_lets_go_on_after_midnight(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(30)], lane="realtime")
    prepare(desk, workload, PARTITION)
    wall = 1.1 * reserves_of(desk)[0] / UNITS_PER_USD
    workload = workload.model_copy(update={"budget_usd_per_day": wall})
    spent: dict[str, float] = {}
    for _ in range(10):
        before = billed_usd(simulator)
        day = f"{clock():%m-%d}"
        to_rest_or_wall(desk, workload, simulator, clock)
        spent[day] = spent.get(day, 0.0) + billed_usd(simulator) - before
        if survey(desk, workload).at_rest:
            break
        seconds = (clock().replace(hour=0, minute=0, second=0) + timedelta(days=1, minutes=6) - clock()).total_seconds()
        clock.advance(seconds)
        simulator.clock.advance(seconds)
    assert survey(desk, workload).at_rest
    assert len(spent) > 1
    assert max(spent.values()) <= wall
    assert bill(simulator) == (30, 0)


def test_a_wall_of_the_ledger_stands_before_all_workloads_together(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    names = ("notes", "others")
    workloads = [
        workload_over(tmp_path / name, [note(n, f"{name} {n}") for n in range(20)], name=name, lane="realtime")
        for name in names
    ]
    for workload in workloads:
        prepare(desk, workload, PARTITION)
    wall = 2.2 * reserves_of(desk)[0] / UNITS_PER_USD
    desk = replace(desk, settings=replace(desk.settings, budget_usd=wall))
    for workload in workloads * 2:
        to_rest_or_wall(desk, workload, simulator, clock)
    assert 20 <= bill(simulator)[0] < 40
    assert billed_usd(simulator) <= wall


def test_a_budget_holds_a_lost_answer_from_being_asked_again(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(10)], lane="realtime", max_tokens=16_000)
    prepare(desk, workload, PARTITION)
    simulator.faults.add(kind="line_answer", endpoint="messages", form="max_tokens")
    simulator.faults.add(kind="lost_after", endpoint="messages", count=4)
    wall = 1.25 * reserves_of(desk)[0] / UNITS_PER_USD
    workload = workload.model_copy(update={"budget_usd": wall})
    to_rest_or_wall(desk, workload, simulator, clock)
    assert bill(simulator) == (12, 2)
    assert billed_usd(simulator) <= wall
    assert chunks_of(desk)[0].lost == 4


# Costs.


BEFORE_MIDNIGHT = datetime(2026, 10, 6, 23, 57, 30, tzinfo=UTC)  # reads of Sonnet 5.5 cost half from the 7th on


def test_costs_of_both_lanes_are_the_invoices_across_a_change_of_prices(
    desk: Desk, clock: MovableClock, tmp_path: Path
) -> None:
    clock.at = BEFORE_MIDNIGHT
    fields = {"model": "claude-sonnet-5-5", "system": "Rules of the house. " * 300, "cache": "auto"}
    workload = workload_over(tmp_path, [note(n) for n in range(31)], lane="realtime", start_date="2026-10-01", **fields)
    with running(fast_options(start=BEFORE_MIDNIGHT)) as simulator:
        client = client_of(simulator)
        desk = replace(desk, client=client, messages=messages_of(simulator))
        simulator.faults.add(kind="line_error", endpoint="messages", error_type="api_error", share=0.3)
        workload = workload.model_copy(update={"max_rounds": 3})
        prepare(desk, workload, "2026-10-06")
        ask_now(desk, workload)  # before midnight
        simulator.faults.clear()
        clock.advance(300)
        simulator.clock.advance(300)
        drive.act(desk, workload, decide(survey(desk, workload))[0])  # after it: cuts the rest, and asks it
        to_rest(desk, workload.model_copy(update={"lane": "batch"}), simulator, clock)
        invoice = simulator.invoice()
        days = {line["at"][:10] for line in lines_of(simulator) if line["billed"]}
        client.close()
        assert len(days) == 2
        check_cost(desk, simulator)
        check_delivered(desk, 31)
        by_lane = dict(asked(desk, "SELECT lane, sum(requests) FROM ops.costs GROUP BY 1"))
        assert by_lane["realtime"] == invoice["messages"]["succeeded"]


def lines_of(simulator: Simulator) -> list[dict[str, Any]]:
    return [orjson.loads(line) for piece in simulator.invoice_lines() for line in piece.splitlines()]
