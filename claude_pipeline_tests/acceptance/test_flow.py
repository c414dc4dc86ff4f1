"""The whole flow through Dagster's own objects in one process: a daemon in miniature.

Each turn evaluates the controller sensor as the daemon does (it checks job names, partition keys and
tags) and runs what it asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from claude_pipeline.components.compose import compose
from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.components.partition import snapshot_partitions
from claude_pipeline.components.sensor import NAME
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.workload import Workload

PARTITION = "2026-11-22"
TURNS_MAX = 40
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Miniature:
    """A code location, an instance and a daemon's turn, without processes."""

    def __init__(
        self, workloads: list[Workload], home: Path, instance: dg.DagsterInstance, *, desk: DeskResource | None = None
    ) -> None:
        self.home, self.instance = home, instance
        self.repository = compose(workloads, desk=desk or DeskResource(home=str(home))).get_repository_def()
        self.last_reason: str | None = None
        self._run_keys: set[str] = set()

    def run(self, job: str, partition: str | None = None, tags: dict[str, str] | None = None) -> bool:
        result = self.repository.get_job(job).execute_in_process(
            instance=self.instance, partition_key=partition, tags=tags or {}, run_config=QUIET, raise_on_error=False
        )
        return bool(result.success)

    def materialize(self, workload: str, leaf: str, partition: str) -> bool:
        """As a person does in the UI: one partition of one asset."""
        result = dg.materialize(
            list(self.repository.assets_defs_by_key.values()),
            selection=[dg.AssetKey([workload, leaf])],
            partition_key=partition,
            instance=self.instance,
            run_config=QUIET,
            raise_on_error=False,
        )
        return bool(result.success)

    def turn(self) -> list[tuple[str, bool]]:
        """One tick; returns the jobs it ran and whether they succeeded."""
        resources = {"desk": DeskResource(home=str(self.home))}
        with dg.build_sensor_context(
            instance=self.instance, repository_def=self.repository, sensor_name=NAME, resources=resources
        ) as context:
            found: Any = self.repository.get_sensor_def(NAME).evaluate_tick(context)
        self.last_reason = found.skip_message
        for event in found.asset_events:  # as the daemon keeps them
            self.instance.report_runless_asset_event(event)
        requests = [request for request in found.run_requests or [] if request.run_key not in self._run_keys]
        self._run_keys |= {request.run_key for request in requests if request.run_key}  # as the daemon remembers them
        return [
            (
                request.job_name,
                self.run(
                    request.job_name,
                    request.partition_key or request.tags.get("dagster/partition"),
                    {k: v for k, v in request.tags.items() if not k.startswith("dagster/partition")},
                ),
            )
            for request in requests
        ]

    def turns(self, simulator: Simulator, *, advance_seconds: float = 120) -> list[str]:
        """Turns, with the simulator's clock moved on, until nothing is left to do; the jobs run."""
        ran = []
        for _ in range(TURNS_MAX):
            done = self.turn()
            assert all(success != job.endswith("_flag") for job, success in done), done
            ran += [job for job, _ in done]
            if not done and (self.last_reason or "nothing to do") == "nothing to do":
                return ran
            simulator.clock.advance(advance_seconds)
        raise AssertionError(f"not at rest after {TURNS_MAX} turns: {self.last_reason}")

    def materialized(self, workload: str, leaf: str) -> set[str]:
        return self.instance.get_materialized_partitions(dg.AssetKey([workload, leaf]))

    def failed(self, workload: str, leaf: str) -> set[str]:
        status = self.instance.get_status_by_partition(
            dg.AssetKey([workload, leaf]),
            self.instance.get_dynamic_partitions(f"{workload}_chunks"),
            dg.DynamicPartitionsDefinition(name=f"{workload}_chunks"),
        )
        return {key for key, found in (status or {}).items() if found is not None and found.name == "FAILED"}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str((self.home / "warehouse.duckdb").resolve()), read_only=True) as duck:
            return duck.execute(sql).fetchall()


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with running(Options(paused=True, batch_seconds=(60, 60), seed=3)) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
        monkeypatch.setenv("CLAUDE_PIPELINE_SETTLE_SECONDS", "0")
        yield simulator


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def workload(folder: Path, rows: int = 40, **changes: object) -> Workload:
    """A workload over a CSV of its own."""
    write_rows(folder / "rows.csv", rows)
    attributes = {
        "name": "reviews",
        "dataset": {"path": str(folder / "rows.csv"), "id": "id"},
        "model": "claude-haiku-5-5",
        "prompt": "Rate: {{ text }}",
        "max_tokens": 64,
        "chunk": {"requests": 15},
        "start_date": "2026-11-01",
    }
    return Workload.from_attributes(attributes | changes)


def write_rows(path: Path, count: int) -> None:
    path.write_text("id,text\n" + "".join(f"{n},text number {n}\n" for n in range(count)), encoding="utf-8")


@pytest.mark.both_databases
def test_the_first_asset_alone_fills_the_warehouse(
    tmp_path: Path,
    simulator: Simulator,
    instance: dg.DagsterInstance,
    ledger_url: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLAUDE_PIPELINE_LEDGER_URL", ledger_url or "")
    mini = Miniature([workload(tmp_path)], tmp_path / "home", instance)

    assert mini.run("reviews_requests", PARTITION)
    ran = mini.turns(simulator)

    assert ran == ["reviews_submit", "reviews_collect", "reviews_finalize"]
    assert mini.materialized("reviews", "batches") == {f"{PARTITION}.1|r1-000{n}" for n in (1, 2, 3)}
    assert mini.materialized("reviews", "results") == mini.materialized("reviews", "batches")
    assert mini.materialized("reviews", "merged") == {PARTITION}
    assert mini.rows("SELECT count(*), count(answer), count(DISTINCT record_id) FROM reviews.results") == [(40, 40, 40)]


def test_overloaded_requests_are_asked_again_in_a_second_round(
    tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance
) -> None:
    # Each chunk of the second round was added as a partition twice, which failed its first submission.
    mini = Miniature([workload(tmp_path)], tmp_path / "home", instance)
    simulator.faults.add(endpoint="create", kind="line_error", error_type="overloaded_error", share=0.2, attempts=1)
    mini.run("reviews_requests", PARTITION)

    ran = mini.turns(simulator)

    assert ran == [f"reviews_{kind}" for kind in ("submit", "collect", "submit", "collect", "finalize")]
    assert f"{PARTITION}.1|r2-0001" in mini.materialized("reviews", "results")
    assert mini.rows("SELECT count(answer) FROM reviews.results") == [(40,)]


def test_a_second_materialization_on_unchanged_data_sends_nothing(
    tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance
) -> None:
    mini = Miniature([workload(tmp_path)], tmp_path / "home", instance)
    mini.run("reviews_requests", PARTITION)
    mini.turn()
    assert simulator.state()["requests_in_flight"] == 40

    assert mini.run("reviews_requests", PARTITION)  # while the first one's batches still run
    mini.turns(simulator)
    assert mini.run("reviews_requests", PARTITION)  # and after they ended

    assert mini.turns(simulator) == []
    assert simulator.invoice()["accepted_requests"] == 40


def test_ten_added_rows_send_ten_requests(tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance) -> None:
    mini = Miniature([workload(tmp_path)], tmp_path / "home", instance)
    mini.run("reviews_requests", PARTITION)
    mini.turn()

    write_rows(tmp_path / "rows.csv", 50)
    mini.run("reviews_requests", PARTITION)
    mini.turns(simulator)

    assert simulator.invoice()["accepted_requests"] == 50
    assert mini.rows("SELECT snapshot, count(answer) FROM reviews.results GROUP BY snapshot ORDER BY snapshot") == [
        (f"{PARTITION}.1", 40),
        (f"{PARTITION}.2", 50),
    ]
    assert mini.rows("SELECT count(*) FROM reviews.latest") == [(50,)]


def test_a_schedule_tick_asks_for_the_partition_that_holds_it(tmp_path: Path) -> None:
    mini = Miniature(
        [workload(tmp_path, schedule="0 2 * * *", timezone="Asia/Tokyo")],
        tmp_path / "home",
        dg.DagsterInstance.ephemeral(),
    )
    at = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)  # 02:00 of the 23rd in Tokyo
    context = dg.build_schedule_context(scheduled_execution_time=at, repository_def=mini.repository)
    (request,) = mini.repository.get_schedule_def("reviews_schedule").evaluate_tick(context).run_requests or []

    assert (request.partition_key, mini.repository.get_schedule_def("reviews_schedule").job_name) == (
        "2026-11-23",
        "reviews_requests",
    )


def test_a_failing_action_is_cooled_down_for_two_ticks_not_relaunched(
    tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_PIPELINE_TICK_SECONDS", "5")
    mini = Miniature([workload(tmp_path)], tmp_path / "home", instance)
    mini.run("reviews_requests", PARTITION)
    simulator.faults.add(endpoint="results", kind="status", status=500)
    mini.turn()
    simulator.clock.advance(120)

    assert mini.turn() == [("reviews_collect", False)]
    assert mini.turn() == []
    wait = re.search(r"the last collect failed; next try in (\d+) s", mini.last_reason or "")
    assert wait is not None
    assert int(wait[1]) <= 10


def test_a_refused_chunk_is_repaired_by_materializing_its_partition(
    tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance
) -> None:
    mini = Miniature([workload(tmp_path)], tmp_path / "home", instance)
    mini.run("reviews_requests", PARTITION)
    simulator.faults.add(endpoint="create", kind="status", status=404, count=1)
    mini.turns(simulator)
    assert mini.rows("SELECT outcome, count(*) FROM reviews.latest GROUP BY outcome ORDER BY 1") == [
        ("errored", 15),
        ("succeeded", 25),
    ]
    assert mini.failed("reviews", "batches") == {f"{PARTITION}.1|r1-0001"}  # red in the UI: Materialize > Failed

    assert mini.materialize("reviews", "batches", f"{PARTITION}.1|r1-0001")
    mini.turns(simulator)

    assert mini.rows("SELECT outcome, count(*) FROM reviews.latest GROUP BY outcome") == [("succeeded", 40)]
    assert simulator.invoice()["billed_requests"] == 40


def test_a_collected_chunk_is_refused(tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance) -> None:
    mini = Miniature([workload(tmp_path)], tmp_path / "home", instance)
    mini.run("reviews_requests", PARTITION)
    mini.turns(simulator)

    assert not mini.materialize("reviews", "batches", f"{PARTITION}.1|r1-0001")

    assert simulator.invoice()["accepted_requests"] == 40


def test_snapshot_partitions_include_the_running_one(tmp_path: Path) -> None:
    definition = snapshot_partitions(workload(tmp_path))
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert definition.get_partition_keys(current_time=now)[-1] == PARTITION


def test_nothing_of_the_key_is_in_what_dagster_stored(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "CANARY-0123456789")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        mini = Miniature([workload(tmp_path)], tmp_path / "home", instance)
        mini.run("reviews_requests", PARTITION)
        mini.turns(simulator)

    leaks = [p for p in tmp_path.rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()]
    assert leaks == []
