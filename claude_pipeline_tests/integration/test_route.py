"""A route: each record asks the model of the first condition that holds, in chunks of one model each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from claude_pipeline.crash import told
from claude_pipeline.errors import CatalogMissing, WorkloadInvalid
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload_file import read_workload
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import PARTITION, asked, note, workload_over
from claude_pipeline_tests.integration.choice_case import (
    HAIKU,
    OPUS,
    SONNET,
    TOMORROW,
    Run,
    accepted,
    billed,
    check_delivered,
    models,
    runner,
)

RECORDS = 30
EXAMPLE = Path(__file__).parents[2] / "data" / "examples" / "route.yaml"


@pytest.fixture
def run(desk: Desk, simulator: Simulator, clock: MovableClock) -> Run:
    return runner(desk, simulator, clock)


def rows() -> list[dict[str, Any]]:
    """Each third record is long, each tenth has no size."""
    return [note(n) | {"size": None if n % 10 == 9 else (100 if n % 3 == 0 else 1)} for n in range(RECORDS)]


def route(when: str = "size < 50", first: str = HAIKU, rest: str = SONNET) -> dict[str, Any]:
    return {"model": None, "route": [{"when": when, "model": first}, {"model": rest}]}


def test_each_record_asks_the_model_of_its_route_once(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    workload = workload_over(tmp_path, rows(), **route())

    run(workload)

    small = {row["id"] for row in rows() if row["size"] == 1}
    assert models(desk) == {row["id"]: HAIKU if row["id"] in small else SONNET for row in rows()}
    assert billed(simulator) == {HAIKU: len(small), SONNET: RECORDS - len(small)}
    check_delivered(desk, simulator, RECORDS)
    assert {chunk.model for chunk in desk.ledger.chunks("notes")} == {HAIKU, SONNET}


def test_the_first_condition_that_holds_decides(desk: Desk, run: Run, tmp_path: Path) -> None:
    entries = [{"when": "size > 50", "model": OPUS}, {"when": "size > 0", "model": HAIKU}, {"model": SONNET}]
    run(workload_over(tmp_path, rows(), model=None, route=entries))
    wanted = {None: SONNET, 1: HAIKU, 100: OPUS}
    assert models(desk) == {row["id"]: wanted[row["size"]] for row in rows()}


def test_an_unchanged_route_sends_nothing_again(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    workload = workload_over(tmp_path, rows(), **route())
    run(workload)

    run(workload)
    run(workload, TOMORROW)

    assert accepted(simulator) == RECORDS


def test_a_changed_condition_asks_only_the_records_whose_model_changed(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    run(workload_over(tmp_path, rows(), **route()))

    run(workload_over(tmp_path, rows(), **route("size < 50 OR id = 'n0'")))

    assert accepted(simulator) == RECORDS + 1
    assert models(desk)["n0"] == HAIKU
    assert asked(desk, "SELECT count(*) FROM notes.results") == [(RECORDS,)]


def test_an_error_that_passes_is_asked_again_of_the_same_model(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", share=0.5, attempts=1)
    run(workload_over(tmp_path, rows(), **route()))
    rounds = {(chunk.round, chunk.model) for chunk in desk.ledger.chunks("notes")}
    assert rounds == {(1, HAIKU), (1, SONNET), (2, HAIKU), (2, SONNET)}
    for chunk in desk.ledger.chunks("notes"):
        params = desk.path(chunk.params_path).read_text(encoding="utf-8").splitlines()
        assert all(f'"model":"{chunk.model}"' in line for line in params)
    check_delivered(desk, simulator, RECORDS)


@pytest.mark.parametrize("point", ["prepare.after_plan", "prepare.after_chunks", "submit.after_post"])
def test_a_run_that_ends_at_any_point_is_finished_by_the_next(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator, point: str
) -> None:
    workload = workload_over(tmp_path, rows(), **route())

    def die(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    with told(die), pytest.raises(KeyboardInterrupt):
        run(workload)
    run(workload)

    assert sum(billed(simulator).values()) == RECORDS
    check_delivered(desk, simulator, RECORDS)


@pytest.mark.parametrize(
    ("when", "sentence"),
    [
        pytest.param(
            "sise < 5", "route.0.when: there is no column 'sise', only record_id, id, text, size", id="column"
        ),
        pytest.param("size", "gives BIGINT, and must be true or false", id="not-boolean"),
        pytest.param("size <", "is no SQL condition", id="syntax"),
        pytest.param("id IN (SELECT 'a')", "holds a query of its own", id="subquery"),
        pytest.param("random() < 0.5", r"random\(\) changes from one look to the next", id="random"),
        pytest.param("CAST(text AS INT) > 1", r"route.0.when: fails on a record \(ConversionException\)", id="fails"),
    ],
)
def test_a_condition_that_cannot_be_decided_stops_before_anything_is_sent(
    desk: Desk, tmp_path: Path, when: str, sentence: str
) -> None:
    with pytest.raises(WorkloadInvalid, match=sentence):
        prepare(desk, workload_over(tmp_path, rows(), **route(when)), PARTITION)
    assert desk.ledger.chunks("notes") == []


def test_each_model_of_a_route_is_checked(desk: Desk, tmp_path: Path) -> None:
    workload = workload_over(tmp_path, rows(), **route(rest="claude-haiku-4-5"), max_tokens=100_000)
    with pytest.raises(WorkloadInvalid, match="over what claude-haiku-4-5 gives at most"):
        prepare(desk, workload, PARTITION)
    with pytest.raises(CatalogMissing, match="claude-hiku"):
        prepare(desk, workload_over(tmp_path, rows(), **route(rest="claude-hiku-5-5")), PARTITION)


def test_the_plan_says_which_model_each_record_asks(desk: Desk, tmp_path: Path) -> None:
    snapshot = prepare(desk, workload_over(tmp_path, rows(), **route()), PARTITION).snapshot
    plan = pq.read_table(desk.path(snapshot.plan_path or ""))
    assert set(zip(plan["record_id"].to_pylist(), plan["model"].to_pylist(), strict=True)) == {
        (row["id"], HAIKU if row["size"] == 1 else SONNET) for row in rows()
    }


def test_the_shipped_example_sends_simple_tickets_to_the_small_model(
    desk: Desk, run: Run, simulator: Simulator
) -> None:
    example = read_workload(EXAMPLE)
    dataset = example.dataset.model_copy(update={"sql": f"{example.dataset.sql} LIMIT 60"})

    run(example.model_copy(update={"dataset": dataset}))

    assert set(billed(simulator)) == {HAIKU, SONNET}
    check_delivered(desk, simulator, 60, example.name)
    told_apart = asked(desk, f"SELECT model, bool_and(simple) FROM {example.name}.results GROUP BY model")
    assert sorted(told_apart) == [(HAIKU, True), (SONNET, False)]
