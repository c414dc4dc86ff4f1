"""The ledger's tables. Every move of a chunk, intent, snapshot or batch leaves one row in `event`.

Times are UTC. Amounts of money are integers of 1e-10 USD (`*_units`). Paths are relative to the
home. Checksums are hex sha256 of the file named beside them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.event import listen
from sqlalchemy.types import TypeDecorator

from claude_pipeline.ledger.state import OWNING_INTENTS, ChunkState, IntentState, SnapshotState


class Moment(TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite keeps it without zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Words(TypeDecorator[str]):
    """What others said, for people. PostgreSQL keeps no NUL and no database a lone surrogate: both become �."""

    impl = Text
    cache_ok = True

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit  # characters

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        kept = value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return kept[: self.limit]


def _one_of(column: str, states: type[ChunkState] | type[IntentState] | type[SnapshotState]) -> CheckConstraint:
    names = ", ".join(f"'{state.value}'" for state in states)
    return CheckConstraint(f"{column} IN ({names})", name=f"{column}_known")


LIVE_HAS_BATCH = CheckConstraint(
    "state NOT IN ('live', 'ended', 'done') OR batch_id IS NOT NULL OR lane = 'realtime'", name="live_has_batch"
)
Big = BigInteger().with_variant(Integer(), "sqlite")  # SQLite gives ids to INTEGER primary keys only
metadata = MetaData()

setting = Table(
    "setting",  # what the ledger knows of itself: ledger_id, schema_version, workspace_id, stop, first_watermark
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Words, nullable=False),
)

workload = Table(
    "workload",  # one row per workload name ever run
    metadata,
    Column("name", String(63), primary_key=True),
    Column("source", Text),  # its YAML file; two living files with one name are refused
    Column("cadence", String(16), nullable=False),
    Column("measure", Text),  # JSON: how the warehouse measures its answers; null: it has no labels and no score
    Column("created_at", Moment, nullable=False),
)

snapshot = Table(
    "snapshot",  # one row per immutable set of records
    metadata,
    Column("workload", String(63), primary_key=True),
    Column("id", String(64), primary_key=True),  # <partition>.<number>
    Column("partition", String(32), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("path", Text, nullable=False),
    Column("digest", String(64), nullable=False),  # sha256 of its file: also its checksum
    Column("full_snapshot", String(64)),  # id of the one that its file differs from; null: its file holds all records
    Column("records", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
    # of the current plan: which question each record asks
    Column("plan_number", Integer, nullable=False, default=0),
    Column("plan_path", Text),
    Column("plan_sha256", String(64)),
    Column("planned_at", Moment),
    Column("asked", BigInteger),  # requests cut for this plan
    Column("reused", BigInteger),  # records whose question an earlier snapshot answered
    Column("duplicates", BigInteger),  # records whose question another record of it asks
    Column("awaited", BigInteger),  # records whose question is on its way in another snapshot
    Column("rejected", BigInteger),  # records that cannot become a request
    # of the current merge
    Column("merged_at", Moment),
    Column("merged_plan", Integer),  # the plan_number it merged
    Column("merge_number", Integer, nullable=False, default=0, server_default="0"),  # how often it was merged
    Column("merged_chunks", Integer),  # of its chunks, those collected by then
    Column("published_merge", Integer),  # the merge_number in the newest warehouse
    Column("succeeded", BigInteger),
    Column("dead", BigInteger),
    # of a person's word
    Column("canceled_at", Moment),  # nothing more of it is sent
    Column("pilot", Integer),  # its plan asks so many questions only, to see; null: all of them
    Column("wanted_from", Moment),  # when its deadline began to run: planned, or retried by hand
    Column("rounds_used", Integer, nullable=False, default=0, server_default="0"),  # before the last retry by hand
    # of an append-only source: it and the snapshots it rests on hold every record up to watermark_value
    Column("watermark_column", Text),  # null: it was read in full
    Column("watermark_type", String(32)),  # whole number, date, timestamp, timestamp with time zone, text
    Column("watermark_value", Text),  # in the text of claude_pipeline.dataset.Mark
    Column("watermark_base", String(64)),  # id of the snapshot that holds what is older; null: none, it holds all
    CheckConstraint("merged_at IS NULL OR succeeded IS NOT NULL", name="merged_has_counts"),
    _one_of("state", SnapshotState),
    UniqueConstraint("workload", "partition", "number"),
)

snapshot_wait = Table(
    "snapshot_wait",  # a snapshot some of whose records wait for answers on their way in another
    metadata,
    Column("workload", String(63), primary_key=True),
    Column("snapshot", String(64), primary_key=True),
    Column("waits_on", String(64), primary_key=True),
)

chunk = Table(
    "chunk",  # one row per chunk of requests meant for one batch
    metadata,
    Column("id", Big, primary_key=True, autoincrement=True),
    Column("workload", String(63), nullable=False),
    Column("snapshot", String(64), nullable=False),
    Column("key", String(32), nullable=False),  # r<round>-<number, four digits>
    Column("round", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("plan_number", Integer, nullable=False),
    Column("model", String(128), nullable=False),
    Column("max_tokens", BigInteger),  # of each of its requests
    Column("state", String(16), nullable=False),
    Column("requests", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("reserve_units", BigInteger, nullable=False),
    Column("first_row", BigInteger, nullable=False),
    Column("last_row", BigInteger, nullable=False),
    Column("params_path", Text, nullable=False),
    Column("params_sha256", String(64), nullable=False),
    Column("index_path", Text, nullable=False),
    Column("index_sha256", String(64), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("moved_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),  # times it was sent
    Column("not_before", Moment),  # after a 429: when it may be tried again
    Column("error", Words),  # why it failed or waits, for people
    Column("error_type", Words(64)),  # as the API names it
    Column("batch_id", String(128)),
    # of what was collected
    Column("collected_at", Moment),
    Column("succeeded", Integer),
    Column("errored", Integer),
    Column("canceled", Integer),
    Column("expired", Integer),
    Column("retryable", Integer),  # of the unanswered: those another round may answer
    Column("stopped", Integer),  # of the retryable: those that met the account's stop, not an error of their own
    Column("invalid", Integer),  # of the succeeded: answers outside the output schema
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cost_units", BigInteger),
    Column("next_round_cut", Integer, nullable=False, default=0),  # 1 once its retryables are in a later chunk
    Column("cancel_asked_at", Moment),  # when the API was asked to cancel its batch
    # of a cascade
    Column("rounds_before", Integer, nullable=False, default=0, server_default="0"),  # of earlier levels
    Column("moves_on", Integer),  # of its requests: those whose records the next model is asked about
    Column("next_level_cut", Integer, nullable=False, default=0, server_default="0"),  # 1 once that was looked at
    Column("kept_units", BigInteger),  # of the reserve: for answers whose cost nobody can know
    Column("waits_for", String(32)),  # key of the chunk of its snapshot that fills the prompt cache first
    # of the real-time lane
    Column("lane", String(16), nullable=False, default="batch", server_default="batch"),  # batch, realtime
    Column("lost", Integer, nullable=False, default=0, server_default="0"),  # POSTs whose answers nobody recorded
    Column("rescued_at", Moment),  # when its batch was given up, so that the rest can be asked in real time
    _one_of("state", ChunkState),
    CheckConstraint("state != 'done' OR collected_at IS NOT NULL", name="done_is_collected"),
    LIVE_HAS_BATCH,
    UniqueConstraint("workload", "snapshot", "key"),
    ForeignKeyConstraint(["workload", "snapshot"], ["snapshot.workload", "snapshot.id"]),
    Index("chunk_by_state", "state", "workload"),
)

intent = Table(
    "intent",  # one row per time a chunk was about to be sent
    metadata,
    Column("id", Big, primary_key=True, autoincrement=True),
    Column("chunk_id", Big, nullable=False),
    Column("tag", String(32), nullable=False, unique=True),
    Column("requests", Integer, nullable=False),
    Column("watermark", String(128)),  # newest batch at the API before; null where there was none
    Column("state", String(16), nullable=False),
    Column("batch_id", String(128), unique=True),
    Column("created_at", Moment, nullable=False),
    Column("doubt_at", Moment),
    Column("doubt_reason", Words),
    Column("candidates", Text),  # JSON list of batch ids, frozen when the settle time is over
    Column("settled_at", Moment),
    _one_of("state", IntentState),
    ForeignKeyConstraint(["chunk_id"], ["chunk.id"]),
    Index("intent_by_state", "state"),
)
# No `Index`: its condition would be given for each database, and SQLAlchemy import the dialects of all: 0.05 s a process.
listen(
    intent,
    "after_create",
    DDL(  # type: ignore[no-untyped-call]  # SQLAlchemy does not say its types
        "CREATE UNIQUE INDEX intent_one_living_per_chunk ON intent (chunk_id) WHERE state IN ({})".format(
            ", ".join(f"'{s.value}'" for s in sorted(OWNING_INTENTS))
        )
    ),
)

batch = Table(
    "batch",  # one row per Message Batch of ours, and per foreign one we had to look at
    metadata,
    Column("id", String(128), primary_key=True),
    Column("chunk_id", Big),  # null: not ours
    Column("tag", String(32)),
    Column("requests", Integer, nullable=False),
    Column("status", Words(32), nullable=False),
    Column("created_at", Moment, nullable=False),  # all as the API says
    Column("expires_at", Moment),
    Column("ended_at", Moment),
    Column("archived_at", Moment),
    Column("counts", Text),  # JSON of request_counts when it ended
    Column("seen_at", Moment, nullable=False),  # by our clock
    Column("paid_twice", Integer, nullable=False, default=0, server_default="0"),  # 1: its requests were sent again
    Index("batch_by_chunk", "chunk_id"),
)

spend = Table(
    "spend",  # what a collected chunk cost, by model, lane and time
    metadata,
    Column("chunk_id", Big, primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("lane", String(16), primary_key=True),
    Column("billed_at", Moment, primary_key=True),  # of a batch: created_at; of answers in real time: their minute
    Column("requests", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cost_units", BigInteger, nullable=False),
)

part = Table(
    "part",  # files of rows that later steps trust
    metadata,
    Column("path", Text, primary_key=True),
    Column("kind", String(16), nullable=False),  # attempts, answered (of a chunk) or rest (of a merge)
    Column("workload", String(63), nullable=False),
    Column("snapshot", String(64), nullable=False),
    Column("plan_number", Integer, nullable=False),
    Column("chunk_id", Big),
    Column("rows", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("current", Integer, nullable=False, default=1),  # 0: superseded by a later merge
    Column("merged", Integer, nullable=False, default=0, server_default="0"),  # 1: the last merge counts it in
    Index("part_by_snapshot", "workload", "snapshot", "kind"),
)

asking = Table(
    "asking",  # processes that ask in real time now: they share the limits, and say how far they are
    metadata,
    Column("id", String(32), primary_key=True),
    Column("workload", String(63), nullable=False),
    Column("pools", Text, nullable=False),  # JSON list: the pools of models whose limits it uses
    Column("started_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),  # its heartbeat
    Column("requests", BigInteger, nullable=False),  # that it has taken on
    Column("answered", BigInteger, nullable=False),
    Column("errored", BigInteger, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("requests_per_minute", Integer, nullable=False),
    Column("input_tokens_per_minute", BigInteger, nullable=False),
    Column("output_tokens_per_minute", BigInteger, nullable=False),
    Column("waiting", Words(200)),  # why it does not send just now, for people
)

rate = Table(
    "rate",  # what answers told of a pool's limits per minute: better known than the catalogue's
    metadata,
    Column("pool", String(128), primary_key=True),
    Column("requests", BigInteger),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("told_at", Moment, nullable=False),
    Column("paused_until", Moment),  # the API asked all of us to wait
)

publication = Table(
    "publication",  # one row per published version of the warehouse
    metadata,
    Column("version", Integer, primary_key=True),
    Column("path", Text, nullable=False),
    Column("published_at", Moment, nullable=False),
)

alert = Table(
    "alert",  # one row per thing that people are told, once: by a log line, and where there is one by the webhook
    metadata,
    Column("id", Big, primary_key=True, autoincrement=True),
    Column("key", String(255), nullable=False, unique=True),  # <kind>/<what it is about>
    Column("kind", String(32), nullable=False),
    Column("workload", String(63)),
    Column("snapshot", String(64)),
    Column("batch_id", String(128)),
    Column("sentence", Words, nullable=False),
    Column("noted_at", Moment, nullable=False),
    Column("tries", Integer, nullable=False, default=0),  # POSTs to the webhook
    Column("next_try_at", Moment, nullable=False),  # not before this moment
    Column("told_at", Moment),  # when the webhook took it
)

event = Table(
    "event",  # the story of everything above
    metadata,
    Column("id", Big, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("move", String(48), nullable=False),
    Column("workload", String(63)),
    Column("snapshot", String(64)),
    Column("chunk_id", Big),
    Column("intent_id", Big),
    Column("batch_id", String(128)),
    Column("before", String(16)),
    Column("after", String(16)),
    Column("detail", Words),
    Index("event_by_chunk", "chunk_id"),
)
