"""The `ops` tables of the warehouse: what ran, what it cost, how fast; made from the ledger's rows.

Each ledger table goes through a newline-delimited JSON file into DuckDB: DuckDB 2.0.0 gives wrong
rows for some scans of in-process Arrow data (mended in 2.0.1), files are sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import orjson

from claude_pipeline.sql import file_literal, identifier, literal


@dataclass(frozen=True)
class OpsTable:
    """A table: its grain in one sentence, how it is selected, what its columns mean."""

    name: str
    comment: str
    query: str
    columns: Mapping[str, str]


# The ledger's tables as they are staged for the queries below, with the type of each column.
STAGED: dict[str, dict[str, str]] = {
    "snapshot": {
        "workload": "VARCHAR", "id": "VARCHAR", "partition": "VARCHAR", "number": "INTEGER", "state": "VARCHAR",
        "records": "BIGINT", "asked": "BIGINT", "reused": "BIGINT", "duplicates": "BIGINT", "awaited": "BIGINT",
        "rejected": "BIGINT", "succeeded": "BIGINT", "dead": "BIGINT", "created_at": "TIMESTAMPTZ",
        "planned_at": "TIMESTAMPTZ", "merged_at": "TIMESTAMPTZ", "canceled_at": "TIMESTAMPTZ",
        "watermark_value": "VARCHAR", "watermark_base": "VARCHAR",
    },
    "chunk": {
        "id": "BIGINT", "workload": "VARCHAR", "snapshot": "VARCHAR", "key": "VARCHAR", "round": "INTEGER",
        "model": "VARCHAR", "state": "VARCHAR", "requests": "INTEGER", "size_bytes": "BIGINT",
        "reserve_units": "BIGINT", "attempts": "INTEGER", "batch_id": "VARCHAR", "succeeded": "INTEGER",
        "errored": "INTEGER", "canceled": "INTEGER", "expired": "INTEGER", "retryable": "INTEGER", "invalid": "INTEGER",
        "input_tokens": "BIGINT", "output_tokens": "BIGINT", "cost_units": "BIGINT", "error_type": "VARCHAR",
        "error": "VARCHAR", "created_at": "TIMESTAMPTZ", "moved_at": "TIMESTAMPTZ", "collected_at": "TIMESTAMPTZ",
        "lane": "VARCHAR", "lost": "INTEGER",
    },
    "batch": {
        "id": "VARCHAR", "chunk_id": "BIGINT", "tag": "VARCHAR", "requests": "INTEGER", "status": "VARCHAR",
        "paid_twice": "INTEGER", "created_at": "TIMESTAMPTZ", "expires_at": "TIMESTAMPTZ", "ended_at": "TIMESTAMPTZ",
    },
    "spend": {
        "chunk_id": "BIGINT", "model": "VARCHAR", "lane": "VARCHAR", "billed_at": "TIMESTAMPTZ", "requests": "BIGINT",
        "input_tokens": "BIGINT", "output_tokens": "BIGINT", "cache_write_tokens": "BIGINT",
        "cache_read_tokens": "BIGINT", "cost_units": "BIGINT",
    },
    "event": {
        "id": "BIGINT", "at": "TIMESTAMPTZ", "move": "VARCHAR", "workload": "VARCHAR", "snapshot": "VARCHAR",
        "chunk_id": "BIGINT", "batch_id": "VARCHAR", "before": "VARCHAR", "after": "VARCHAR", "detail": "VARCHAR",
    },
}  # fmt: skip

OPS: tuple[OpsTable, ...] = (
    OpsTable(
        "snapshots",
        "One row per snapshot of a workload. records = asked + reused + duplicates + awaited + rejected; "
        "once merged, records = succeeded + dead + rejected.",
        """SELECT s.workload, s.id AS snapshot, s.partition, s.number, s.state, s.records, s.asked, s.reused,
                  s.duplicates, s.awaited, s.rejected, s.succeeded, s.dead,
                  coalesce((SELECT sum(c.cost_units) FROM staged.chunk c
                            WHERE c.workload = s.workload AND c.snapshot = s.id), 0) / 1e10 AS cost_usd,
                  s.created_at, s.planned_at, s.merged_at, s.canceled_at, s.watermark_value AS watermark,
                  s.watermark_base AS rests_on
           FROM staged.snapshot s ORDER BY s.workload, s.partition, s.number""",
        {
            "snapshot": "<partition>.<number>; number rises when the records of the partition changed",
            "asked": "requests cut from it: distinct questions without an answer",
            "reused": "records answered by an earlier snapshot, at no cost",
            "duplicates": "records that ask what another record of the snapshot asks, at no cost",
            "awaited": "records whose question was on its way in another snapshot",
            "rejected": "records that could not become a request",
            "dead": "records without an answer and without a further attempt",
            "cost_usd": "USD paid for it",
            "canceled_at": "when a person canceled it: nothing more of it is sent",
            "watermark": "highest value of dataset.watermark in it and what it rests on; null where the dataset has none",
            "rests_on": "the snapshot that holds the older records; null: it holds all of them",
        },
    ),
    OpsTable(
        "chunks",
        "One row per chunk of requests, in its present state: sent as one batch, or asked in real time.",
        """SELECT workload, snapshot, key AS chunk, round, model, CASE WHEN attempts > 0 THEN lane END AS lane, state,
                  requests, size_bytes, reserve_units / 1e10 AS reserve_usd, attempts AS sent, batch_id, succeeded,
                  errored, canceled, expired, retryable, invalid, lost, input_tokens, output_tokens,
                  cost_units / 1e10 AS cost_usd, error_type, error AS error_message, created_at, moved_at, collected_at
           FROM staged.chunk ORDER BY id""",
        {
            "chunk": "r<round>-<number>",
            "lane": "batch or realtime; null until it is sent, for that is decided then",
            "state": "held, ready, sending, live, ended, asking, done, failed or canceled",
            "reserve_usd": "upper bound of its cost, reserved while it is in flight",
            "sent": "how often it was sent; more than once only after a clear refusal",
            "retryable": "unanswered requests that a further round may ask",
            "invalid": "answers that do not fit the output schema",
            "lost": "in real time: times a request was sent that may have been paid and whose answer nobody recorded",
            "input_tokens": "all input, cache writes and reads included",
        },
    ),
    OpsTable(
        "batches",
        "One row per Message Batch of ours. Times are the API's.",
        """SELECT b.id AS batch_id, c.workload, c.snapshot, c.key AS chunk, c.model, b.status, b.requests, c.succeeded,
                  c.errored, c.canceled, c.expired, c.cost_units / 1e10 AS cost_usd, b.created_at, b.ended_at, b.expires_at,
                  epoch(b.ended_at) - epoch(b.created_at) AS turnaround_seconds,
                  (epoch(b.expires_at) - epoch(b.ended_at)) / 3600 AS hours_to_sla, b.paid_twice = 1 AS paid_twice
           FROM staged.batch b LEFT JOIN staged.chunk c ON c.id = b.chunk_id
           WHERE b.chunk_id IS NOT NULL OR b.tag IS NOT NULL ORDER BY b.created_at, b.id""",
        {
            "turnaround_seconds": "from created to ended",
            "paid_twice": "accepted after its chunk was given up and sent again; its answers are not merged",
            "hours_to_sla": "hours that were left of the API's 24 h when it ended",
            "expires_at": "24 h after created_at: what is unanswered then expires, unbilled",
        },
    ),
    OpsTable(
        "costs",
        "One row per UTC day, workload, model and lane: what was billed, by the batch's created_at, in real "
        "time by the minute of the answer.",
        """SELECT CAST(timezone('UTC', s.billed_at) AS DATE) AS day, c.workload, s.model, s.lane,
                  sum(s.requests)::BIGINT AS requests, sum(s.input_tokens)::BIGINT AS input_tokens,
                  sum(s.output_tokens)::BIGINT AS output_tokens, sum(s.cache_write_tokens)::BIGINT AS cache_write_tokens,
                  sum(s.cache_read_tokens)::BIGINT AS cache_read_tokens, sum(s.cost_units) / 1e10 AS cost_usd
           FROM staged.spend s JOIN staged.chunk c ON c.id = s.chunk_id GROUP BY ALL ORDER BY ALL""",
        {
            "requests": "billed ones: only succeeded requests are",
            "input_tokens": "input that no cache touched",
            "cost_usd": "equals the sum of cost_usd over <workload>.attempts, and the invoice",
        },
    ),
    OpsTable(
        "throughput",
        "One row per UTC minute, workload, model and lane. A batch tells no times of its requests: they are spread "
        "evenly from created to ended, and estimated is true. In real time each answer counts in its minute.",
        """WITH span AS (
               SELECT c.workload, s.model, s.lane, s.requests, s.output_tokens,
                      s.input_tokens + s.cache_write_tokens + s.cache_read_tokens AS input_tokens,
                      date_trunc('minute', b.created_at) AS first, date_trunc('minute', b.ended_at) AS last,
                      date_diff('minute', date_trunc('minute', b.created_at), date_trunc('minute', b.ended_at)) + 1 AS minutes
               FROM staged.spend s JOIN staged.chunk c ON c.id = s.chunk_id JOIN staged.batch b ON b.id = c.batch_id
               WHERE b.ended_at IS NOT NULL AND s.lane = 'batch'
               UNION ALL
               SELECT c.workload, s.model, s.lane, s.requests, s.output_tokens,
                      s.input_tokens + s.cache_write_tokens + s.cache_read_tokens, date_trunc('minute', s.billed_at),
                      date_trunc('minute', s.billed_at), 1
               FROM staged.spend s JOIN staged.chunk c ON c.id = s.chunk_id WHERE s.lane = 'realtime'),
           spread AS (SELECT span.*, unnest(generate_series(first, last, INTERVAL 1 MINUTE)) AS minute FROM span)
           SELECT minute, workload, model, lane, sum(requests / minutes) AS requests_per_min,
                  sum(input_tokens / minutes) AS input_tokens_per_min, sum(output_tokens / minutes) AS output_tokens_per_min,
                  lane = 'batch' AS estimated
           FROM spread GROUP BY minute, workload, model, lane ORDER BY minute, workload, model, lane""",
        {
            "requests_per_min": "billed ones: only succeeded requests are",
            "estimated": "true: spread over a batch's time; false: counted by each answer's own time, in real time",
        },
    ),
    OpsTable(
        "events",
        "One row per move of the ledger: the story of each snapshot, chunk and batch.",
        """SELECT e.id, e."at", e.move, coalesce(e.workload, c.workload) AS workload, coalesce(e.snapshot, c.snapshot) AS snapshot,
                  c.key AS chunk, e.batch_id, e.before, e.after, e.detail
           FROM staged.event e LEFT JOIN staged.chunk c ON c.id = e.chunk_id ORDER BY e.id""",
        {"at": "our clock", "before": "state before the move", "after": "state after it"},
    ),
)

# A view, not a table: an age that was computed when the file was published would be stale a minute later.
SLA = OpsTable(
    "sla",
    "One row per Message Batch, the least time left first: its age and what is left of its 24 h at the moment you ask. "
    "Whether it has ended is as of the publication: a batch shown in progress may have ended since.",
    """SELECT batch_id, workload, snapshot, chunk, model, status, requests, expired, created_at, expires_at, ended_at,
              (epoch(coalesce(ended_at, now())) - epoch(created_at)) / 3600 AS age_hours,
              (epoch(expires_at) - epoch(coalesce(ended_at, now()))) / 3600 AS hours_left
       FROM ops.batches ORDER BY hours_left""",
    {
        "age_hours": "from created to ended; to now, by your clock, where it had not ended at the publication",
        "hours_left": "until expires_at from when it ended, else from now; negative: past it",
        "expires_at": "24 h after created_at: what is unanswered then expires, unbilled",
    },
)


def stage(duck: duckdb.DuckDBPyConnection, name: str, rows: Iterable[Mapping[str, object]], scratch: Path) -> None:
    """Put a ledger table's rows into `staged.<name>`."""
    columns = STAGED[name]
    path = scratch / f"{name}.ndjson"
    with path.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps({key: row[key] for key in columns}) + b"\n")
    types = ", ".join(f"{literal(key)}: {literal(kind)}" for key, kind in columns.items())
    source = f"read_json({file_literal(path)}, format = 'newline_delimited', columns = {{{types}}})"
    duck.execute(f"CREATE TABLE staged.{identifier(name)} AS SELECT * FROM {source}")
    path.unlink()
