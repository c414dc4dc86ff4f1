"""Prune: what is past its time goes, and nothing that anybody still needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from claude_pipeline.components.partition import add_chunk_partitions
from claude_pipeline.components.prune import prune_history
from claude_pipeline.ledger import ChunkState
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.prune import prune
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.factory import asked, ended_batches, note, prepared_snapshot, sent_chunks, workload_over

DAY = timedelta(days=1).total_seconds()


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    return workload_over(tmp_path, [note(n) for n in range(25)])


@pytest.fixture
def finished(desk: Desk, workload: Workload, simulator: Simulator) -> Desk:
    drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS))
    return desk


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def files(desk: Desk, pattern: str) -> list[str]:
    return sorted(path.name for path in desk.home.root.glob(pattern))


def test_raw_results_and_params_go_after_their_days(finished: Desk, workload: Workload, clock: MovableClock) -> None:
    assert prune(finished, [workload]).files == {}
    clock.advance(31 * DAY)

    done = prune(finished, [workload])

    assert done.files == {"downloads": 3, "params": 3}
    assert done.size_bytes > 0
    assert files(finished, "chunks/**/*.jsonl") == files(finished, "downloads/**/*.zst") == []
    assert asked(finished, "SELECT count(*) FROM notes.results WHERE outcome = 'succeeded'") == [(25,)]


def test_null_days_keep_for_ever(finished: Desk, workload: Workload, clock: MovableClock) -> None:
    clock.advance(10_000 * DAY)
    kept = workload.model_copy(update={"retention": workload.retention.model_copy(update={"days": None})})
    assert prune(finished, [kept]).files == {}


@pytest.mark.parametrize("state", ["ready", "live", "ended"])
def test_what_is_not_collected_stays(
    state: str, desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    match state:
        case "ready":
            prepared_snapshot(desk, workload)
        case "live":
            sent_chunks(desk, workload)
        case "ended":
            ended_batches(desk, workload, simulator)
    before = files(desk, "chunks/**/*")
    clock.advance(400 * DAY)

    prune(desk, [workload])

    assert files(desk, "chunks/**/*") == before
    assert {chunk.state for chunk in desk.ledger.chunks("notes")} == {ChunkState(state)}


def test_errors_that_may_still_be_asked_again_keep_their_params(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="line_error", share=1.0, attempts=1)
    ended_batches(desk, workload, simulator)
    drive.act(desk, workload, drive.Action(drive.Kind.COLLECT, "notes"))
    clock.advance(400 * DAY)
    prune(desk, [workload])
    assert len(files(desk, "chunks/**/*.jsonl")) == 3
    assert drive.carry_on(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS)).at_rest
    assert simulator.invoice()["billed_twice"] == 0


def test_more_rounds_after_a_prune_ask_nothing_again(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="line_error", share=1.0)
    workload = workload_over(tmp_path, [note(n) for n in range(5)], max_rounds=1)
    drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS))
    clock.advance(31 * DAY)
    prune(desk, [workload])

    patient = workload_over(tmp_path, [note(n) for n in range(5)], max_rounds=3)

    assert drive.carry_on(desk, patient, lambda: simulator.clock.advance(BATCH_SECONDS)).at_rest
    assert simulator.invoice()["batches"] == 1


def test_a_superseded_merge_goes_only_when_no_kept_version_reads_it(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    rows = [note(n) for n in range(4)] + [note(9, text="note 0")]  # a duplicate: a rest part in each merge
    workload = workload_over(tmp_path, rows)
    drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS))
    for number in range(6):
        workload = workload_over(tmp_path, rows, prompt=f"{number}: {{{{ text }}}}")
        drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS))
    merged = len(files(desk, "merged/**/*.parquet"))
    clock.advance(31 * DAY)

    done = prune(desk, [workload])

    assert done.files["merged"] == 4  # two of seven merges are past the five versions kept; each has two parts
    assert len(files(desk, "merged/**/*.parquet")) == merged - 4
    for version in sorted(desk.home.warehouse_versions.glob("v*.duckdb")):
        assert count_in(version) == 5
    assert done.files["plans"] == 6


def count_in(version: Path) -> int:
    import duckdb

    with duckdb.connect(str(version), read_only=True) as duck:
        row = duck.execute("SELECT count(*) FROM notes.results").fetchone()
    assert row is not None
    return int(row[0])


def test_a_prune_killed_half_way_is_finished_by_the_next(
    finished: Desk, workload: Workload, clock: MovableClock, tmp_path: Path
) -> None:
    file = tmp_path / "defs.yaml"
    fields = {**workload.model_dump(mode="json", exclude_unset=True)}
    file.write_text(json.dumps({"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}), encoding="utf-8")
    command = [sys.executable, "-m", "claude_pipeline.cli", "prune", str(file), "--days", "0"]
    environment = os.environ | {"CLAUDE_PIPELINE_HOME": str(finished.home.root)}
    killed = environment | {"CLAUDE_PIPELINE_CRASH_AT": "prune.before_params"}
    assert subprocess.run(command, env=killed, check=False, timeout=120).returncode == -signal.SIGKILL
    assert len(files(finished, "chunks/**/*.jsonl")) == 3

    done = subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True, text=True)

    assert "3 params" in done.stdout
    assert files(finished, "chunks/**/*.jsonl") == []
    assert asked(finished, "SELECT count(*) FROM notes.results WHERE outcome = 'succeeded'") == [(25,)]


def test_pruned_answers_are_still_reused(
    finished: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    clock.advance(31 * DAY)
    prune(finished, [workload])
    drive.run(finished, workload, lambda: simulator.clock.advance(BATCH_SECONDS), partition="2026-12-23")
    assert simulator.invoice()["batches"] == 3
    found = "SELECT answer_source, count(*) FROM notes.latest GROUP BY ALL"
    assert asked(finished, found) == [("reuse", 25)]


def test_chunk_partitions_of_finished_snapshots_go(
    finished: Desk, workload: Workload, instance: dg.DagsterInstance, clock: MovableClock
) -> None:
    add_chunk_partitions(instance, workload, [c.partition_key for c in finished.ledger.chunks("notes")])
    clock.advance(31 * DAY)
    prepare(finished, workload, "2026-12-23")
    assert prune_history(instance, finished, workload, None).partitions == 0
    assert prune_history(instance, finished, workload, 30).partitions == 3
    assert instance.get_dynamic_partitions("notes_chunks") == []


def test_runs_that_drained_the_ledger_go_and_others_stay(
    finished: Desk, workload: Workload, clock: MovableClock
) -> None:
    with dg.instance_for_test() as instance:
        for action in ("submit", "collect", "flag", "finalize", "requests"):
            empty_run(instance, {"claude/workload": "notes", "claude/action": action})
        empty_run(instance, {"claude/workload": "other", "claude/action": "submit"})
        clock.at = clock().replace(year=2100)

        assert prune_history(instance, finished, workload, 30).runs == 3

        kept = {(run.tags["claude/workload"], run.tags["claude/action"]) for run in instance.get_runs()}
        assert kept == {("notes", "finalize"), ("notes", "requests"), ("other", "submit")}


def empty_run(instance: dg.DagsterInstance, tags: dict[str, str]) -> None:
    @dg.job(name="nothing")
    def nothing() -> None:
        pass

    assert nothing.execute_in_process(instance=instance, tags=tags).success
