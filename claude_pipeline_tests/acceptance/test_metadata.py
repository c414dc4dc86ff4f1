"""What stands beside each materialization: figures that plot, tables, pictures, columns, and the way to what failed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import dagster as dg
import pytest

from claude_pipeline.components.key import partition_path
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.acceptance.test_flow import PARTITION, QUIET, Miniature, workload

PLOTTED = {
    "cost_usd", "requests_per_min", "input_tokens_per_min", "output_tokens_per_min", "success_rate", "turnaround_hours",
    "cache_hit_rate", "input_tokens", "output_tokens",
}  # fmt: skip
OUTPUT = {
    "type": "object",
    "properties": {"stars": {"type": "integer", "description": "One to five"}},
    "required": ["stars"],
}
FIRST = f"{PARTITION}.1|r1-0001"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running(Options(paused=True, batch_seconds=(60, 60), seed=3)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Miniature]:
    """Forty reviews in three chunks; a fifth of the requests fails for good."""
    root = tmp_path_factory.mktemp("metadata")
    simulator.faults.add(kind="line_error", share=0.2, error_type="invalid_request_error", message="too odd")
    with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        patch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
        reviews = workload(root, output=OUTPUT, owners=["team:reviews"])
        site = Miniature([reviews], root / "home", instance)
        result = dg.materialize(
            list(site.repository.assets_defs_by_key.values()),
            selection=[dg.AssetKey(["reviews", "requests"])],
            partition_key=PARTITION,
            instance=instance,
            run_config=QUIET,
        )
        assert result.success
        site.turns(simulator)
        yield site


def metadata(site: Miniature, leaf: str, partition: str | None = None) -> dict[str, Any]:
    """Of the newest materialization."""
    records = site.instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(["reviews", leaf]), asset_partitions=[partition] if partition else None
        ),
        limit=1,
    ).records
    found = records[0].asset_materialization
    assert found is not None
    return dict(found.metadata)


def rows(value: Any) -> list[dict[str, Any]]:
    return [dict(record.data) for record in value.records]


def worst_chunk(site: Miniature) -> tuple[str, int, int]:
    """Its partition, how many of its requests failed, and how many it has."""
    worst = "SELECT snapshot || '|' || chunk, errored, requests FROM ops.chunks ORDER BY errored DESC, chunk LIMIT 1"
    ((partition, errored, requests),) = site.rows(worst)
    assert errored > 0
    return partition, errored, requests


@pytest.mark.parametrize(("leaf", "more"), [("results", set()), ("summary", {"turnaround_hours_max", "saved_usd"})])
def test_figures_have_the_same_names_and_are_numbers(site: Miniature, leaf: str, more: set[str]) -> None:
    found = metadata(site, leaf)
    assert set(found) >= PLOTTED | more
    assert {type(found[name].value) for name in PLOTTED | more} <= {int, float}


def test_a_chunk_tells_its_failed_records_with_their_errors_and_no_prompt(site: Miniature) -> None:
    worst, errored, _ = worst_chunk(site)
    found = metadata(site, "results", worst)
    assert rows(found["failures_by_reason"]) == [{"records": errored, "error": "invalid_request_error: too odd"}]
    failed = rows(found["failed_records"])
    assert len(failed) == errored
    assert {row["error"] for row in failed} == {"invalid_request_error: too odd"}
    assert "text number" not in str({name: value for name, value in found.items() if name != "preview"})


def test_the_newest_chunk_and_the_summary_lead_to_the_failed_records(site: Miniature) -> None:
    worst, errored, requests = worst_chunk(site)
    path = partition_path(dg.AssetKey(["reviews", "results"]), worst)
    for leaf in ("results", "merged", "summary"):
        found = metadata(site, leaf)
        assert found["most_failures"].value == f"[{errored} of {requests} in {worst.split('|')[1]}]({path})"
        assert path in found["chunks_with_failures"].value
        # No cell holds a batch's id: it cannot be broken, and pushed the page's table out of sight.
        assert "| msgbatch_" not in found["chunks_with_failures"].value


def test_a_batch_leads_to_its_chunk_and_back(site: Miniature) -> None:
    batch, results = metadata(site, "batches", FIRST), metadata(site, "results", FIRST)
    assert batch["batch_id"] == results["batch_id"]
    assert partition_path(dg.AssetKey(["reviews", "results"]), FIRST) in batch["results"].value
    assert partition_path(dg.AssetKey(["reviews", "batches"]), FIRST) in results["batch"].value


def test_the_summary_has_three_pictures_within_itself(site: Miniature) -> None:
    images = metadata(site, "summary")["pictures"].value.split("\n\n")
    assert len(images) == 3
    for image in images:
        kind, _, data = image.partition("](")[2].rstrip(")").partition(",")
        assert kind == "data:image/svg+xml;base64"
        root = ElementTree.fromstring(base64.b64decode(data))
        # As wide as Dagster's dialog in a window of 800 px: 80 % of it, less the margins.
        assert 0 < float(root.get("width") or 0) <= 600
        assert root.get("height")


def test_merged_columns_have_types_meanings_and_origins(site: Miniature) -> None:
    found = metadata(site, "merged")
    columns = {column.name: column for column in found["dagster/column_schema"].value.columns}
    assert columns["stars"].type == "BIGINT"
    assert columns["stars"].description == "One to five; made from text"
    assert columns["outcome"].type.startswith("ENUM(")
    origins = {
        name: [(dep.asset_key.to_user_string(), dep.column_name) for dep in deps]
        for name, deps in found["dagster/column_lineage"].value.deps_by_column.items()
    }
    requests = "reviews/requests"
    assert origins["stars"] == origins["answer"] == [(requests, "text")]  # what the prompt asks for
    assert origins["id"] == [(requests, "id")]
    assert {column.name for column in metadata(site, "requests")["dagster/column_schema"].value.columns} == {
        "record_id", "id", "text"
    }  # fmt: skip


def test_result_columns_are_those_of_attempts_in_the_warehouse(site: Miniature) -> None:
    found = metadata(site, "results")
    shown = {column.name: column for column in found["columns"].value.columns}
    published = [name for (name,) in site.rows("SELECT column_name FROM (DESCRIBE reviews.attempts)")]
    assert set(shown) == set(published) - {"fingerprint"}  # a digest, for joins only
    assert shown["stars"].description == "One to five; made from text"
    assert shown["max_tokens"].description == "the limit it was asked with"
    assert set(found["dagster/column_lineage"].value.deps_by_column) == {"record_id", "answer", "stars"}


def test_automations_are_found_by_workload_and_have_owners(site: Miniature) -> None:
    controller = site.repository.get_sensor_def("controller")
    assert controller.tags == {"claude_workload/reviews": ""}  # `tag: "claude_workload/reviews"` on the Automation page
    assert list(controller.owners or ()) == ["team:reviews"]


def test_a_run_that_a_person_launched_is_found_by_workload_and_snapshot(site: Miniature) -> None:
    mine = dg.RunsFilter(tags={"claude/workload": "reviews", "claude/snapshot": f"{PARTITION}.1"})
    assert {run.job_name for run in site.instance.get_runs(mine)} >= {
        "reviews_submit", "reviews_collect", "reviews_finalize"
    }  # fmt: skip
    assert any("claude/action" not in run.tags for run in site.instance.get_runs(mine))


def test_the_runs_of_a_batch_are_found_by_its_id(site: Miniature) -> None:
    batch = metadata(site, "batches", FIRST)["batch_id"].value
    runs = site.instance.get_runs(dg.RunsFilter(tags={f"dagster/claude_batch/{batch}": "yes"}))
    assert {run.job_name for run in runs} == {"reviews_submit", "reviews_collect"}


def test_each_asset_has_its_group_kinds_owners_and_words(site: Miniature) -> None:
    graph = site.repository.asset_graph
    nodes = [graph.get(key) for key in graph.get_all_asset_keys() if key.path[0] == "reviews"]
    assert {node.group_name for node in nodes} == {"reviews"}
    assert {tuple(node.owners) for node in nodes} == {("team:reviews",)}
    assert all(node.kinds and node.description for node in nodes)
    assert "Rate: {{ text }}" in str(graph.get(dg.AssetKey(["reviews", "requests"])).description)
