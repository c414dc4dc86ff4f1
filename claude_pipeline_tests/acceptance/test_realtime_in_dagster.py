"""A workload in real time through Dagster: from its first asset to the warehouse, told as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.simulator import Simulator, running
from claude_pipeline.stage.desk import Desk
from claude_pipeline_tests.acceptance.test_flow import PARTITION, Miniature, workload
from claude_pipeline_tests.integration.realtime_case import QUICK, TIER, fast_options, write_catalog

KEYS = {f"{PARTITION}.1|r1-000{n}" for n in (1, 2, 3)}


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Simulator]:
    with running(fast_options(start=None)) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
        monkeypatch.setenv("CLAUDE_PIPELINE_SETTLE_SECONDS", "0")
        monkeypatch.setenv("CLAUDE_PIPELINE_TIER", TIER)
        monkeypatch.setenv("CLAUDE_PIPELINE_CATALOG", str(write_catalog(tmp_path)))
        yield simulator


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


class QuickDesk(DeskResource):
    """Its real-time lane waits hundredths of a second where the product waits seconds."""

    @contextmanager
    def open(self) -> Iterator[Desk]:
        with super().open() as desk:
            yield replace(desk, waits=replace(QUICK, beat=0.1, progress=0.1))


@pytest.fixture
def mini(tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance) -> Miniature:
    """Forty records in three chunks."""
    quick = QuickDesk(home=str(tmp_path / "home"))
    return Miniature([workload(tmp_path, lane="realtime")], tmp_path / "home", instance, desk=quick)


def materializations(instance: dg.DagsterInstance, leaf: str) -> dict[str, dict[str, Any]]:
    """Metadata by partition."""
    records = instance.fetch_materializations(dg.AssetKey(["reviews", leaf]), limit=100).records
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        event = record.asset_materialization
        assert event is not None
        assert event.partition is not None
        found[event.partition] = {name: value.value for name, value in event.metadata.items()}
    return found


def test_the_first_asset_alone_fills_the_warehouse(
    mini: Miniature, simulator: Simulator, instance: dg.DagsterInstance
) -> None:
    assert mini.run("reviews_requests", PARTITION)
    ran = mini.turns(simulator)

    assert ran == ["reviews_ask", "reviews_finalize"]
    assert mini.materialized("reviews", "batches") == mini.materialized("reviews", "results") == KEYS
    assert mini.materialized("reviews", "merged") == {PARTITION}
    assert mini.rows("SELECT count(*), count(answer), count(DISTINCT lane), any_value(lane) FROM reviews.results") == [
        (40, 40, 1, "realtime")
    ]
    assert simulator.invoice()["batches"] == 0
    for leaf in ("batches", "results"):
        told = materializations(instance, leaf)
        assert {row["lane"] for row in told.values()} == {"realtime"}
        assert all("batch_id" not in row for row in told.values())


def test_the_run_says_how_far_it_is(mini: Miniature, simulator: Simulator) -> None:
    simulator.faults.add(kind="hang", endpoint="messages", seconds=0.2)
    mini.run("reviews_requests", PARTITION)
    result = mini.repository.get_job("reviews_ask").execute_in_process(instance=mini.instance)
    assert result.success
    said = [entry.user_message for entry in mini.instance.all_logs(result.run_id)]
    assert any("of 40 asked in real time" in line and "in flight" in line for line in said), said


def test_a_person_may_ask_one_chunk_by_its_partition(
    mini: Miniature, simulator: Simulator, instance: dg.DagsterInstance
) -> None:
    mini.run("reviews_requests", PARTITION)
    one = f"{PARTITION}.1|r1-0002"

    assert mini.materialize("reviews", "batches", one)

    assert mini.materialized("reviews", "batches") == mini.materialized("reviews", "results") == {one}
    invoice = simulator.invoice()
    assert (invoice["billed_requests"], invoice["batches"]) == (15, 0)
    assert mini.turns(simulator) == ["reviews_ask", "reviews_finalize"]
    assert simulator.invoice()["billed_requests"] == 40


def test_a_chunk_in_the_other_lane_is_sent_as_a_batch(mini: Miniature, tmp_path: Path, simulator: Simulator) -> None:
    mini.run("reviews_requests", PARTITION)
    other = Miniature([workload(tmp_path, lane="batch")], tmp_path / "home", mini.instance)
    assert other.materialize("reviews", "batches", f"{PARTITION}.1|r1-0002")
    assert simulator.invoice()["batches"] == 1
    mini.turns(simulator)
    invoice = simulator.invoice()
    assert (invoice["billed_requests"], invoice["billed_twice"]) == (40, 0)
    assert mini.rows("SELECT lane, count(*) FROM reviews.results GROUP BY 1 ORDER BY 1") == [
        ("batch", 15),
        ("realtime", 25),
    ]


def test_a_stop_of_the_account_is_told_and_cooled_down(mini: Miniature, simulator: Simulator) -> None:
    simulator.faults.add(kind=402, endpoint="messages")
    mini.run("reviews_requests", PARTITION)
    assert mini.turn() == [("reviews_ask", False)]
    assert mini.turn() == []
    assert "402" in (mini.last_reason or "")


def test_what_failed_is_asked_again_in_a_second_round(mini: Miniature, simulator: Simulator) -> None:
    simulator.faults.add(kind="line_error", endpoint="messages", error_type="overloaded_error", share=0.1, attempts=8)
    mini.run("reviews_requests", PARTITION)
    ran = mini.turns(simulator)
    assert ran == ["reviews_ask", "reviews_submit", "reviews_ask", "reviews_finalize"]
    assert mini.rows("SELECT count(answer) FROM reviews.results") == [(40,)]
