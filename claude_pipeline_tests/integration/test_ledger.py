"""The ledger in a database: each move once, each with an event, no wall passed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert
from sqlalchemy.exc import IntegrityError

from claude_pipeline.errors import (
    BudgetReached,
    IllegalMove,
    LedgerError,
    WorkloadInvalid,
)
from claude_pipeline.ledger import (
    ChunkGroup,
    ChunkState,
    IntentRow,
    Ledger,
    PlanCounts,
    QueueFull,
    SnapshotState,
    Walls,
    table,
)
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import loaded_snapshot, make_new_chunk, ready_chunks
from claude_pipeline_tests.integration.ledger_case import (
    COLLECTED,
    collected,
    events,
    live,
    moves,
    opened,
    seen,
    walls,
)

pytestmark = pytest.mark.both_databases


# Snapshots.


def test_the_same_records_are_the_same_snapshot_and_other_ones_the_next(ledger: Ledger) -> None:
    first = loaded_snapshot(ledger, NOW, digest="d1")
    again = loaded_snapshot(ledger, NOW + timedelta(hours=1), digest="d1")
    changed = loaded_snapshot(ledger, NOW, digest="d2")
    back = loaded_snapshot(ledger, NOW, digest="d1")
    assert again == first
    assert [s.id for s in (first, changed, back)] == ["2026-11-22.1", "2026-11-22.2", "2026-11-22.3"]
    assert first.path == "snapshots/2026-11-22.1"


def test_each_partition_and_workload_numbers_its_own_snapshots(ledger: Ledger) -> None:
    loaded_snapshot(ledger, NOW)
    assert loaded_snapshot(ledger, NOW, partition="2026-11-23").id == "2026-11-23.1"
    assert loaded_snapshot(ledger, NOW, workload="other").id == "2026-11-22.1"


def test_a_plan_made_by_two_is_registered_once(ledger: Ledger) -> None:
    snapshot = loaded_snapshot(ledger, NOW)
    chunks = ready_chunks(ledger, NOW, make_new_chunk(1))
    with pytest.raises(LedgerError, match=r"notes/2026-11-22\.1 is no longer at plan 0"):
        ledger.snapshot_planned(
            snapshot, plan_path="p", plan_sha256="s", counts=PlanCounts(1, 0, 0, 0, 0), chunks=[make_new_chunk(2)],
            waits_on=(), at=NOW,
        )  # fmt: skip
    assert ledger.chunks("notes") == chunks


def test_a_round_is_cut_once(ledger: Ledger) -> None:
    chunk = ready_chunks(ledger, NOW)[0]
    snapshot = ledger.snapshots("notes")[0]
    retry = make_new_chunk(1, round_number=2)
    ledger.next_round_cut(snapshot, of_chunks=[chunk.id], chunks=[retry], at=NOW)
    with pytest.raises(LedgerError, match="has its next round already"):
        ledger.next_round_cut(snapshot, of_chunks=[chunk.id], chunks=[replace(retry, key="r2-0002")], at=NOW)
    assert [c.key for c in ledger.chunks("notes")] == ["r1-0001", "r2-0001"]


def test_a_merge_of_an_older_plan_is_refused(ledger: Ledger) -> None:
    old = loaded_snapshot(ledger, NOW)
    ready_chunks(ledger, NOW)
    with pytest.raises(LedgerError, match="is no longer at plan 0"):
        ledger.snapshot_merged(old, succeeded=1, dead=0, answered=[], rest=None, chunks_done=0, at=NOW)
    assert ledger.snapshots("notes")[0].state is SnapshotState.PLANNED


# Workload names.


def test_two_living_files_with_one_name_are_refused(ledger: Ledger, tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("")
    ledger.register_workload("notes", source=first, cadence="daily", at=NOW)
    ledger.register_workload("notes", source=first, cadence="daily", at=NOW)
    with pytest.raises(WorkloadInvalid, match=f"the name 'notes' is taken by {first}; rename one"):
        ledger.register_workload("notes", source=second, cadence="daily", at=NOW)
    first.unlink()  # it was moved
    ledger.register_workload("notes", source=second, cadence="daily", at=NOW)


def test_a_cadence_that_would_orphan_snapshots_is_refused(ledger: Ledger) -> None:
    ledger.register_workload("notes", source=None, cadence="hourly", at=NOW)
    ledger.register_workload("notes", source=None, cadence="daily", at=NOW)  # none yet
    loaded_snapshot(ledger, NOW)
    with pytest.raises(
        WorkloadInvalid, match=r"its snapshots are daily, now it asks for weekly.*write partition: daily"
    ):
        ledger.register_workload("notes", source=None, cadence="weekly", at=NOW)


# Intents.


def test_a_chunk_has_one_living_intent_even_against_direct_sql(ledger: Ledger, ledger_sql: Connection) -> None:
    chunk = ready_chunks(ledger, NOW)[0]
    opened(ledger, chunk)
    second = insert(table.intent).values(chunk_id=chunk.id, tag="other", requests=10, state="open", created_at=NOW)
    with pytest.raises(IntegrityError, match=r"(?i)unique"):
        ledger_sql.execute(second)


def test_a_batch_has_one_intent_even_against_direct_sql(ledger: Ledger) -> None:
    one, two = ready_chunks(ledger, NOW, make_new_chunk(1), make_new_chunk(2))
    live(ledger, one, 1)
    intent = opened(ledger, two, 2)
    with pytest.raises(IntegrityError, match=r"(?i)unique"):
        ledger.intent_live(intent, seen(1), at=NOW)
    assert ledger.chunk(two.id).state is ChunkState.SENDING


SECOND_MOVES: dict[str, Callable[[Ledger, IntentRow], object]] = {
    "live": lambda ledger, intent: ledger.intent_live(intent, seen(2), at=NOW),
    "doubted": lambda ledger, intent: ledger.intent_doubted(intent, reason="", at=NOW),
    "refused": lambda ledger, intent: ledger.intent_refused(
        intent, chunk_state=ChunkState.READY, error="", error_type="", not_before=None, at=NOW
    ),
}


@pytest.mark.parametrize("name", SECOND_MOVES)
def test_a_second_mover_finds_the_intent_moved(ledger: Ledger, name: str) -> None:
    intent = live(ledger, ready_chunks(ledger, NOW)[0])
    before = events(ledger)
    with pytest.raises(LedgerError):
        SECOND_MOVES[name](ledger, intent)  # still believes that it is open
    assert ledger.chunks("notes")[0].batch_id == "msgbatch_1"
    assert events(ledger) == before


def test_a_second_submitter_of_a_chunk_is_refused(ledger: Ledger) -> None:
    chunk = ready_chunks(ledger, NOW)[0]
    opened(ledger, chunk, 1)
    with pytest.raises(LedgerError, match=r"2026-11-22.1\|r1-0001 is no longer ready.*another process moved it first"):
        opened(ledger, chunk, 2)
    assert len(ledger.unsettled_intents()) == 1


def test_only_a_doubtful_intent_becomes_absent(ledger: Ledger) -> None:
    intent = opened(ledger, ready_chunks(ledger, NOW)[0])
    with pytest.raises(IllegalMove, match="an intent that is open cannot become absent"):
        ledger.intent_absent(intent, at=NOW)
    ledger.intent_doubted(intent, reason="lost", at=NOW)
    doubtful = ledger.unsettled_intents()[0]
    ledger.intent_absent(doubtful, at=NOW)
    assert ledger.chunks("notes")[0].state is ChunkState.READY
    assert ledger.unsettled_intents() == []


def test_collecting_twice_is_collecting_once(ledger: Ledger) -> None:
    chunk = collected(ledger, ready_chunks(ledger, NOW)[0])
    before = (ledger.chunks("notes"), events(ledger), list(ledger.dump("spend")))
    ledger.chunk_collected(chunk, COLLECTED, [], at=NOW + timedelta(hours=5))
    assert (ledger.chunks("notes"), events(ledger), list(ledger.dump("spend"))) == before


def test_the_first_expiry_is_that_of_a_batch_in_progress(ledger: Ledger) -> None:
    first, second, third = ready_chunks(ledger, NOW, *(make_new_chunk(number) for number in (1, 2, 3)))
    assert (ledger.next_expiry("notes"), ledger.batches_in_progress()) == (None, set())
    collected(ledger, first, 1)
    for number, chunk, hours in ((2, second, 26), (3, third, 25)):
        batch = replace(seen(number, requests=chunk.requests), expires_at=NOW + timedelta(hours=hours))
        ledger.intent_live(opened(ledger, chunk, number), batch, at=NOW)
    assert ledger.next_expiry("notes") == NOW + timedelta(hours=25)
    assert ledger.next_expiry("others") is None
    assert ledger.batches_in_progress() == {"msgbatch_2", "msgbatch_3"}
    assert [(of.state, of.chunks) for of in ledger.chunk_counts("notes")] == [
        (ChunkState.DONE, 1),
        (ChunkState.LIVE, 2),
    ]
    assert ledger.chunk_counts("others") == []


def test_chunks_in_some_states_are_added_up(ledger: Ledger) -> None:
    new = [make_new_chunk(number, requests=10 * number) for number in range(1, 6)]
    first, second, third, fourth, _ = ready_chunks(ledger, NOW, *new)
    for number, chunk, hours in ((1, first, 26), (2, second, 25), (3, third, 24)):
        batch = replace(seen(number, requests=chunk.requests), expires_at=NOW + timedelta(hours=hours))
        ledger.intent_live(opened(ledger, chunk, number), batch, at=NOW + timedelta(hours=number))
    ledger.chunk_rescued(ledger.chunk(third.id), "late", at=NOW)

    [waiting] = ledger.chunk_groups("notes", states=[ChunkState.READY])
    assert waiting == ChunkGroup(fourth.snapshot, fourth.model, 64, 90, 50, 2_000, NOW, None)
    [live] = ledger.chunk_groups("notes", states=[ChunkState.LIVE])
    assert (live.requests, live.expires_at) == (60, NOW + timedelta(hours=24))
    [running] = ledger.chunk_groups("notes", states=[ChunkState.LIVE], left_alone=True)
    assert (running.requests, running.most_requests, running.size_bytes) == (30, 20, 2_000)
    assert (running.moved_at, running.expires_at) == (NOW + timedelta(hours=1), NOW + timedelta(hours=25))
    assert ledger.chunk_groups("others", states=[ChunkState.LIVE]) == []


def test_a_look_repeated_changes_nothing(ledger: Ledger) -> None:
    chunk = ready_chunks(ledger, NOW)[0]
    live(ledger, chunk)
    for _ in range(3):
        ledger.batch_seen(seen(1, status="ended"), at=NOW)
    assert moves(ledger).count("batch ended") == 1
    assert ledger.chunk(chunk.id).state is ChunkState.ENDED


def test_every_move_leaves_one_event_with_both_states(ledger: Ledger) -> None:
    one, two = ready_chunks(ledger, NOW, make_new_chunk(1), make_new_chunk(2))
    collected(ledger, one, 1)
    ledger.intent_refused(
        opened(ledger, two, 2), chunk_state=ChunkState.FAILED, error="no", error_type="x", not_before=None, at=NOW
    )
    ledger.chunk_ready_again(ledger.chunk(two.id), at=NOW)
    told = [(e["move"], e["before"], e["after"]) for e in events(ledger)]
    assert told == [
        ("workload registered", None, None),
        ("snapshot loaded", None, "loaded"),
        ("chunks ready", None, "ready"),
        ("snapshot planned", "loaded", "planned"),
        ("intent opened", "ready", "sending"),
        ("batch created", "sending", "live"),
        ("batch ended", "live", "ended"),
        ("chunk collected", "ended", "done"),
        ("intent opened", "ready", "sending"),
        ("create refused", "sending", "failed"),
        ("chunk sent again by hand", "failed", "ready"),
    ]
    assert all(event["at"] == NOW for event in events(ledger))


# Walls.


def test_the_budget_of_a_snapshot_is_a_wall_before_the_intent(ledger: Ledger) -> None:
    one, two = ready_chunks(ledger, NOW, *(make_new_chunk(n, reserve_units=60) for n in (1, 2)))
    wall = walls(snapshot_units=119)
    opened(ledger, one, 1, wall)
    with pytest.raises(BudgetReached, match=r"would pass budget_usd: .* committed .* raise budget_usd to go on"):
        opened(ledger, two, 2, wall)
    assert ledger.chunk(two.id).state is ChunkState.HELD
    assert len(ledger.unsettled_intents()) == 1
    opened(ledger, ledger.chunk(two.id), 3, walls(snapshot_units=120))  # exactly at the wall is within


def test_what_was_spent_replaces_the_reserve(ledger: Ledger) -> None:
    one, two = ready_chunks(ledger, NOW, *(make_new_chunk(n, reserve_units=60) for n in (1, 2)))
    wall = walls(snapshot_units=70)
    live(ledger, one, 1)
    assert ledger.wall_before(two, wall, at=NOW) is not None
    ledger.batch_seen(seen(1, status="ended"), at=NOW)
    assert ledger.wall_before(two, wall, at=NOW) is not None  # ended, but not yet known what it cost
    ledger.chunk_collected(ledger.chunk(one.id), COLLECTED, [], at=NOW)
    assert ledger.wall_before(two, wall, at=NOW) is None  # 7 spent + 60 reserved


def test_the_wall_of_the_ledger_counts_all_workloads(ledger: Ledger) -> None:
    mine = ready_chunks(ledger, NOW, make_new_chunk(1, reserve_units=60))[0]
    other = ready_chunks(ledger, NOW, make_new_chunk(1, reserve_units=60), workload="other")[0]
    wall = walls(snapshot_units=100, ledger_units=100)
    opened(ledger, mine, 1, wall)
    with pytest.raises(BudgetReached, match="CLAUDE_PIPELINE_BUDGET_USD"):
        opened(ledger, other, 2, wall)


def test_the_wall_of_a_day_counts_what_was_billed_that_day_and_all_that_is_in_flight(ledger: Ledger) -> None:
    one, two = ready_chunks(ledger, NOW, *(make_new_chunk(n, reserve_units=60) for n in (1, 2)))
    wall = walls(day_units=66)
    live(ledger, one, 1)
    tomorrow = NOW.replace(hour=0, minute=5) + timedelta(days=1)
    assert "budget_usd_per_day" in str(ledger.wall_before(two, wall, at=tomorrow))  # still in flight
    ledger.batch_seen(seen(1, status="ended"), at=NOW)
    ledger.chunk_collected(ledger.chunk(one.id), COLLECTED, [], at=NOW)
    assert "budget_usd_per_day" in str(ledger.wall_before(two, wall, at=NOW))  # 7 spent + 60 reserved
    # The clock of the API may be a little behind ours: the first minutes of a day still belong to the last one.
    assert ledger.wall_before(two, wall, at=tomorrow - timedelta(seconds=1)) is not None
    assert ledger.wall_before(two, wall, at=tomorrow) is None


def test_a_refused_create_gives_its_reserve_back(ledger: Ledger) -> None:
    one, two = ready_chunks(ledger, NOW, *(make_new_chunk(n, reserve_units=60) for n in (1, 2)))
    wall = walls(snapshot_units=60)
    intent = opened(ledger, one, 1, wall)
    ledger.intent_refused(intent, chunk_state=ChunkState.READY, error="no", error_type="x", not_before=None, at=NOW)
    assert opened(ledger, two, 2, wall).chunk_id == two.id


QUEUES: list[Any] = [
    pytest.param(walls(queued_requests=19), "1 batches with 10 requests are in the API's queue of 19", id="requests"),
    pytest.param(walls(batches_in_flight=1), "waits for room", id="batches"),
]


@pytest.mark.parametrize(("full", "sentence"), QUEUES)
def test_a_full_queue_leaves_the_chunk_as_it_is(ledger: Ledger, full: Walls, sentence: str) -> None:
    one, two = ready_chunks(ledger, NOW, make_new_chunk(1), make_new_chunk(2))
    opened(ledger, one, 1, full)
    with pytest.raises(QueueFull, match=sentence):
        opened(ledger, two, 2, full)
    assert ledger.chunk(two.id) == two


def test_a_chunk_larger_than_the_queue_may_go_alone(ledger: Ledger) -> None:
    chunk = ready_chunks(ledger, NOW, make_new_chunk(1, requests=50))[0]
    assert opened(ledger, chunk, 1, walls(queued_requests=10)).requests == 50
