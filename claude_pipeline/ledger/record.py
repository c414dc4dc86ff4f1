"""What the ledger knows, as frozen records; the store and the moves are elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import NewType

from claude_pipeline.ledger.row import Row
from claude_pipeline.ledger.state import ChunkState, IntentState, SnapshotState

SnapshotId = NewType("SnapshotId", str)  # 2026-11-22.1
BatchId = NewType("BatchId", str)  # msgbatch_…
Tag = NewType("Tag", str)  # <ledger id, 8 hex>-<16 hex of chance>: begins each custom_id of an intent


@dataclass(frozen=True)
class SnapshotRow(Row):
    """A snapshot: its records, its current plan, its current merge."""

    workload: str
    id: SnapshotId
    partition: str
    number: int
    state: SnapshotState
    path: str
    digest: str
    records: int
    created_at: datetime
    plan_number: int
    plan_path: str | None
    plan_sha256: str | None
    planned_at: datetime | None
    asked: int | None
    reused: int | None
    duplicates: int | None
    awaited: int | None
    rejected: int | None
    merged_at: datetime | None
    merged_plan: int | None
    merge_number: int
    merged_chunks: int | None
    published_merge: int | None
    succeeded: int | None
    dead: int | None
    canceled_at: datetime | None
    pilot: int | None
    rounds_used: int
    wanted_from: datetime | None
    watermark_column: str | None
    watermark_type: str | None
    watermark_value: str | None
    watermark_base: SnapshotId | None
    full_snapshot: SnapshotId | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", SnapshotState(self.state))


@dataclass(frozen=True)
class ChunkRow(Row):
    """A chunk: its files, its state, what was collected."""

    id: int
    workload: str
    snapshot: SnapshotId
    key: str
    round: int
    number: int
    plan_number: int
    model: str
    max_tokens: int | None
    state: ChunkState
    requests: int
    size_bytes: int
    reserve_units: int
    first_row: int
    last_row: int
    params_path: str
    params_sha256: str
    index_path: str
    index_sha256: str
    created_at: datetime
    moved_at: datetime
    attempts: int
    not_before: datetime | None
    error: str | None
    error_type: str | None
    batch_id: BatchId | None
    collected_at: datetime | None
    succeeded: int | None
    errored: int | None
    canceled: int | None
    expired: int | None
    retryable: int | None
    stopped: int | None
    invalid: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost_units: int | None
    next_round_cut: int
    cancel_asked_at: datetime | None
    kept_units: int | None
    waits_for: str | None
    rounds_before: int
    moves_on: int | None
    next_level_cut: int
    lane: str
    lost: int
    rescued_at: datetime | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", ChunkState(self.state))

    @property
    def partition_key(self) -> str:
        """The chunk's Dagster partition: `<snapshot>|<key>`."""
        return f"{self.snapshot}|{self.key}"


@dataclass(frozen=True)
class IntentRow(Row):
    """The note that a chunk is about to be sent, and what became of it."""

    id: int
    chunk_id: int
    tag: Tag
    requests: int
    watermark: BatchId | None
    state: IntentState
    batch_id: BatchId | None
    created_at: datetime
    doubt_at: datetime | None
    doubt_reason: str | None
    candidates: str | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", IntentState(self.state))


@dataclass(frozen=True)
class BatchRow(Row):
    """A Message Batch as it was last seen; times are the API's."""

    id: BatchId
    chunk_id: int | None
    tag: Tag | None
    requests: int
    status: str
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    archived_at: datetime | None
    counts: str | None
    paid_twice: int


@dataclass(frozen=True)
class Part(Row):
    """A file of rows that later steps trust."""

    path: str
    kind: str
    workload: str
    snapshot: SnapshotId
    plan_number: int
    chunk_id: int | None
    rows: int
    sha256: str


@dataclass(frozen=True)
class OldPart(Row):
    """A part that a later merge took the place of."""

    path: str
    created_at: datetime


@dataclass(frozen=True)
class Watermark:
    """Up to which value of which column a snapshot, with the one it rests on, holds the records of its source."""

    column: str
    type: str
    value: str
    base: SnapshotId | None

    @property
    def columns(self) -> dict[str, str | None]:
        return {f"watermark_{field.name}": getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Spend(Row):
    """What a collected chunk cost, by model, lane and time."""

    model: str
    lane: str
    billed_at: datetime
    requests: int
    input_tokens: int
    output_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    cost_units: int


@dataclass(frozen=True)
class NewChunk:
    """A chunk to be registered: the files are already on disk."""

    key: str
    round: int
    number: int
    plan_number: int
    model: str
    max_tokens: int
    requests: int
    size_bytes: int
    reserve_units: int
    first_row: int
    last_row: int
    params_path: str
    params_sha256: str
    index_path: str
    index_sha256: str
    waits_for: str | None = None  # key of the chunk that fills the prompt cache for it
    rounds_before: int = 0  # of a cascade's earlier levels: its own count from here


@dataclass(frozen=True)
class PlanCounts:
    """How a plan answers each record; they add up to the snapshot's records."""

    asked: int
    reused: int
    duplicates: int
    awaited: int
    rejected: int


@dataclass(frozen=True)
class Collected:
    """What collecting a chunk found; the four outcomes add up to its requests."""

    succeeded: int
    errored: int
    canceled: int
    expired: int
    retryable: int
    invalid: int
    spend: tuple[Spend, ...]
    stopped: int = 0  # of the retryable: those that met the account's stop
    stop: str | None = None  # what the API said of the account
    moves_on: int = 0  # requests whose records a cascade's next model is asked about
    kept_units: int = 0  # reserve of answers that were billed, or may have been, though nobody can say how much
    lost: int = 0  # in real time: POSTs that may have been billed, and whose answers nobody recorded

    @property
    def input_tokens(self) -> int:
        return sum(s.input_tokens + s.cache_write_tokens + s.cache_read_tokens for s in self.spend)

    @property
    def output_tokens(self) -> int:
        return sum(s.output_tokens for s in self.spend)

    @property
    def cost_units(self) -> int:
        return sum(s.cost_units for s in self.spend)


@dataclass(frozen=True)
class BatchSeen:
    """What the API said of a batch."""

    id: BatchId
    status: str  # in_progress, canceling, ended
    requests: int  # sum of its request_counts
    counts: dict[str, int]
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    archived_at: datetime | None

    @property
    def ended(self) -> bool:
        return self.status == "ended"


@dataclass(frozen=True)
class Stop:
    """Why nothing is sent for this account, and from when on one chunk may be sent to see whether it is over."""

    kind: str  # key, account (said at a create), lines (said in result lines), outdated (the ledger forgot batches)
    reason: str
    since: datetime
    tries: int
    retry_at: datetime
    probe: int | None = None  # the chunk that was sent to see; its results tell

    @property
    def sentence(self) -> str:
        """For people: what, since when, the way out."""
        if self.kind == "outdated":
            return self.reason
        when = "while one batch shows whether it is over" if self.probe else f"until {self.retry_at:%H:%M:%S} UTC"
        return (
            f"nothing is sent since {self.since:%Y-%m-%d %H:%M} UTC: {self.reason}; mend it, then `claude-pipeline resume`"
            f" (or wait: nothing is tried {when})"
        )


@dataclass(frozen=True)
class AskingRow(Row):
    """A process that asks in real time, as it last said; rates are per minute."""

    id: str
    workload: str
    pools: str  # JSON list
    started_at: datetime
    seen_at: datetime
    requests: int
    answered: int
    errored: int
    in_flight: int
    requests_per_minute: int
    input_tokens_per_minute: int
    output_tokens_per_minute: int
    waiting: str | None


@dataclass(frozen=True)
class WatchedBatch(Row):
    """A batch in flight, or one that ended with requests expired, with its chunk; times are the API's."""

    id: BatchId
    workload: str
    snapshot: SnapshotId
    key: str
    requests: int
    state: ChunkState
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    counts: str | None  # JSON, once it ended

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", ChunkState(self.state))


@dataclass(frozen=True)
class AlertRow(Row):
    """A thing that people are told once."""

    id: int
    key: str
    kind: str
    workload: str | None
    snapshot: str | None
    batch_id: str | None
    sentence: str
    noted_at: datetime
    tries: int
    next_try_at: datetime
    told_at: datetime | None


@dataclass(frozen=True)
class RateRow(Row):
    """Limits of a pool of models per minute, as the API told them; None: it did not."""

    pool: str
    requests: int | None
    input_tokens: int | None
    output_tokens: int | None
    told_at: datetime
    paused_until: datetime | None


@dataclass(frozen=True)
class Walls:
    """What an intent may not pass; money in 1e-10 USD, None where there is no wall."""

    queued_requests: int
    batches_in_flight: int
    snapshot_units: int | None
    ledger_units: int | None
    day_units: int | None = None  # of the workload, on a UTC day
