"""Whole snapshots in real time, and the rest of those that went as batches: the stages alone, as the controller decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_pipeline.controller import Kind, decide, describe, survey
from claude_pipeline.ledger import ChunkState
from claude_pipeline.report import summarize
from claude_pipeline.simulator import Simulator, running
from claude_pipeline.stage.collect import collect
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import (
    PARTITION,
    asked,
    ended_batches,
    note,
    token_of,
    workload_over,
    write_dataset,
)
from claude_pipeline_tests.integration.choice_case import HAIKU, OPUS, SONNET, TOMORROW
from claude_pipeline_tests.integration.realtime_case import (
    ask_now,
    bill,
    check_cost,
    check_delivered,
    chunks_of,
    fast,
    fast_options,
    to_rest,
)

ROWS = [note(number) for number in range(25)]
OUTPUT = {
    "type": "object",
    "properties": {"queue": {"type": "string", "enum": ["a", "b"]}, "sure": {"type": "boolean"}},
    "required": ["queue", "sure"],
}
Run = Callable[..., None]


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    with running(fast_options()) as simulator:
        yield simulator


@pytest.fixture
def desk(desk: Desk, tmp_path: Path) -> Desk:
    return fast(desk, tmp_path)


@pytest.fixture
def run(desk: Desk, simulator: Simulator, clock: MovableClock) -> Run:
    def until_at_rest(workload: Workload, partition: str = PARTITION) -> None:
        prepare(desk, workload, partition)
        to_rest(desk, workload, simulator, clock)

    return until_at_rest


def lanes(desk: Desk, name: str = "notes") -> dict[str, int]:
    """Answers of the newest snapshot by lane."""
    return dict(asked(desk, f"SELECT lane, count(*) FROM {name}.latest GROUP BY 1"))


def test_a_snapshot_is_asked_in_real_time(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    run(workload_over(tmp_path, ROWS, lane="realtime"))
    assert bill(simulator) == (len(ROWS), 0)
    assert simulator.invoice()["batches"] == 0
    assert {(chunk.state, chunk.lane) for chunk in chunks_of(desk)} == {(ChunkState.DONE, "realtime")}
    rows = asked(desk, "SELECT DISTINCT answer_source, lane, batch_id, attempt FROM notes.results")
    assert rows == [("realtime", "realtime", None, 1)]
    check_cost(desk, simulator)


def test_each_record_gets_the_answer_to_its_own_question(desk: Desk, run: Run, tmp_path: Path) -> None:
    run(workload_over(tmp_path, ROWS, lane="realtime"))
    rows = asked(desk, "SELECT record_id, text, answer FROM notes.latest")
    assert len(rows) == len(ROWS)
    assert [row for row in rows if not row[2].startswith(token_of(f"Sort: {row[1]}"))] == []


def test_both_lanes_fill_the_same_columns(desk: Desk, run: Run, tmp_path: Path) -> None:
    run(workload_over(tmp_path / "a", ROWS, lane="realtime", output=OUTPUT))
    run(workload_over(tmp_path / "b", ROWS, name="others", output=OUTPUT, prompt="Rank: {{ text }}"))
    described = (
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = '{}' AND table_name = '{}'"
    )
    for view in ("results", "latest", "attempts"):
        realtime, batch = (asked(desk, described.format(schema, view)) for schema in ("notes", "others"))
        assert realtime == batch
    filled = "SELECT count(answer), count(queue), count(sure), count(cost_usd), count(answered_at), count(error_type) FROM {}.results"
    assert asked(desk, filled.format("notes")) == asked(desk, filled.format("others"))


def test_a_route_asks_three_classes_of_models(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    rows = [note(n) | {"size": n % 3} for n in range(30)]
    route = [{"when": "size = 0", "model": HAIKU}, {"when": "size = 1", "model": SONNET}, {"model": OPUS}]
    run(workload_over(tmp_path, rows, lane="realtime", model=None, route=route))
    billed = {model: row["billed"] for model, row in simulator.invoice()["by_model"].items()}
    assert billed == {HAIKU: 10, SONNET: 10, OPUS: 10}
    check_delivered(desk, 30)
    check_cost(desk, simulator)


def test_structured_answers_are_checked_and_joined(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    simulator.faults.add(kind="line_answer", endpoint="messages", form="prose", share=0.2)
    run(workload_over(tmp_path, ROWS, lane="realtime", output=OUTPUT))
    invalid, valid = asked(desk, "SELECT count(*) FILTER (error_type IS NOT NULL), count(queue) FROM notes.results")[0]
    assert invalid > 0
    assert valid == len(ROWS) - invalid
    assert bill(simulator) == (len(ROWS), 0)


def test_the_cache_is_filled_by_one_request_and_read_by_the_others(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    run(workload_over(tmp_path, ROWS, lane="realtime", system="Rules of the house. " * 300, cache="auto"))
    wrote, read = asked(
        desk,
        "SELECT count(*) FILTER (cache_write_tokens > 0), count(*) FILTER (cache_read_tokens > 0) FROM notes.attempts",
    )[0]
    assert (wrote, read) == (1, len(ROWS) - 1)
    check_delivered(desk, len(ROWS))
    check_cost(desk, simulator)


def test_a_cascade_asks_its_next_model_in_real_time(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    cascade = [HAIKU, SONNET]
    doubt = {"gives_up_when": "NOT sure"}
    run(workload_over(tmp_path, ROWS, lane="realtime", model=None, cascade=cascade, output=OUTPUT, **doubt))
    billed = {model: row["billed"] for model, row in simulator.invoice()["by_model"].items()}
    unsure = asked(desk, f"SELECT count(*) FROM notes.attempts WHERE model = '{HAIKU}' AND NOT sure")[0][0]
    assert billed == {HAIKU: len(ROWS), SONNET: unsure}
    assert unsure > 0
    check_delivered(desk, len(ROWS))
    check_cost(desk, simulator)


def test_a_question_that_two_records_ask_is_asked_once(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    run(workload_over(tmp_path, [note(n, text=f"text {n % 10}") for n in range(25)], lane="realtime"))
    assert bill(simulator) == (10, 0)
    check_delivered(desk, 25)
    assert dict(asked(desk, "SELECT answer_source, count(*) FROM notes.results GROUP BY 1")) == {
        "realtime": 10,
        "duplicate": 15,
    }


def test_a_second_snapshot_asks_only_what_changed(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    workload = workload_over(tmp_path, ROWS, lane="realtime")
    run(workload)
    changed = [note(n, text=f"new {n}") if n < 3 else note(n) for n in range(27)]
    write_dataset(tmp_path / "notes.jsonl", changed)

    run(workload, TOMORROW)

    assert bill(simulator) == (len(ROWS) + 5, 0)
    check_delivered(desk, 27)
    assert dict(asked(desk, "SELECT answer_source, count(*) FROM notes.latest GROUP BY 1")) == {
        "realtime": 5,
        "reuse": 22,
    }
    check_cost(desk, simulator)


def test_answers_of_one_lane_are_reused_in_the_other(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    workload = workload_over(tmp_path, ROWS)
    run(workload)
    run(workload.model_copy(update={"lane": "realtime"}), TOMORROW)
    assert bill(simulator) == (len(ROWS), 0)
    assert lanes(desk) == {"batch": len(ROWS)}


def test_a_snapshot_asked_in_real_time_is_summed_up(desk: Desk, run: Run, tmp_path: Path) -> None:
    # It was told to have sent nothing and cost nothing: only batches were counted.
    workload = workload_over(tmp_path, ROWS, lane="realtime")
    run(workload)
    snapshot = desk.ledger.snapshots("notes")[-1]
    found = summarize(desk, workload, snapshot)
    assert (found.requests, found.batches, found.rounds) == (len(ROWS), 0, 1)
    assert found.cost_usd == pytest.approx(asked(desk, "SELECT sum(cost_usd) FROM notes.results")[0][0], abs=1e-9)
    assert found.realtime_usd == pytest.approx(found.cost_usd)
    assert "saved" not in found.markdown()


# The rest of a snapshot.


def test_what_a_batch_left_unanswered_is_asked_in_real_time_near_the_deadline(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    workload = workload_over(tmp_path, ROWS[:20], lane="auto", deadline_hours=2)
    simulator.faults.add(kind="line_error", endpoint="create", share=0.3, attempts=1)
    ended_batches(desk, workload, simulator)
    clock.advance(1.5 * 3600)
    simulator.clock.advance(1.5 * 3600)
    collect(desk, workload)
    to_rest(desk, workload, simulator, clock)
    of_round = {(chunk.round, chunk.lane) for chunk in chunks_of(desk)}
    assert of_round == {(1, "batch"), (2, "realtime")}
    assert bill(simulator) == (20, 0)
    check_delivered(desk, 20)
    check_cost(desk, simulator)


def test_far_from_the_deadline_the_rest_goes_as_a_batch_again(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", endpoint="create", share=0.3, attempts=1)
    run(workload_over(tmp_path, ROWS, lane="auto", deadline_hours=20))
    assert {(chunk.round, chunk.lane) for chunk in chunks_of(desk)} == {(1, "batch"), (2, "batch")}
    check_delivered(desk, len(ROWS))


def test_chunks_that_wait_for_real_time_are_told(desk: Desk, tmp_path: Path, clock: MovableClock) -> None:
    workload = workload_over(tmp_path, ROWS, lane="realtime")
    prepare(desk, workload, PARTITION)
    situation = survey(desk, workload)
    assert [action.kind for action in decide(situation)] == [Kind.ASK]
    assert describe(situation, clock()) == "notes: 3 chunks wait to be asked in real time"
    ask_now(desk, workload)
    assert [action.kind for action in decide(survey(desk, workload))] == [Kind.FINALIZE]
