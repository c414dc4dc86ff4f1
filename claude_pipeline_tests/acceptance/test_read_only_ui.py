"""`ui --read-only`: Dagster's own webserver behind the guard, in this process."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.testclient import TestClient

from claude_pipeline.cli.guard import Guard

pytestmark = pytest.mark.acceptance
LAUNCH = """mutation { launchRun(executionParams: {mode: "default", runConfigData: {}, selector: {
  repositoryLocationName: "claude_pipeline", repositoryName: "__repository__", pipelineName: "tickets_requests"}}) {
  __typename } }"""
MUTATIONS = {
    "launchRun": LAUNCH,
    "terminateRun": 'mutation { terminateRun(runId: "r") { __typename } }',
    "deletePipelineRun": 'mutation { deletePipelineRun(runId: "r") { __typename } }',
    "reloadWorkspace": "mutation { reloadWorkspace { __typename } }",
    "wipeAssets": 'mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["a"]}}]) { __typename } }',
    "reportRunlessAssetEvents": """mutation { reportRunlessAssetEvents(eventParams: {
        eventType: ASSET_MATERIALIZATION, assetKey: {path: ["a"]}}) { __typename } }""",
}


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with (
        dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance,
        WorkspaceProcessContext(instance, None, read_only=True) as context,
    ):
        app = create_app_from_workspace_process_context(context)
        yield TestClient(Guard(app, read_only=True), base_url="http://127.0.0.1:3000")


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_read_only_ui_refuses_mutations(ui: TestClient, name: str) -> None:
    answer = ui.post("/graphql", json={"query": MUTATIONS[name]})

    assert answer.json() == {"data": {name: {"__typename": "UnauthorizedError"}}}


def test_it_takes_no_report_of_an_asset_and_still_answers_questions(ui: TestClient) -> None:
    assert ui.post("/report_asset_materialization/a", json={"partition": "p"}).status_code == 403
    assert ui.post("/graphql", json={"query": "{ version }"}).status_code == 200
    assert ui.get("/").text.startswith("<!DOCTYPE html>")
