"""How far a snapshot is: its chunks counted by state, and whether anything is left to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from claude_pipeline.ledger.record import SnapshotId, SnapshotRow
from claude_pipeline.ledger.state import TERMINAL, ChunkState, SnapshotState


@dataclass(frozen=True)
class SnapshotProgress:
    """A snapshot with the counts of its chunks: all that decisions need of it."""

    snapshot: SnapshotRow
    chunks: dict[ChunkState, int]
    requests: dict[ChunkState, int]
    due: int  # chunks whose requests go again: in another round, to a cascade's next model, or in halves
    waits_on: tuple[SnapshotId, ...]  # snapshots whose answers it waits for, not yet settled
    waited_on: tuple[SnapshotId, ...]  # of those it named, settled ones: its wait may be over
    cost_units: int

    @property
    def pending(self) -> int:
        """Chunks that are not at their end."""
        return sum(count for state, count in self.chunks.items() if state not in TERMINAL)

    @property
    def settled(self) -> bool:
        """Nothing of it is on its way, and nothing is left to ask."""
        planned = self.snapshot.state is not SnapshotState.LOADED and self.snapshot.pilot is None
        return planned and not (self.pending or self.due or self.waits_on)


class Count(NamedTuple):
    """The chunks of a snapshot in one state."""

    state: ChunkState
    chunks: int
    requests: int
    cost_units: int


def needs_work(progress: SnapshotProgress) -> bool:
    """Whether anything of a snapshot is still to be done, merging included."""
    if progress.snapshot.state is SnapshotState.LOADED:
        return False  # only materializing it again, as a person or a schedule does, plans it
    if progress.snapshot.pilot is not None:
        return bool(progress.pending or progress.due)  # nothing is merged before the rest is asked
    if progress.snapshot.state is not SnapshotState.MERGED:
        return True
    if progress.pending or progress.due or progress.waits_on or progress.waited_on:
        return True
    return progress.chunks.get(ChunkState.DONE, 0) != progress.snapshot.merged_chunks


def progress_of(
    snapshot: SnapshotRow, counts: list[Count], due: int, waits: list[SnapshotId], settled: set[str]
) -> SnapshotProgress:
    return SnapshotProgress(
        snapshot=snapshot,
        chunks={count.state: count.chunks for count in counts},
        requests={count.state: count.requests for count in counts},
        due=due,
        waits_on=tuple(w for w in waits if w not in settled),
        waited_on=tuple(w for w in waits if w in settled),
        cost_units=sum(count.cost_units for count in counts),
    )
