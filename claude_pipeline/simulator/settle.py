"""Bring a batch to its end: count, cut what was not finished, write the bill. Once, in one transaction."""

from __future__ import annotations

import os
import sqlite3

import orjson

from claude_pipeline.simulator.batch import Batch, End, end_of
from claude_pipeline.simulator.clock import rfc3339
from claude_pipeline.simulator.store import Store

_OUTCOMES = ("succeeded", "errored", "canceled", "expired")


def settle(store: Store, seq: int, now_us: int) -> Batch:
    """The batch, ended if its end is past and its answers are written. Safe to call twice."""
    with store.transaction() as db:
        batch = store.batches("WHERE seq = ?", (seq,))[0]
        end = end_of(batch)
        if batch.ended_us is not None or not batch.answered or end.at_us > now_us:
            return batch
        if end.finished < batch.size:
            _cut(store, db, batch, end)
        _bill(store, db, batch, end)
        store.remember("now_us", now_us)
        return store.batches("WHERE seq = ?", (seq,))[0]


def _cut(store: Store, db: sqlite3.Connection, batch: Batch, end: End) -> None:
    """Give the requests that were not finished their outcome, in the store and in the results file."""
    offset = 0
    if end.finished:
        query = "SELECT end_offset FROM line WHERE batch = ? AND position = ?"
        offset = db.execute(query, (batch.seq, end.finished - 1)).fetchone()[0]
    unfinished = db.execute(
        "SELECT custom_id FROM line WHERE batch = ? AND position >= ? ORDER BY position", (batch.seq, end.finished)
    )
    with store.results_path(batch.id).open("r+b") as results:
        os.truncate(results.fileno(), offset)
        results.seek(offset)
        for (custom_id,) in unfinished:
            entry = {"custom_id": custom_id, "result": {"type": end.rest}}
            results.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
    db.execute(
        "UPDATE line SET outcome = ?, error_type = NULL, input = 0, output = 0, write_5m = 0, write_1h = 0, read = 0, "
        "cost_pico = 0, at_us = ? WHERE batch = ? AND position >= ?",
        (end.rest, end.at_us, batch.seq, end.finished),
    )


def _bill(store: Store, db: sqlite3.Connection, batch: Batch, end: End) -> None:
    counts = dict.fromkeys(_OUTCOMES, 0)
    counts |= dict(db.execute("SELECT outcome, COUNT(*) FROM line WHERE batch = ? GROUP BY outcome", (batch.seq,)))
    db.execute(
        "INSERT INTO bill SELECT batch, model, COUNT(*), SUM(input), SUM(output), SUM(write_5m), SUM(write_1h), "
        "SUM(read), SUM(cost_pico) FROM line WHERE batch = ? AND outcome = 'succeeded' GROUP BY model",
        (batch.seq,),
    )
    query = "SELECT COALESCE(SUM(cost_pico), 0) FROM bill WHERE batch = ?"
    cost_pico = db.execute(query, (batch.seq,)).fetchone()[0]
    db.execute(
        "UPDATE batch SET ended_us = ?, succeeded = ?, errored = ?, canceled = ?, expired = ?, billed = ?, "
        "cost_pico = ? WHERE seq = ?",
        (end.at_us, *(counts[name] for name in _OUTCOMES), counts["succeeded"], cost_pico, batch.seq),
    )
    store.add_spend(rfc3339(end.at_us)[:7], cost_pico)
