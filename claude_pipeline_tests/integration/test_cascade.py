"""A cascade: what one model does not answer well is asked of the next, each question paid once, whatever dies between."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
import yaml

from claude_pipeline.controller import survey
from claude_pipeline.crash import VARIABLE, told
from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.home import Home
from claude_pipeline.ledger import ChunkState
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.retry import retry
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.drive import carry_on
from claude_pipeline_tests.factory import (
    PARTITION,
    asked,
    attributes,
    collected_chunks,
    note,
    workload_over,
    write_dataset,
)
from claude_pipeline_tests.forks import driven, log_of, make_forks
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

RECORDS = 24
SCHEMA = {
    "type": "object",
    "properties": {"queue": {"type": "string", "enum": ["billing", "other"]}, "sure": {"type": "boolean"}},
    "required": ["queue", "sure"],
}


@pytest.fixture
def run(desk: Desk, simulator: Simulator, clock: MovableClock) -> Run:
    return runner(desk, simulator, clock)


def cascading(folder: Path, *models: Any, records: int = RECORDS, **changes: Any) -> Workload:
    """Over notes with texts of their own, but for the last, which asks what the first does."""
    rows = [*(note(n) for n in range(records - 1)), note(records - 1, "note 0")]
    fields = {"model": None, "cascade": list(models or (HAIKU, SONNET)), "output": SCHEMA}
    return workload_over(folder, rows, **fields | changes)


def spent(desk: Desk) -> dict[str, int]:
    """Attempts that were billed, by model."""
    return dict(asked(desk, "SELECT model, count(*) FROM notes.attempts WHERE outcome = 'succeeded' GROUP BY model"))


@pytest.mark.parametrize("form", ["prose", "cut_json", "refusal", "max_tokens", "empty"])
def test_a_poor_answer_goes_to_the_next_model(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator, form: str
) -> None:
    simulator.faults.add(kind="line_answer", form=form, share=0.4, model=HAIKU)

    run(cascading(tmp_path))

    chosen = list(models(desk).values())
    passed_on = billed(simulator)[SONNET]
    assert billed(simulator)[HAIKU] == RECORDS - 1  # the last is a duplicate
    assert 0 < passed_on < RECORDS
    assert chosen.count(SONNET) >= passed_on
    good = "stop_reason = 'end_turn' AND error_type IS NULL AND queue IS NOT NULL"
    assert asked(desk, f"SELECT count(*) FROM notes.results WHERE {good}") == [(RECORDS,)]
    check_delivered(desk, simulator, RECORDS)


def test_what_the_model_says_it_cannot_goes_to_the_next_one(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    run(cascading(tmp_path, gives_up_when="queue = 'other' OR NOT sure"))

    first = asked(desk, f"SELECT record_id, queue = 'other' OR NOT sure FROM notes.attempts WHERE model = '{HAIKU}'")
    given_up = {record for record, gave_up in first if gave_up}
    assert 0 < len(given_up) < RECORDS - 1
    assert billed(simulator) == {HAIKU: RECORDS - 1, SONNET: len(given_up)}
    kept = {record for record, gave_up in first if not gave_up}
    assert kept <= {record for record, model in models(desk).items() if model == HAIKU}
    check_delivered(desk, simulator, RECORDS)


def test_a_record_costs_the_sum_of_its_levels(desk: Desk, run: Run, tmp_path: Path) -> None:
    run(cascading(tmp_path, gives_up_when="true"))

    by_level = dict(asked(desk, "SELECT record_id, sum(cost_usd) FROM notes.attempts GROUP BY record_id"))
    result = dict(asked(desk, "SELECT record_id, cost_usd FROM notes.results WHERE cost_usd > 0"))
    assert result == pytest.approx(by_level, abs=1e-12)
    assert asked(desk, "SELECT count(*) FROM notes.attempts") == [(2 * (RECORDS - 1),)]
    sources = asked(desk, "SELECT answer_source, count(*) FROM notes.results GROUP BY ALL ORDER BY 1")
    assert sources == [("batch", RECORDS - 1), ("duplicate", 1)]


def test_an_error_that_would_come_again_goes_to_the_next_model(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", error_type="invalid_request_error", share=0.4, model=HAIKU)

    run(cascading(tmp_path))

    assert set(models(desk).values()) == {HAIKU, SONNET}
    assert sum(billed(simulator).values()) == RECORDS - 1
    check_delivered(desk, simulator, RECORDS)


def test_each_level_has_its_own_rounds(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    """Two rounds of the first model do not use up those of the second."""
    simulator.faults.add(kind="line_error", share=1, attempts=1)

    run(cascading(tmp_path, gives_up_when="true", max_rounds=2))

    rounds = [(chunk.round, chunk.model, chunk.rounds_before) for chunk in desk.ledger.chunks("notes")]
    assert sorted(set(rounds)) == [(1, HAIKU, 0), (2, HAIKU, 0), (3, SONNET, 2), (4, SONNET, 2)]
    assert spent(desk) == {HAIKU: RECORDS - 1, SONNET: RECORDS - 1}
    check_delivered(desk, simulator, RECORDS)


def test_errors_that_may_pass_do_not_move_a_record_on(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    """Out of rounds it is a dead letter of its level, and a retry asks that level again."""
    simulator.faults.add(kind="line_error", share=0.4, model=HAIKU)
    workload = cascading(tmp_path, max_rounds=2)
    run(workload)
    dead = asked(desk, "SELECT count(*) FROM notes.dead_letters")[0][0]
    assert dead > 0
    assert set(billed(simulator)) == {HAIKU}

    simulator.faults.clear()
    retried = retry(desk, workload)
    run(workload)

    assert 0 < retried.requests <= dead
    assert set(billed(simulator)) == {HAIKU}
    check_delivered(desk, simulator, RECORDS)


def test_the_best_there_is_stands_where_no_level_is_good(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    """The first says it cannot, in the schema; the second refuses: the first one's answer is kept."""
    simulator.faults.add(kind="line_answer", form="refusal", share=1, model=SONNET)
    run(cascading(tmp_path, gives_up_when="true"))
    assert set(models(desk).values()) == {HAIKU}
    assert billed(simulator)[SONNET] == RECORDS - 1
    check_delivered(desk, simulator, RECORDS)


def test_of_equally_poor_answers_the_last_stands(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    run(cascading(tmp_path, HAIKU, SONNET, OPUS, gives_up_when="true"))
    assert set(models(desk).values()) == {OPUS}
    assert billed(simulator) == dict.fromkeys((HAIKU, SONNET, OPUS), RECORDS - 1)
    check_delivered(desk, simulator, RECORDS)


def test_a_level_may_have_a_limit_of_its_own(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    """Answers that end at the first level's limit are asked of the second, and never of the first again."""
    workload = cascading(tmp_path, {"model": HAIKU, "max_tokens": 2}, {"model": SONNET, "max_tokens": 200})
    run(workload)
    assert {(c.model, c.max_tokens) for c in desk.ledger.chunks("notes")} == {(HAIKU, 2), (SONNET, 200)}
    assert set(models(desk).values()) == {SONNET}
    before = accepted(simulator)

    run(workload, TOMORROW)

    assert accepted(simulator) == before


def test_an_unchanged_cascade_sends_nothing_again(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    workload = cascading(tmp_path, gives_up_when="NOT sure")
    run(workload)
    before = accepted(simulator)

    run(workload)
    run(workload, TOMORROW)

    assert accepted(simulator) == before
    assert models(desk) == dict(
        asked(desk, f"SELECT record_id, model FROM notes.results WHERE snapshot = '{PARTITION}.1'")
    )
    assert asked(desk, f"SELECT sum(cost_usd) FROM notes.results WHERE snapshot = '{TOMORROW}.1'") == [(0.0,)]


def test_a_stricter_rule_asks_only_the_next_level_of_what_it_gives_up(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    run(cascading(tmp_path))
    assert billed(simulator) == {HAIKU: RECORDS - 1}

    run(cascading(tmp_path, gives_up_when="NOT sure"))

    unsure = asked(desk, f"SELECT count(*) FROM notes.attempts WHERE model = '{HAIKU}' AND NOT sure")[0][0]
    assert billed(simulator) == {HAIKU: RECORDS - 1, SONNET: unsure}
    check_delivered(desk, simulator, RECORDS)


def test_a_workload_that_becomes_a_cascade_keeps_its_answers(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator
) -> None:
    run(cascading(tmp_path, model=HAIKU, cascade=None))
    run(cascading(tmp_path, gives_up_when="NOT sure"))
    assert billed(simulator)[HAIKU] == RECORDS - 1
    assert set(models(desk).values()) == {HAIKU, SONNET}
    check_delivered(desk, simulator, RECORDS)


POINTS = [
    "prepare.after_chunks",
    "collect.before_record",
    "collect.after_record",
    "cascade.after_chunks",
    "cascade.after_record",
    "submit.after_intent",
    "submit.after_post",
    "finalize.before_record",
    "finalize.after_record",
]


@pytest.mark.parametrize("nth", [pytest.param(1, marks=pytest.mark.long), 2])
@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_ends_at_any_point_is_finished_by_the_next(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator, point: str, nth: int
) -> None:
    """Nothing between two levels is remembered but what is on disk."""
    workload = cascading(tmp_path, HAIKU, SONNET, OPUS, gives_up_when="NOT sure", chunk={"requests": 12})
    left = [nth]

    def die(name: str) -> None:
        if name == point:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

    with told(die):
        try:
            run(workload)
        except KeyboardInterrupt:
            run(workload)

    invoice = billed(simulator)
    assert invoice[HAIKU] == RECORDS - 1
    assert invoice == spent(desk)
    check_delivered(desk, simulator, RECORDS)


@pytest.mark.parametrize("point", ["cascade.after_chunks", "cascade.after_record"])
def test_a_process_killed_between_two_levels_is_finished_by_the_next(tmp_path: Path, point: str) -> None:
    write_dataset(tmp_path / "notes.jsonl", [note(n) for n in range(RECORDS)])
    fields = attributes(model=None, cascade=[HAIKU, SONNET], gives_up_when="NOT sure", output=SCHEMA)
    file = tmp_path / "notes.yaml"
    file.write_text(yaml.safe_dump({"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}))
    home = Home(tmp_path / "home")
    with running(Options(speed=600, batch_seconds=(30, 60), seed=3)) as simulator:
        address = {"ANTHROPIC_BASE_URL": simulator.base_url, "ANTHROPIC_API_KEY": simulator.api_key}
        for crash_at, code in ((point, -signal.SIGKILL), ("", 0)):
            child = make_forks().Process(
                target=driven, args=(str(file), str(home.root), address | {VARIABLE: crash_at})
            )
            child.start()
            child.join(90)
            assert child.exitcode == code, log_of(home.root).read_text()
        invoice = billed(simulator)
        total = float(simulator.invoice()["total_usd"])
    with duckdb.connect(str(home.warehouse.resolve()), read_only=True) as duck:
        delivered = duck.execute(
            "SELECT count(DISTINCT record_id), count(*), sum(cost_usd) FROM notes.results"
        ).fetchall()
        unsure = duck.execute(f"SELECT count(*) FROM notes.attempts WHERE model = '{HAIKU}' AND NOT sure").fetchall()
    assert delivered == [(RECORDS, RECORDS, pytest.approx(total, abs=1e-10 * RECORDS))]
    assert invoice == {HAIKU: RECORDS, SONNET: unsure[0][0]}


def test_another_snapshot_waits_for_each_level_that_the_first_asks(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    """Both ask the same questions; each is paid by one of them only, level by level."""
    workload = cascading(tmp_path, gives_up_when="NOT sure")
    collected_chunks(desk, workload, simulator)
    prepare(desk, workload, TOMORROW)

    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(BATCH_SECONDS)

    assert carry_on(desk, workload, wait).at_rest

    assert billed(simulator)[HAIKU] == RECORDS - 1
    assert asked(desk, "SELECT snapshot, count(*) FROM notes.results GROUP BY ALL ORDER BY 1") == [
        (f"{PARTITION}.1", RECORDS),
        (f"{TOMORROW}.1", RECORDS),
    ]
    assert len(set(asked(desk, "SELECT record_id, model, answer FROM notes.results"))) == RECORDS


def test_new_records_with_questions_that_a_level_has_answered_ask_the_next_one(
    desk: Desk, run: Run, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    """Of a table that grows all records are rendered for the first model, and some are asked of the second at once."""
    table = [note(n) | {"at": n} for n in range(RECORDS)]
    dataset = {"path": str(tmp_path / "notes.jsonl"), "id": "id", "watermark": "at"}
    workload = cascading(tmp_path, gives_up_when="NOT sure", dataset=dataset)
    write_dataset(tmp_path / "notes.jsonl", table)
    collected_chunks(desk, workload, simulator)
    write_dataset(
        tmp_path / "notes.jsonl",
        [*table, *(note(100 + n, f"note {n}") | {"at": 100 + n} for n in range(RECORDS)), note(200) | {"at": 200}],
    )

    chunks = prepare(desk, workload, TOMORROW).chunks

    assert {chunk.model for chunk in chunks} == {HAIKU, SONNET}
    for chunk in chunks:
        params = desk.path(chunk.params_path).read_bytes().splitlines()
        assert {orjson.loads(line)["model"] for line in params} == {chunk.model}

    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(BATCH_SECONDS)

    assert carry_on(desk, workload, wait).at_rest
    assert billed(simulator)[HAIKU] == RECORDS + 1


def test_a_settled_level_is_due_until_the_next_one_is_cut(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    workload = cascading(tmp_path, gives_up_when="true")
    collected_chunks(desk, workload, simulator)
    progress = survey(desk, workload).progress[0]
    done = desk.ledger.chunks("notes", states=[ChunkState.DONE])
    assert progress.due == len(done)
    assert sum(chunk.moves_on or 0 for chunk in done) == RECORDS - 1
    assert not progress.settled


def test_a_rule_over_a_column_that_is_not_there_stops_before_anything_is_sent(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(
        WorkloadInvalid, match="gives_up_when: there is no column 'confidence', only queue, sure, answer"
    ):
        prepare(desk, cascading(tmp_path, gives_up_when="confidence < 0.7"), PARTITION)
