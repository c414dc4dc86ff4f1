"""A submission takes what there is room for, and what can go before what cannot."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from claude_pipeline.ledger import ChunkRow, ChunkState, Ledger, Walls
from claude_pipeline.stage.room import in_turn, least_of_each_snapshot, with_room
from claude_pipeline_tests.factory import make_new_chunk, ready_chunks

NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
HELD = ChunkState.HELD


@pytest.fixture
def chunks(tmp_path: Path) -> list[ChunkRow]:
    """Five of ten requests each, ready."""
    with Ledger.open(None, path=tmp_path / "ledger.db") as ledger:
        return ready_chunks(ledger, NOW, *(make_new_chunk(number + 1) for number in range(5)))


def walls(batches: int = 100, requests: int = 1_000) -> Walls:
    return Walls(
        queued_requests=requests, batches_in_flight=batches, snapshot_units=None, ledger_units=None, day_units=None
    )


@pytest.mark.parametrize(
    ("limits", "batches", "queued", "taken"),
    [
        pytest.param(walls(), 0, 0, 5, id="room-for-all"),
        pytest.param(walls(batches=3), 0, 0, 4, id="three-batches-and-the-one-that-says-why"),
        pytest.param(walls(batches=3), 2, 20, 2, id="one-place-left"),
        pytest.param(walls(batches=3), 3, 30, 1, id="no-place-left"),
        pytest.param(walls(requests=25), 0, 0, 3, id="the-queue-is-full-after-two"),
        pytest.param(walls(requests=25), 1, 20, 1, id="the-queue-is-full"),
        pytest.param(walls(requests=5), 0, 0, 2, id="one-alone-may-be-larger-than-the-queue"),
    ],
)
def test_it_takes_what_there_is_room_for(
    chunks: list[ChunkRow], limits: Walls, batches: int, queued: int, taken: int
) -> None:
    assert with_room(chunks, limits, batches=batches, queued=queued) == chunks[:taken]


def test_of_a_snapshots_held_chunks_the_least_goes_first(chunks: list[ChunkRow]) -> None:
    reserves = [30, 10, 20]
    held = [replace(c, state=HELD, reserve_units=units) for c, units in zip(chunks, reserves, strict=False)]
    ordered = in_turn([held[0], chunks[3], held[1], held[2]], unprimed=(), over_budget=())
    assert [c.id for c in ordered] == [2, 4, 3, 1]


def test_what_will_wait_stands_behind_what_may_go(chunks: list[ChunkRow]) -> None:
    over = [replace(chunk, state=HELD, snapshot="2026-11-21.1") for chunk in chunks[:2]]
    ordered = in_turn([*over, *chunks[2:]], unprimed={3}, over_budget={"2026-11-21.1"})
    assert [c.id for c in ordered] == [4, 5, 3, 1, 2]


def test_the_least_of_each_snapshot_tells_whether_any_fits(chunks: list[ChunkRow]) -> None:
    held = [replace(chunk, reserve_units=9 - chunk.number, snapshot=f"s{chunk.number % 2}") for chunk in chunks]
    assert [(c.snapshot, c.reserve_units) for c in least_of_each_snapshot(held)] == [("s1", 4), ("s0", 5)]
