"""What is done next, for situations made by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from claude_pipeline.controller import Action, Kind, Situation, choose, cool_down, decide, describe
from claude_pipeline.ledger import ChunkState, SnapshotId, SnapshotProgress, SnapshotRow, SnapshotState
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import snapshot_row

OTHER = SnapshotId("2026-11-21.1")


def snapshot(
    partition: str = "2026-11-22", number: int = 1, state: SnapshotState = SnapshotState.PLANNED
) -> SnapshotRow:
    return snapshot_row(
        id=SnapshotId(f"{partition}.{number}"), partition=partition, number=number, state=state, records=10,
        created_at=NOW, plan_number=1, planned_at=NOW, asked=10, reused=0, duplicates=0, awaited=0, rejected=0,
        merge_number=0, rounds_used=0,
    )  # fmt: skip


def progress(chunks: dict[ChunkState, int] | None = None, **changes: Any) -> SnapshotProgress:
    made = SnapshotProgress(
        snapshot=snapshot(), chunks={ChunkState.DONE: 1} if chunks is None else chunks, requests={}, due=0, waits_on=(),
        waited_on=(), cost_units=0,
    )  # fmt: skip
    return replace(made, **changes)


def situation(*snapshots: SnapshotProgress, **changes: Any) -> Situation:
    nothing = Situation(
        workload="notes", progress=snapshots, sendable=0, waiting_for_room=0, held=0, held_that_fit=0, wall=None,
        in_flight=0, in_flight_requests=0, doubtful=0, ended=0, failed=0, next_expiry=None,
    )  # fmt: skip
    return replace(nothing, **changes)


LIVE = progress({ChunkState.LIVE: 1})
DECISIONS: list[Any] = [
    pytest.param(situation(), [], id="nothing"),
    pytest.param(situation(LIVE, in_flight=1), [], id="in-flight-waits"),
    pytest.param(situation(progress({ChunkState.READY: 1}), sendable=1), ["submit"], id="ready"),
    pytest.param(situation(progress({ChunkState.READY: 1}), waiting_for_room=1), [], id="no-room"),
    pytest.param(situation(progress({ChunkState.HELD: 1}), held=1, wall="…"), [], id="held"),
    pytest.param(situation(progress({ChunkState.HELD: 1}), held=1, held_that_fit=1), ["submit"], id="held-fits-now"),
    pytest.param(situation(progress({ChunkState.ENDED: 1}), ended=1), ["collect"], id="ended"),
    pytest.param(
        situation(progress({ChunkState.ENDED: 1, ChunkState.READY: 1}), ended=1, sendable=1),
        ["collect", "submit"],
        id="ended-and-ready",
    ),
    pytest.param(situation(progress(due=1)), ["submit"], id="round-due"),
    pytest.param(situation(progress({ChunkState.LIVE: 1}, due=1)), [], id="round-due-while-others-fly"),
    pytest.param(situation(progress(waits_on=(OTHER,))), [], id="waits-for-another"),
    pytest.param(situation(progress(waited_on=(OTHER,))), ["submit"], id="wait-over"),
    pytest.param(situation(progress(waits_on=(OTHER,), due=1)), ["submit"], id="round-due-while-it-waits"),
    pytest.param(situation(progress(waits_on=(OTHER,), waited_on=(OTHER,))), [], id="one-wait-of-two-over"),
    pytest.param(situation(progress()), ["finalize 2026-11-22"], id="all-collected"),
    pytest.param(situation(progress({})), ["finalize 2026-11-22"], id="nothing-asked"),
    pytest.param(situation(progress({ChunkState.FAILED: 1})), ["finalize 2026-11-22"], id="all-refused"),
    pytest.param(situation(progress(snapshot=snapshot(state=SnapshotState.LOADED))), [], id="loaded-not-planned"),
    pytest.param(
        situation(progress(), progress({ChunkState.LIVE: 1}, snapshot=snapshot(number=2))),
        [],
        id="partition-with-a-snapshot-in-flight-waits",
    ),
    pytest.param(
        situation(progress(), progress({ChunkState.LIVE: 1}, snapshot=snapshot("2026-11-23"))),
        ["finalize 2026-11-22"],
        id="another-partition-in-flight-does-not-hold-it-up",
    ),
    pytest.param(situation(unpublished=("2026-11-20",)), ["finalize 2026-11-20"], id="merged-not-published"),
    pytest.param(
        situation(progress(), unpublished=("2026-11-20", "2026-11-22")),
        ["finalize 2026-11-20", "finalize 2026-11-22"],
        id="each-partition-once",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("found", "expected"), DECISIONS)
def test_a_situation_leads_to_these_actions(found: Situation, expected: list[str]) -> None:
    assert [f"{a.kind} {a.partition}" if a.partition else str(a.kind) for a in decide(found)] == expected


def test_deciding_twice_decides_the_same() -> None:
    found = situation(progress(due=1), ended=1, sendable=2)
    assert decide(found) == decide(found)


def action(kind: Kind, workload: str = "notes", partition: str | None = None) -> Action:
    return Action(kind, workload, partition)


CHOICES: list[Any] = [
    pytest.param([action(Kind.SUBMIT), action(Kind.COLLECT)], [], [0, 1], id="two-kinds"),
    pytest.param([action(Kind.SUBMIT), action(Kind.COLLECT)], [("notes", "submit")], [1], id="one-is-busy"),
    pytest.param([action(Kind.SUBMIT), action(Kind.SUBMIT, "other")], [("notes", "submit")], [1], id="another-workload"),
    pytest.param(
        [action(Kind.FINALIZE, partition="1"), action(Kind.FINALIZE, partition="2")], [], [0], id="one-finalize-at-a-time"
    ),
    pytest.param([], [("notes", "submit")], [], id="none"),
]  # fmt: skip


@pytest.mark.parametrize(("actions", "busy", "chosen"), CHOICES)
def test_at_most_one_run_per_kind_and_workload_is_in_flight(
    actions: list[Action], busy: list[tuple[str, str]], chosen: list[int]
) -> None:
    assert choose(actions, busy) == [actions[n] for n in chosen]


SENTENCES: list[Any] = [
    pytest.param(situation(), "notes: nothing to do", id="at-rest"),
    pytest.param(
        situation(LIVE, in_flight=3, in_flight_requests=27_000, next_expiry=NOW + timedelta(hours=21, minutes=14)),
        "notes: 3 batches in progress, 27,000 requests; the oldest has 21 h 14 min to its SLA",
        id="in-flight",
    ),
    pytest.param(
        situation(LIVE, in_flight=1, in_flight_requests=5, next_expiry=NOW - timedelta(hours=1)),
        "notes: 1 batch in progress, 5 requests; the oldest has 0 h 0 min to its SLA",
        id="overdue",
    ),
    pytest.param(situation(LIVE, ended=1), "notes: 1 batch has ended", id="ended"),
    pytest.param(situation(LIVE, sendable=1, waiting_for_room=1), "notes: 2 chunks wait to be sent", id="waiting"),
    pytest.param(situation(LIVE, doubtful=1), "notes: 1 create without a clear answer, left alone for now", id="doubt"),
    pytest.param(situation(LIVE, held=2), "notes: 2 chunks are held by the budget", id="held"),
    pytest.param(situation(LIVE, failed=1), "notes: 1 chunk refused by the API", id="failed"),
    pytest.param(situation(progress()), "notes: about to merge", id="merging"),
]


@pytest.mark.parametrize(
    ("failures", "tick_seconds", "seconds"),
    [
        (0, 10, 0),
        (1, 10, 20),
        (2, 10, 40),
        (3, 10, 80),
        (12, 10, 3600),
        (1, 2, 4),
        (2, 2, 8),
        (12, 1, 3600),
        (1, 600, 20),
    ],
)
def test_what_fails_again_and_again_is_tried_less_and_less_often(
    failures: int, tick_seconds: float, seconds: float
) -> None:
    assert cool_down(failures, tick_seconds) == seconds


@pytest.mark.parametrize(("found", "sentence"), SENTENCES)
def test_a_situation_is_told_in_one_sentence(found: Situation, sentence: str) -> None:
    assert describe(found, NOW) == sentence
