"""A running Dagster with a home and an API: what tests ask of it, and the workloads that they give it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import yaml

from claude_pipeline.cli.dagster_dev import DagsterDev
from claude_pipeline.home import Home
from claude_pipeline.ledger import ChunkState, Ledger
from claude_pipeline.simulator import Simulator

PATIENCE_SECONDS = 240
LAUNCH = """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
PARTITIONS = """query($k: AssetKeyInput!) { assetNodeOrError(assetKey: $k) { ... on AssetNode {
  partitionStats { numMaterialized numFailed numPartitions } } } }"""
SCHEDULES = """query { schedulesOrError(repositorySelector: {repositoryLocationName: "claude_pipeline",
  repositoryName: "__repository__"}) { ... on Schedules { results { name id scheduleState { status } } } } }"""
STOP = """mutation($id: String!) { stopRunningSchedule(id: $id) { __typename
  ... on ScheduleStateResult { scheduleState { status } } } }"""
BY_HAND = 'query { runsOrError(filter: {pipelineName: "__ASSET_JOB"}) { ... on Runs { count } } }'


@dataclass
class Site:
    """A running Dagster with its home and its API."""

    dagster: DagsterDev
    home: Home
    simulator: Simulator
    data: Path

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if not self.home.warehouse.exists():
            return []
        with duckdb.connect(str(self.home.warehouse.resolve()), read_only=True) as duck:
            try:
                return duck.execute(sql).fetchall()
            except duckdb.CatalogException:
                return []

    def materialized(self, *key: str) -> int:
        stats = self.dagster.ask(PARTITIONS, {"k": {"path": list(key)}})["assetNodeOrError"]["partitionStats"]
        assert stats["numFailed"] == 0, stats
        return int(stats["numMaterialized"])

    def execution(self, workload: str) -> dict[str, Any]:
        """Params that materialize the running partition of the first asset, as the UI's dialog has them."""
        selector = {
            "repositoryLocationName": "claude_pipeline",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": [workload, "requests"]}],
        }
        tags = [{"key": "dagster/partition", "value": time.strftime("%Y-%m-%d", time.gmtime())}]
        return {"selector": selector, "mode": "default", "runConfigData": {}, "executionMetadata": {"tags": tags}}

    def materialize_requests(self, workload: str) -> None:
        answer = self.dagster.ask(LAUNCH, {"p": self.execution(workload)})
        assert answer["launchPipelineExecution"]["__typename"] == "LaunchRunSuccess", answer

    def launched(self) -> int:
        """Runs that nobody but a person, or who poses as one, can have launched."""
        return int(self.dagster.ask(BY_HAND, {})["runsOrError"]["count"])

    def stop_schedules(self) -> None:
        """As a person does in the UI: no tick follows."""
        found = self.dagster.ask(SCHEDULES, {})["schedulesOrError"]["results"]
        running = [each["id"] for each in found if each["scheduleState"]["status"] == "RUNNING"]
        assert running
        for schedule in running:
            stopped = self.dagster.ask(STOP, {"id": schedule})["stopRunningSchedule"]
            assert stopped["scheduleState"]["status"] == "STOPPED", stopped

    def planned(self, workload: str) -> int:
        with Ledger.open(None, path=self.home.ledger) as ledger:
            return sum(s.planned_at is not None for s in ledger.snapshots(workload))

    def at_rest(self, workload: str) -> bool:
        with Ledger.open(None, path=self.home.ledger) as ledger:
            snapshots = ledger.snapshots(workload)
            busy = ledger.chunks(workload, states=[s for s in ChunkState if s not in (ChunkState.DONE,)])
            return bool(snapshots) and not busy and not ledger.unpublished(workload) and not ledger.progress(workload)

    def asked(self, workload: str) -> int:
        """Questions of a workload that reached the API; those of later rounds are the same ones again."""
        with Ledger.open(None, path=self.home.ledger) as ledger:
            return sum(chunk.requests for chunk in ledger.chunks(workload) if chunk.batch_id and chunk.round == 1)


def until(happened: Callable[[], Any], what: str) -> Any:
    """Real processes have no clock to move: look until it happened."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(1)  # real processes: no clock to move
    raise AssertionError(f"did not happen in {PATIENCE_SECONDS} s: {what}")


def write_rows(path: Path, count: int) -> None:
    path.write_text("id,text\n" + "".join(f"{n},{path.stem} number {n}\n" for n in range(count)), encoding="utf-8")


def write_workload(folder: Path, name: str, data: Path, **changes: object) -> None:
    attributes = {
        "name": name,
        "dataset": {"path": str(data / f"{name}.csv"), "id": "id"},
        "model": "claude-haiku-5-5",
        "prompt": "Sort this: {{ text }}",
        "max_tokens": 64,
        "chunk": {"requests": 20},
        "output": {
            "type": "object",
            "properties": {"kind": {"type": "string", "enum": ["a", "b"]}},
            "required": ["kind"],
        },
        "start_date": "2026-11-01",
    } | changes
    (folder / name).mkdir(parents=True)
    document = {"type": "claude_pipeline.ClaudeWorkload", "attributes": attributes}
    (folder / name / "defs.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
