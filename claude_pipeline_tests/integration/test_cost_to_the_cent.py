"""Costs in the warehouse equal the simulator's invoice for every class of tokens, also across a change of prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.report import summarize
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock, client_of
from claude_pipeline_tests.factory import asked, note, workload_over

BEFORE_MIDNIGHT = datetime(2026, 10, 6, 23, 57, 30, tzinfo=UTC)  # reads of Sonnet 5.5 cost half from the 7th on
MANUAL = "Rules of the house. " * 300  # 1,500 tokens
FIVE_MINUTES = {"type": "ephemeral"}
LONG = "word " * 90_000  # 112,500 tokens: over Haiku 5.5's band


@pytest.fixture
def october(desk: Desk, clock: MovableClock) -> Iterator[tuple[Desk, Simulator]]:
    """A desk at an API a few minutes before prices change."""
    clock.at = BEFORE_MIDNIGHT
    options = Options(batch_seconds=(BATCH_SECONDS, BATCH_SECONDS), paused=True, start=BEFORE_MIDNIGHT, seed=7)
    with running(options) as simulator:
        client = client_of(simulator)
        yield replace(desk, client=client), simulator
        client.close()


def to_rest(desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock) -> None:
    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(BATCH_SECONDS)

    assert drive.run(desk, workload, wait, partition=f"{clock():%Y-%m-%d}").at_rest


def check_costs(desk: Desk, simulator: Simulator) -> dict[str, int]:
    """Every place that shows a cost shows the invoice's, to the last digit that USD are shown with; the tokens
    of the invoice by class."""
    invoice = simulator.invoice()
    billed = Decimal(invoice["total_usd"])
    places = {
        "results": "SELECT sum(cost_usd) FROM notes.results",
        "attempts": "SELECT sum(cost_usd) FROM notes.attempts",
        "costs": "SELECT sum(cost_usd) FROM ops.costs",
    }
    for place, query in places.items():
        assert asked(desk, query)[0][0] == pytest.approx(float(billed), abs=1e-8), place
    # By batch: one that is priced by the wrong day would be hidden in a sum.
    of_batch = dict(asked(desk, "SELECT batch_id, sum(cost_usd) FROM notes.attempts GROUP BY 1"))
    for batch in invoice["by_batch"]:
        assert of_batch[batch["batch_id"]] == pytest.approx(float(batch["cost_usd"]), abs=1e-8)
    classes: dict[str, int] = dict.fromkeys(("input", "output", "write_5m", "write_1h", "read"), 0)
    for model in invoice["by_model"].values():
        for name in classes:
            classes[name] += model["tokens"][name] if "tokens" in model else model[name]
    columns = "sum(input_tokens), sum(output_tokens), sum(cache_write_tokens), sum(cache_read_tokens)"
    shown = asked(desk, f"SELECT {columns} FROM notes.attempts WHERE outcome = 'succeeded'")[0]
    written = classes["write_5m"] + classes["write_1h"]
    assert shown == (classes["input"], classes["output"], written, classes["read"])
    return classes


def test_a_snapshot_whose_batches_lie_on_both_sides_of_a_price_change(
    october: tuple[Desk, Simulator], tmp_path: Path, clock: MovableClock
) -> None:
    desk, simulator = october
    one_by_one = replace(desk, settings=replace(desk.settings, batches_in_flight=1))
    fields = {"model": "claude-sonnet-5-5", "system": MANUAL, "cache": "auto", "chunk": {"requests": 20}}
    workload = workload_over(tmp_path, [note(n) for n in range(81)], start_date="2026-10-01", **fields)

    to_rest(one_by_one, workload, simulator, clock)

    days = [batch["created_at"][:10] for batch in simulator.invoice()["by_batch"]]
    assert len(days) == 5
    assert min(days.count("2026-10-06"), days.count("2026-10-07")) >= 2
    classes = check_costs(desk, simulator)
    assert min(classes["input"], classes["output"], classes["write_1h"], classes["read"]) > 0
    # The same tokens cost less after midnight: reads are half the price.
    by_day = dict(
        asked(
            desk,
            """SELECT strftime(b.created_at, '%d'), min(a.cost_usd - a.input_tokens * 1e-6 - a.output_tokens * 5e-6)
               FROM notes.attempts a JOIN ops.batches b USING (batch_id)
               WHERE a.cache_read_tokens > 0 AND a.cache_write_tokens = 0 GROUP BY 1""",
        )
    )
    assert by_day["07"] == pytest.approx(by_day["06"] / 2)
    costs = asked(desk, "SELECT day::VARCHAR, cost_usd FROM ops.costs ORDER BY 1")
    assert [day for day, _ in costs] == ["2026-10-06", "2026-10-07"]


CLASSES: list[Any] = [
    pytest.param({"system": MANUAL, "cache": "auto"}, {"write_1h", "read"}, id="1h-writes-and-reads"),
    pytest.param(
        {"params": {"cache_control": FIVE_MINUTES}, "prompt": MANUAL + "{{ text }}"}, {"write_5m"}, id="5m-writes"
    ),
    pytest.param(
        {"params": {"tools": [{"name": "a", "description": MANUAL, "input_schema": {"type": "object"},
                               "cache_control": FIVE_MINUTES}]}}, {"write_5m", "read"}, id="5m-writes-and-reads",
    ),
    pytest.param({"params": {"inference_geo": "us"}}, {"input", "output"}, id="us"),
    pytest.param(
        {"params": {"inference_geo": "us"}, "system": MANUAL, "cache": "auto"}, {"write_1h", "read"}, id="us-cached"
    ),
    pytest.param({"output": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                  "max_tokens": 300}, {"input", "output"}, id="structured"),
]  # fmt: skip


@pytest.mark.parametrize("model", ["claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"])
@pytest.mark.parametrize(("fields", "used"), CLASSES)
def test_each_class_of_tokens_costs_what_is_billed(
    desk: Desk,
    simulator: Simulator,
    clock: MovableClock,
    tmp_path: Path,
    model: str,
    fields: dict[str, Any],
    used: set[str],
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(30)], model=model, **fields)
    to_rest(desk, workload, simulator, clock)
    classes = check_costs(desk, simulator)
    assert all(classes[name] > 0 for name in used), classes


@pytest.mark.parametrize("system", [None, MANUAL], ids=["plain", "cached"])
def test_haikus_band_is_that_of_each_request(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path, system: str | None
) -> None:
    rows = [note(n) for n in range(25)] + [note(25, LONG)]
    workload = workload_over(tmp_path, rows, system=system, cache="auto", chunk={"requests": 100})
    to_rest(desk, workload, simulator, clock)
    check_costs(desk, simulator)
    dear = asked(desk, "SELECT cost_usd / input_tokens FROM notes.results WHERE record_id = 'n25'")[0][0]
    assert dear > 2.4e-7  # half of 0.50 USD a million


def test_errors_and_later_rounds_cost_what_is_billed(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    simulator.faults.add(kind="line_error", share=0.4, attempts=1)
    simulator.faults.add(kind="expire", share=0.3, count=1)
    workload = workload_over(tmp_path, [note(n) for n in range(40)], system=MANUAL, cache="auto")
    day = 24 * 3600

    def wait() -> None:
        simulator.clock.advance(day / 2)
        clock.advance(day / 2)

    assert drive.run(desk, workload, wait).at_rest
    check_costs(desk, simulator)
    summary = summarize(desk, workload, desk.ledger.snapshots("notes")[0])
    assert summary.rounds > 1
    assert summary.cost_usd == pytest.approx(float(simulator.invoice()["total_usd"]), abs=1e-8)
