"""From a dataset to the warehouse by the controller's decisions, with both clocks moved by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.controller import survey
from claude_pipeline.errors import DatasetInvalid, UsageError, WorkloadInvalid
from claude_pipeline.report import summarize
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.factory import (
    PARTITION,
    asked,
    note,
    send_ready,
    sent_chunks,
    states,
    token_of,
    workload_over,
    write_dataset,
)

TOMORROW = "2026-11-23"
Run = Callable[..., Any]


@pytest.fixture
def run(desk: Desk, simulator: Simulator, clock: MovableClock) -> Run:
    """Bring a workload to rest; both clocks move where nothing else is to be done."""

    def until_at_rest(workload: Workload, partition: str = PARTITION, *, on: Desk = desk) -> Any:
        return drive.run(on, workload, wait, partition=partition)

    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(BATCH_SECONDS)

    return until_at_rest


def billed_units(simulator: Simulator) -> int:
    return round(float(simulator.invoice()["total_usd"]) * UNITS_PER_USD)


def accepted(simulator: Simulator) -> int:
    count: int = simulator.invoice()["accepted_requests"]
    return count


def mixed_rows() -> list[dict[str, Any]]:
    """300 records: 290 questions of their own, 8 duplicates, 2 without text."""
    rows = [note(n) for n in range(290)]
    rows += [note(290 + n, f"note {n * 30}") for n in range(8)]
    return [*rows[:100], note(298, None), *rows[100:], note(299, None)]


def test_a_whole_journey(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    """Every record has its own answer or its reason, and the cost is the invoice's to 1e-10 USD."""
    simulator.faults.add(kind="line_error", share=0.05, attempts=1)
    workload = workload_over(tmp_path, mixed_rows(), chunk={"requests": 50})
    assert run(workload).at_rest

    rows = asked(
        desk, "SELECT id, text, record_id, outcome, answer, answer_source, cost_usd, error_type FROM notes.results"
    )
    assert len(rows) == len({row[0] for row in rows}) == 300
    for own_id, text, record_id, outcome, answer, _, _, error_type in rows:
        assert own_id == record_id
        if text is None:
            assert (outcome, answer, error_type) == ("rejected", None, "missing_text")
        else:
            assert outcome == "succeeded"
            assert answer.startswith(token_of(f"Sort: {text}"))
    assert sorted((row[5] or "", 0) for row in rows).count(("duplicate", 0)) == 8
    assert sum(1 for row in rows if row[5] == "batch") == 290

    invoice = simulator.invoice()
    assert (invoice["billed_requests"], invoice["billed_twice"]) == (290, 0)
    assert round(sum(row[6] for row in rows) * UNITS_PER_USD) == billed_units(simulator)
    summary = summarize(desk, workload, desk.ledger.snapshots("notes")[0])
    assert round(summary.cost_usd * UNITS_PER_USD) == billed_units(simulator)
    assert (summary.records, summary.succeeded, summary.dead, summary.rejected) == (300, 298, 0, 2)
    assert (summary.duplicates, summary.reused, summary.rounds) == (8, 0, 2)
    costs = asked(desk, "SELECT sum(requests), sum(cost_usd) FROM ops.costs")[0]
    assert (costs[0], round(costs[1] * UNITS_PER_USD)) == (290, billed_units(simulator))


def test_each_answer_costs_what_the_invoice_says_of_it(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    run(workload_over(tmp_path, [note(n) for n in range(30)], model="claude-sonnet-5-5", system="Sort. " * 50))
    billed = {line["custom_id"]: line for line in map(json.loads, b"".join(simulator.invoice_lines()).splitlines())}
    rows = asked(desk, "SELECT custom_id, cost_usd, input_tokens, output_tokens FROM notes.attempts")
    assert len(rows) == 30
    for custom_id, cost_usd, input_tokens, output_tokens in rows:
        line = billed[custom_id]
        assert abs(cost_usd - float(line["cost_usd"])) <= 0.5e-10
        assert (input_tokens, output_tokens) == (line["tokens"]["input"], line["tokens"]["output"])


def test_structured_output_becomes_columns(desk: Desk, run: Run, tmp_path: Path) -> None:
    queue = {"type": "string", "enum": ["billing", "other"]}
    schema = {"type": "object", "properties": {"queue": queue, "answer": {"type": "string"}}, "required": ["queue"]}
    run(workload_over(tmp_path, [note(n) for n in range(10)], output=schema, max_tokens=200))
    rows = asked(desk, "SELECT text, queue, output_answer, error_type FROM notes.latest")
    assert {row[1] for row in rows} <= {"billing", "other"}
    assert all(row[2] is None or token_of(f"Sort: {row[0]}") in row[2] for row in rows)
    assert {row[3] for row in rows} == {None}


# Paying once.


def test_the_same_dataset_again_sends_nothing(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(20)])
    run(workload)
    again = prepare(desk, workload, PARTITION)
    assert (again.new_chunks, again.snapshot.id) == (0, "2026-11-22.1")
    assert survey(desk, workload).at_rest
    assert run(workload).at_rest
    assert accepted(simulator) == 20


def test_preparing_again_while_batches_run_sends_nothing(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(20)])
    sent_chunks(desk, workload)
    assert prepare(desk, workload, PARTITION).new_chunks == 0
    assert send_ready(desk, workload).sent == []
    assert accepted(simulator) == 20


def test_added_rows_ask_for_themselves_only(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    rows = [note(n) for n in range(20)]
    workload = workload_over(tmp_path, rows)
    run(workload)
    write_dataset(tmp_path / "notes.jsonl", [*rows, *(note(n) for n in range(20, 30))])
    run(workload)
    second = desk.ledger.snapshots("notes")[1]
    assert (second.id, second.asked, second.reused, second.succeeded) == ("2026-11-22.2", 10, 20, 30)
    assert accepted(simulator) == 30
    sources = asked(desk, "SELECT answer_source, count(*), sum(cost_usd) > 0 FROM notes.results WHERE snapshot = '2026-11-22.2' GROUP BY ALL ORDER BY 1")  # fmt: skip
    assert sources == [("batch", 10, True), ("reuse", 20, False)]
    rows_now = asked(desk, "SELECT text, answer FROM notes.latest")
    assert len(rows_now) == 30
    assert all(answer.startswith(token_of(f"Sort: {text}")) for text, answer in rows_now)


def test_questions_on_their_way_are_waited_for_and_not_asked_again(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    rows = [note(n) for n in range(20)]
    workload = workload_over(tmp_path, rows)
    sent_chunks(desk, workload)
    write_dataset(tmp_path / "notes.jsonl", [*rows[5:], note(20)])
    second = prepare(desk, workload, TOMORROW)
    assert (second.new_requests, second.snapshot.awaited) == (1, 15)
    assert run(workload, TOMORROW).at_rest
    assert accepted(simulator) == 21
    merged = asked(desk, "SELECT text, answer, answer_source FROM notes.results WHERE snapshot = '2026-11-23.1'")
    assert len(merged) == 16
    assert all(answer.startswith(token_of(f"Sort: {text}")) for text, answer, _ in merged)
    assert sorted(source for _, _, source in merged) == ["batch", *["reuse"] * 15]


def test_dead_letters_of_an_awaited_snapshot_are_asked_anew(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", count=1)  # the first batch: every line
    workload = workload_over(tmp_path, [note(n) for n in range(10)], max_rounds=1)
    sent_chunks(desk, workload)
    prepare(desk, workload, TOMORROW)
    assert run(workload, TOMORROW).at_rest
    first, second = desk.ledger.snapshots("notes")
    assert (first.dead, second.succeeded) == (10, 10)
    assert simulator.invoice()["billed_requests"] == 10


def test_a_changed_prompt_asks_anew(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    rows = [note(n) for n in range(10)]
    run(workload_over(tmp_path, rows))
    run(workload_over(tmp_path, rows, prompt="Judge: {{ text }}"))
    assert accepted(simulator) == 20
    found = asked(desk, "SELECT snapshot, text, answer FROM notes.results")
    assert {row[0] for row in found} == {"2026-11-22.1"}
    assert len(found) == 10
    assert all(answer.startswith(token_of(f"Judge: {text}")) for _, text, answer in found)


def test_without_reuse_a_new_snapshot_asks_anew(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    rows = [note(n) for n in range(10)]
    workload = workload_over(tmp_path, rows, reuse=False)
    run(workload)
    run(workload)  # the same snapshot: nothing
    assert accepted(simulator) == 10
    run(workload, TOMORROW)
    assert accepted(simulator) == 20


# Walls.


def test_a_budget_holds_chunks_back_and_lets_them_go_as_others_cost_less(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    rows = [note(n) for n in range(50)]
    roomy = workload_over(tmp_path, rows, max_tokens=1_000)  # far more than the answers need
    reserve = sum(chunk.reserve_units for chunk in prepare(desk, roomy, PARTITION).chunks)
    budget = reserve * 0.5 / UNITS_PER_USD  # over what all of them cost in the end, under their upper bounds
    workload = workload_over(tmp_path, rows, max_tokens=1_000, budget_usd=budget)
    sent_chunks(desk, workload)
    assert states(desk, workload) == ["live", "live", "held", "held", "held"]
    end = run(workload)
    assert end.at_rest
    assert set(states(desk, workload)) == {"done"}
    assert billed_units(simulator) <= budget * UNITS_PER_USD


def test_a_budget_too_small_stops_with_its_sentence(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    rows = [note(n) for n in range(30)]
    reserve = prepare(desk, workload_over(tmp_path, rows), PARTITION).chunks[0].reserve_units
    workload = workload_over(tmp_path, rows, budget_usd=reserve * 1.01 / UNITS_PER_USD)
    end = run(workload)
    assert not end.at_rest
    assert "would pass budget_usd" in end.wall
    assert states(desk, workload) == ["done", "held", "held"]
    run(workload_over(tmp_path, rows, budget_usd=100))
    assert accepted(simulator) == 30


def test_the_wall_of_the_environment_holds_for_all(desk: Desk, run: Run, tmp_path: Path) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(10)])
    walled = replace(desk, settings=replace(desk.settings, budget_usd=1e-9))
    end = run(workload, on=walled)
    assert "would pass CLAUDE_PIPELINE_BUDGET_USD" in end.wall


REFUSED: list[Any] = [
    pytest.param({"prompt": "{{ txt }}"}, "asks for {{ txt }}", id="column"),
    pytest.param({"model": "claude-haiku-9"}, "is not in the catalogue", id="model"),
    pytest.param({"max_tokens": 10_000_000}, "is over what claude-haiku-5-5 gives", id="max-tokens"),
    pytest.param({"dataset": {"path": "none.jsonl"}}, "none.jsonl", id="dataset"),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED)
def test_what_cannot_work_is_refused_before_anything_is_written(
    desk: Desk, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    workload = workload_over(tmp_path, [note(1)], **change)
    with pytest.raises(UsageError, match=re.escape(sentence)):
        prepare(desk, workload, PARTITION)
    assert desk.ledger.chunks("notes") == []


def test_too_many_unusable_records_stop_everything(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    rows = [note(n, None if n % 10 == 0 else "") for n in range(100)]
    workload = workload_over(tmp_path, rows)
    sentence = r"10 of 100 records \(10.0%\) cannot be asked \(missing_text 10; the first: notes\.jsonl, line 1: column text is null"
    with pytest.raises(DatasetInvalid, match=sentence):
        prepare(desk, workload, PARTITION)
    assert desk.ledger.chunks("notes") == []
    assert prepare(desk, workload_over(tmp_path, rows, max_reject_ratio=0.1), PARTITION).snapshot.rejected == 10


def test_a_dataset_without_a_question_needs_no_batch(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    run(workload_over(tmp_path, [note(1, None)], max_reject_ratio=1))
    assert asked(desk, "SELECT outcome, error_type FROM notes.rejected") == [("rejected", "missing_text")]
    assert asked(desk, "SELECT * FROM notes.attempts") == []
    assert simulator.invoice()["calls"] == {}


# Prompts that change while answers are on their way.


def test_a_prompt_changed_in_flight_ends_with_the_new_answers(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    rows = [note(n) for n in range(10)]
    sent_chunks(desk, workload_over(tmp_path, rows))
    assert run(workload_over(tmp_path, rows, prompt="Judge: {{ text }}")).at_rest
    found = asked(desk, "SELECT text, answer, outcome FROM notes.results")
    assert len(found) == 10
    assert all(answer.startswith(token_of(f"Judge: {text}")) for text, answer, _ in found)
    assert accepted(simulator) == 20


def test_a_prompt_changed_back_pays_nothing_and_gives_the_first_answers(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    rows = [note(n) for n in range(10)]
    first = workload_over(tmp_path, rows)
    run(first)
    run(workload_over(tmp_path, rows, prompt="Judge: {{ text }}"))
    run(first)
    assert accepted(simulator) == 20
    found = asked(desk, "SELECT text, answer FROM notes.results")
    assert all(answer.startswith(token_of(f"Sort: {text}")) for text, answer in found)


def test_a_dead_letter_stays_one_when_the_prompt_is_changed_and_changed_back(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", share=0.3, error_type="invalid_request_error")
    rows = [note(n) for n in range(10)]
    first = workload_over(tmp_path, rows)
    run(first)
    dead = desk.ledger.snapshots("notes")[0].dead
    assert dead
    run(workload_over(tmp_path, rows, prompt="Judge: {{ text }}"))
    run(first)
    assert desk.ledger.snapshots("notes")[0].dead == dead


def test_rounds_of_two_plans_keep_each_record_with_its_own_answer(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    # The retryables of both plans are due at once and were cut into one chunk, out of the order of rows.
    simulator.faults.add(kind="line_error", share=0.5, attempts=1)
    rows = [note(n) for n in range(20)]
    sent_chunks(desk, workload_over(tmp_path, rows))
    second = workload_over(tmp_path, rows, prompt="Judge: {{ text }}")
    sent_chunks(desk, second)
    assert run(second).at_rest
    found = asked(desk, "SELECT text, answer, answer_source FROM notes.results")
    assert len(found) == 20
    assert all(answer.startswith(token_of(f"Judge: {text}")) for text, answer, _ in found)
    assert {source for _, _, source in found} == {"batch"}
    paid = asked(desk, "SELECT sum(cost_usd) FROM notes.results")[0][0]
    rows_of_plan = asked(
        desk, "SELECT sum(a.cost_usd) FROM notes.attempts a JOIN notes.results r USING (batch_id, record_id)"
    )
    assert paid == pytest.approx(rows_of_plan[0][0])


def test_two_snapshots_never_wait_for_each_other(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    # Each prompt's first snapshot is the other's: today waits for tomorrow, and tomorrow for today.
    rows = [note(n) for n in range(10)]
    first, second = workload_over(tmp_path, rows), workload_over(tmp_path, rows, prompt="Judge: {{ text }}")
    sent_chunks(desk, first)
    write_dataset(tmp_path / "notes.jsonl", [*rows, note(10)])
    prepare(desk, first, TOMORROW)
    prepare(desk, second, TOMORROW)
    write_dataset(tmp_path / "notes.jsonl", rows)
    prepare(desk, second, PARTITION)
    send_ready(desk, second)
    assert run(second).at_rest


def test_what_an_awaited_snapshot_left_is_asked_once_by_all_who_waited(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", count=1)  # the first batch: every line
    workload = workload_over(tmp_path, [note(n) for n in range(10)], max_rounds=1)
    sent_chunks(desk, workload)
    for partition in ("2026-11-23", "2026-11-24"):
        assert prepare(desk, workload, partition).snapshot.awaited == 10
    assert run(workload, "2026-11-24").at_rest
    assert simulator.invoice()["billed_twice"] == 0


def test_a_workload_over_other_files_is_another_snapshot_not_another_workload(desk: Desk, tmp_path: Path) -> None:
    prepare(desk, workload_over(tmp_path / "a", [note(1)]), PARTITION)
    second = prepare(desk, workload_over(tmp_path / "b", [note(2)]), PARTITION)
    assert second.snapshot.id == "2026-11-22.2"


def test_a_cadence_changed_under_snapshots_is_refused(desk: Desk, tmp_path: Path) -> None:
    prepare(desk, workload_over(tmp_path, [note(1)]), PARTITION)
    with pytest.raises(WorkloadInvalid, match="would orphan them"):
        prepare(desk, workload_over(tmp_path, [note(1)], partition="weekly"), PARTITION)
