"""Estimates against the simulator's invoice, on datasets of many kinds: cold, and once there are results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from claude_pipeline.cache import HIT_RATE, cache_saving
from claude_pipeline.catalog import UNITS_PER_USD, Price
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.plan import Method, Plan
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.forecast import plan_prepared, plan_workload
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock, client_of
from claude_pipeline_tests.factory import PARTITION, note, send_ready, workload_over
from claude_pipeline_tests.integration.estimate_case import CASES, SORTED, rows_of, workload_of

COLD_SHARE, WARM_SHARE = 0.25, 0.05  # of the invoice
Bill = Callable[[Workload], float]


def planned(desk: Desk, workload: Workload, *, online: bool = True) -> Plan:
    return plan_workload(desk, workload, PARTITION, wait=(lambda _seconds: None) if online else None)


@pytest.fixture
def bill(desk: Desk, simulator: Simulator, clock: MovableClock) -> Bill:
    """What a workload's run adds to the invoice, in USD."""

    def run(workload: Workload) -> float:
        before = Decimal(simulator.invoice()["total_usd"])

        def wait() -> None:
            simulator.clock.advance(BATCH_SECONDS)
            clock.advance(BATCH_SECONDS)

        drive.run(desk, workload, wait, publishes=False)
        return float(Decimal(simulator.invoice()["total_usd"]) - before)

    return run


def counts(simulator: Simulator) -> int:
    return sum(simulator.invoice()["calls"].get("count_tokens", {}).values())


@pytest.mark.parametrize("name", CASES)
def test_the_invoice_lies_within_the_interval_and_near_the_estimate(
    name: str, desk: Desk, bill: Bill, tmp_path: Path
) -> None:
    rows = rows_of(name, seed=11, count=500)
    for count, share in ((200, COLD_SHARE), (500, WARM_SHARE)):
        workload = workload_of(name, tmp_path, rows[:count])
        usd = planned(desk, workload).option("batch").usd
        true = bill(workload)
        assert usd.low <= true <= usd.high
        assert usd.expected == pytest.approx(true, rel=share)


def test_without_the_api_the_estimate_is_rough_and_says_so(desk: Desk, bill: Bill, tmp_path: Path) -> None:
    workload = workload_of("two-languages", tmp_path, rows_of("two-languages", seed=5, count=100))
    plan = planned(desk, workload, online=False)
    assert plan.tokens_in is not None
    assert plan.tokens_in.method is Method.CHARACTERS
    assert plan.tokens_in.basis.startswith("rough")
    assert plan.option("batch").usd.low <= bill(workload) <= plan.option("batch").usd.high


def test_errors_that_stay_are_not_billed_and_not_planned(
    desk: Desk, simulator: Simulator, bill: Bill, tmp_path: Path
) -> None:
    simulator.faults.add(kind="line_error", share=0.3, error_type="invalid_request_error")
    rows = rows_of("short-tickets-sorted", seed=3, count=1_000)
    bill(workload_of("short-tickets-sorted", tmp_path, rows[:500]))
    workload = workload_of("short-tickets-sorted", tmp_path, rows[500:])
    usd = planned(desk, workload).option("batch").usd
    true = bill(workload)
    assert usd.expected == pytest.approx(true, rel=0.1)
    assert usd.low <= true <= usd.high


def test_planning_sends_nothing_registers_nothing_and_counts_once(
    desk: Desk, simulator: Simulator, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(300)])
    first = planned(desk, workload)
    after_first = counts(simulator)
    second = planned(desk, workload)

    assert 0 < first.count_tokens_calls == after_first <= 50
    assert (second.count_tokens_calls, counts(simulator)) == (0, after_first)
    assert second.tokens_in == first.tokens_in
    assert simulator.invoice()["accepted_requests"] == 0
    assert desk.ledger.workloads() == []
    assert desk.ledger.snapshots() == []
    assert list((desk.home.root / "scratch").iterdir()) == []
    assert not (desk.home.root / "snapshots").exists()


def test_more_data_of_the_same_kind_costs_few_new_counts(desk: Desk, simulator: Simulator, tmp_path: Path) -> None:
    planned(desk, workload_over(tmp_path, [note(n) for n in range(300)]))
    again = planned(desk, workload_over(tmp_path, [note(n) for n in range(330)]))
    assert again.count_tokens_calls <= 10


def test_counts_are_paced_by_the_tier(desk: Desk, tmp_path: Path) -> None:
    waits: list[float] = []
    plan = plan_workload(desk, workload_over(tmp_path, [note(n) for n in range(100)]), PARTITION, wait=waits.append)
    assert waits == [60 / 8_000] * (plan.count_tokens_calls - 1)


def test_an_api_that_does_not_count_leaves_a_rough_estimate_and_a_warning(
    desk: Desk, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(kind=529, endpoint="count_tokens")
    plan = planned(desk, workload_over(tmp_path, [note(n) for n in range(100)]))
    assert plan.tokens_in is not None
    assert plan.tokens_in.method is Method.CHARACTERS
    assert counts(simulator) == 1  # asked once, then no more
    assert any("token counts could not be had" in warning for warning in plan.warnings)


def test_a_key_that_is_refused_does_not_stop_a_plan(desk: Desk, simulator: Simulator, tmp_path: Path) -> None:
    stranger = replace(desk, client=client_of(simulator, "sk-ant-none"))
    plan = planned(stranger, workload_over(tmp_path, [note(n) for n in range(50)]))
    assert plan.counts.requests == 50
    assert any("refused the key" in warning for warning in plan.warnings)
    stranger.client.close()


def test_a_plan_counts_as_a_run_would(desk: Desk, bill: Bill, simulator: Simulator, tmp_path: Path) -> None:
    rows = [note(n) for n in range(40)]
    bill(workload_over(tmp_path, rows))
    more = [*rows, *[note(n) for n in range(40, 55)], {"id": "twin", "text": "note 41"}, note(99, None)]
    workload = workload_over(tmp_path, more, max_reject_ratio=0.1)

    plan = planned(desk, workload, online=False)
    prepared = prepare(desk, workload, PARTITION)

    s = prepared.snapshot
    assert (plan.counts.records, plan.counts.requests, plan.counts.chunks) == (57, 15, 2)
    assert plan.counts.chunks == prepared.new_chunks
    assert (plan.counts.reused, plan.counts.duplicates, plan.counts.rejected) == (s.reused, s.duplicates, s.rejected)
    assert (plan.counts.reused, plan.counts.duplicates, plan.counts.rejected) == (40, 1, 1)
    waiting = plan_prepared(desk, workload, prepared)
    assert (waiting.counts, waiting.snapshot) == (plan.counts, s.id)
    assert waiting.option("batch") == plan.option("batch")


def test_nothing_is_left_to_plan_once_it_was_sent(desk: Desk, tmp_path: Path) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(20)])
    prepared = prepare(desk, workload, PARTITION)
    send_ready(desk, workload)
    plan = planned(desk, workload)
    assert (plan.counts.requests, plan.counts.asked, plan.snapshot) == (0, 20, prepared.snapshot.id)
    assert plan.recommendation.startswith("Nothing to send")


def test_what_a_run_would_refuse_a_plan_refuses(desk: Desk, tmp_path: Path) -> None:
    workload = workload_over(tmp_path, [note(n, None) for n in range(5)])
    with pytest.raises(DatasetInvalid, match="max_reject_ratio"):
        planned(desk, workload)


def test_the_time_of_a_batch_is_learned_from_the_ledger(desk: Desk, bill: Bill, tmp_path: Path) -> None:
    rows = [note(n) for n in range(80)]
    cold = planned(desk, workload_over(tmp_path, rows), online=False)
    bill(workload_over(tmp_path, rows[:40]))
    warm = planned(desk, workload_over(tmp_path, rows), online=False)

    assert (cold.turnaround.assumed, cold.turnaround.median_hours) == (True, 1.0)
    assert (warm.turnaround.assumed, warm.turnaround.basis) == (False, "learned from 4 past batches")
    assert warm.turnaround.median_hours == pytest.approx(BATCH_SECONDS / 3600)


def test_a_route_is_planned_with_each_model_of_its_own(desk: Desk, bill: Bill, tmp_path: Path) -> None:
    rows = rows_of("short-tickets-sorted", seed=2, count=200)
    route = [{"when": "length(text) < 200", "model": "claude-haiku-5-5"}, {"model": "claude-sonnet-5-5"}]
    workload = workload_over(tmp_path, rows, model=None, route=route, output=SORTED, chunk={"requests": 100})
    usd = planned(desk, workload).option("batch").usd
    true = bill(workload)
    assert usd.low <= true <= usd.high
    assert usd.expected == pytest.approx(true, rel=COLD_SHARE)


def units_of_luck(simulator: Simulator, price: Price) -> int:
    """What the hits that were drawn saved beyond those that the estimate assumes, in 1e-10 USD. They are drawn by
    custom_id, which no two runs share: of 200 requests that moves the bill by a seventh, as a rule."""
    (billed,) = simulator.invoice()["by_model"].values()
    tokens, requests = billed["tokens"], billed["billed"]
    prefix = (tokens["read"] + tokens["write_1h"]) // requests
    drawn = tokens["read"] / (prefix * (requests - 1))
    at_rate = partial(cache_saving, price, prefix_tokens=prefix, requests=requests)
    return at_rate(hit_rate=drawn).units - at_rate(hit_rate=HIT_RATE).units


def test_the_prompt_cache_is_in_the_estimate(desk: Desk, simulator: Simulator, bill: Bill, tmp_path: Path) -> None:
    rows = rows_of("sonnet-long-system", seed=4, count=300)
    fields = {
        "model": "claude-sonnet-5-5",
        "system": "Read with great care. " * 150,
        "output": SORTED,
        "max_tokens": 300,
    }
    off = planned(desk, workload_over(tmp_path, rows[:200], **fields))
    on = planned(desk, workload_over(tmp_path, rows[:200], **fields, cache="auto"))
    assert "cache: auto saves about $" in off.cache
    assert on.option("batch").usd.expected < 0.8 * off.option("batch").usd.expected
    true = bill(workload_over(tmp_path, rows[:200], **fields, cache="auto"))
    usd = on.option("batch").usd
    assert usd.low <= true <= usd.high
    luck = units_of_luck(simulator, desk.catalog.price("claude-sonnet-5-5", desk.clock())) / UNITS_PER_USD
    assert usd.expected == pytest.approx(true + luck, rel=0.05)


def test_another_prompt_is_not_planned_by_the_old_answers(desk: Desk, bill: Bill, tmp_path: Path) -> None:
    rows = [note(n) for n in range(60)]
    bill(workload_over(tmp_path, rows))
    plan = planned(desk, workload_over(tmp_path, rows, prompt="Write a poem: {{ text }}"), online=False)
    assert plan.tokens_in is not None
    assert plan.tokens_out is not None
    assert (plan.tokens_in.method, plan.tokens_out.method) == (Method.OTHER_RESULTS, Method.MAX_TOKENS)


def test_results_of_part_of_a_snapshot_plan_the_rest(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(90)], chunk={"requests": 30})
    one = replace(desk, settings=replace(desk.settings, batches_in_flight=1))
    prepared = prepare(desk, workload, PARTITION)
    send_ready(one, workload)
    simulator.clock.advance(BATCH_SECONDS)
    look(desk)
    collect(desk, workload)
    plan = plan_prepared(desk, workload, replace(prepared, chunks=desk.ledger.chunks("notes")))
    assert plan.counts.requests == 60
    assert plan.tokens_in is not None
    assert plan.tokens_in.basis == "a fit on 30 past results"
