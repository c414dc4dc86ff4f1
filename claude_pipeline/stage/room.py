"""Which of the chunks that wait one submission takes: what the API's queue has room for, however many wait.

A run of Dagster has a step for a few chunks each. Thousands that cannot be sent would be thousands of looks for
nothing, each time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from claude_pipeline.ledger import ChunkRow, ChunkState, Walls


def with_room(chunks: Sequence[ChunkRow], walls: Walls, *, batches: int, queued: int) -> list[ChunkRow]:
    """Those for which there is room beside the `batches` with `queued` requests that are at the API, in order; and the
    first for which there is none, so that sending it says why the rest waits."""
    taken: list[ChunkRow] = []
    for chunk in chunks:
        taken.append(chunk)
        # As the ledger has it when an intent is opened.
        if batches >= walls.batches_in_flight or (batches and queued + chunk.requests > walls.queued_requests):
            break
        batches, queued = batches + 1, queued + chunk.requests
    return taken


def in_turn(chunks: Sequence[ChunkRow], *, unprimed: Collection[int], over_budget: Collection[str]) -> list[ChunkRow]:
    """The chunks in the order in which they are tried: those that will wait stand behind those that may go.

    Last are the held ones of snapshots `over_budget`, before them the chunks `unprimed`, whose primer has not ended: it
    may be refused in this very run. Of a snapshot's held chunks those with the least reserve come first: what does not
    fit stays held, and would keep the room from what does.
    """

    def place(chunk: ChunkRow) -> int:
        if chunk.state is ChunkState.HELD and chunk.snapshot in over_budget:
            return 2
        return 1 if chunk.id in unprimed else 0

    held: dict[str, list[ChunkRow]] = defaultdict(list)
    for chunk in chunks:
        if chunk.state is ChunkState.HELD:
            held[chunk.snapshot].append(chunk)
    turns: dict[str, Iterator[ChunkRow]] = {
        snapshot: iter(sorted(of, key=lambda chunk: chunk.reserve_units)) for snapshot, of in held.items()
    }
    turned = [next(turns[chunk.snapshot]) if chunk.state is ChunkState.HELD else chunk for chunk in chunks]
    return sorted(turned, key=place)


def least_of_each_snapshot(held: Sequence[ChunkRow]) -> list[ChunkRow]:
    """Of each snapshot the held chunk that takes the least room: where it does not fit, none of them does."""
    least: dict[str, ChunkRow] = {}
    for chunk in held:
        known = least.get(chunk.snapshot)
        if known is None or chunk.reserve_units < known.reserve_units:
            least[chunk.snapshot] = chunk
    return list(least.values())
