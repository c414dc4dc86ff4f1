"""A user's own asset downstream of a workload, as the example has it, in one code location with the workload."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster_duckdb import DuckDBResource

from claude_pipeline import WarehouseResource
from claude_pipeline.components.compose import compose
from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.errors import UsageError
from claude_pipeline.home import Home
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.stage.desk import open_desk
from claude_pipeline.stage.publish import publish
from claude_pipeline.workload import Workload
from claude_pipeline_tests.acceptance.test_flow import PARTITION, QUIET, Miniature, write_rows

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)  # of the partition's day
EXAMPLE = Path(__file__).resolve().parents[2] / "data" / "examples" / "downstream.py"
OUTPUT = {
    "type": "object",
    "properties": {"queue": {"type": "string", "enum": ["billing", "other"]}, "urgent": {"type": "boolean"}},
    "required": ["queue", "urgent"],
}


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with running(Options(paused=True, batch_seconds=(60, 60), seed=3)) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
        yield simulator


@pytest.fixture
def site(tmp_path: Path, simulator: Simulator) -> Iterator[Miniature]:
    """Forty tickets, answered and published."""
    write_rows(tmp_path / "rows.csv", 40)
    workload = Workload.from_attributes(
        {
            "name": "tickets",
            "dataset": {"path": str(tmp_path / "rows.csv"), "id": "id"},
            "model": "claude-haiku-5-5",
            "prompt": "Sort: {{ text }}",
            "max_tokens": 64,
            "output": OUTPUT,
            "start_date": "2026-11-01",
        }
    )
    with dg.DagsterInstance.ephemeral() as instance:
        site = Miniature([workload], tmp_path / "home", instance)
        assert site.run("tickets_requests", PARTITION)
        site.turns(simulator)
        desk = DeskResource(home=str(tmp_path / "home"))
        whole = dg.Definitions.merge(compose([workload], desk=desk), example().defs())
        site.repository = whole.get_repository_def()
        yield site


def example() -> Any:
    """The example's module, as Dagster would import it."""
    spec = importlib.util.spec_from_file_location("downstream", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(site: Miniature) -> Any:
    """Materialize the example's asset; its metadata."""
    result = dg.materialize(
        list(site.repository.assets_defs_by_key.values()),
        selection=[dg.AssetKey("queue_report")],
        partition_key=PARTITION,
        instance=site.instance,
        run_config=QUIET,
    )
    return result.asset_materializations_for_node("queue_report")[0].metadata


def test_it_reads_the_answers_as_ordinary_upstream_data(site: Miniature) -> None:
    assert report(site)["tickets"].value == 40


def test_it_is_downstream_of_the_summary_in_the_graph(site: Miniature) -> None:
    graph = site.repository.asset_graph
    upstream = {key.to_user_string() for key in graph.get(dg.AssetKey("queue_report")).parent_keys}
    assert upstream == {"tickets/summary", "warehouse"}


def test_it_runs_by_itself_once_the_day_is_published(site: Miniature) -> None:
    definitions = dg.Definitions(assets=list(site.repository.assets_defs_by_key.values()))
    before = dg.evaluate_automation_conditions(definitions, site.instance, evaluation_time=NOON)
    assert site.run("tickets_finalize", PARTITION)
    after = dg.evaluate_automation_conditions(definitions, site.instance, cursor=before.cursor, evaluation_time=NOON)
    asked = [found.get_requested_partitions(dg.AssetKey("queue_report")) for found in (before, after)]
    assert asked == [set(), {PARTITION}]


def test_a_publication_goes_on_while_a_connection_is_open_and_the_next_one_sees_it(site: Miniature) -> None:
    home = Home(site.home)
    resource = WarehouseResource(database=str(home.warehouse))
    published = "SELECT count(*) FROM ops.events WHERE move = 'warehouse published'"
    with resource.get_connection() as held, open_desk(Settings(home)) as desk:
        before = held.execute(published).fetchall()[0][0]
        publish(desk)
        publish(desk)
        assert held.execute(published).fetchall()[0][0] == before
        with resource.get_connection() as fresh:
            assert fresh.execute(published).fetchall()[0][0] == before + 2


def test_it_cannot_write(site: Miniature) -> None:
    with (
        WarehouseResource(database=str(Home(site.home).warehouse)).get_connection() as duck,
        pytest.raises(duckdb.Error, match="read-only"),
    ):
        duck.execute("DELETE FROM ops.events")


def test_an_error_in_a_block_closes_the_connection(site: Miniature) -> None:
    resource = WarehouseResource(database=str(Home(site.home).warehouse))
    with pytest.raises(ZeroDivisionError), resource.get_connection() as duck:
        raise ZeroDivisionError
    with pytest.raises(duckdb.Error, match="closed"):
        duck.execute("SELECT 1")


def test_it_takes_the_place_of_dagsters_own() -> None:
    assert issubclass(WarehouseResource, DuckDBResource)


def test_before_the_first_publication_it_says_what_to_do(tmp_path: Path) -> None:
    resource = WarehouseResource(database=str(tmp_path / "warehouse.duckdb"))
    with pytest.raises(UsageError, match="run a workload first"), resource.get_connection():
        pass
