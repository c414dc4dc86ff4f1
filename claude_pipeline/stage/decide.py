"""Which rows of a plan are asked, and how the others are answered: by a query, out of core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.ledger import ChunkRow, PlanCounts, SnapshotId
from claude_pipeline.ledger.state import ON_ITS_WAY
from claude_pipeline.parquet_file import open_parquet
from claude_pipeline.sql import file_literal, literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.question import create_current
from claude_pipeline.workload import Workload

MEMORY_MB = 256  # what a million questions take; of more of them the rest is spilled
DISTINCT_ROWS_MAX = 4_000_000  # of which the beginnings take 32 MB
FINGERPRINT_BYTES = 32
HISTORY_TIMES = 3  # as many attempts as questions, from which on they are looked through for those that matter


@dataclass
class Decision:
    """`duck` holds the table `choice`: row, model, records, how (ask, asked, reused, awaited), one row per question."""

    duck: Any
    counts: PlanCounts
    to_ask_of: dict[str, int]  # of `counts.asked`, those that are not on their way yet, by model
    waits_on: list[SnapshotId]

    @property
    def to_ask(self) -> int:
        return sum(self.to_ask_of.values())

    def rows(self, model: str | None = None) -> Iterator[pa.Array]:
        """The rows to ask (of one model), ascending, as they come."""
        of = f" AND model = {literal(model)}" if model is not None else ""
        query = f"SELECT row FROM choice WHERE how = 'ask'{of} ORDER BY row"
        for batch in self.duck.sql(query).to_arrow_reader(50_000):
            yield batch.column(0)


@contextmanager
def decide(
    desk: Desk, workload: Workload, snapshot_id: str | None, plan: Path, rejected: int, own: Sequence[ChunkRow]
) -> Iterator[Decision]:
    """How each record of a plan is answered, told as long as the `with` lasts. `own` are the chunks in which the snapshot
    asked before; `snapshot_id` is None where it was never registered."""
    pa.default_memory_pool().release_unused()  # of the records that were rendered, before the questions come
    with leased(desk.home.scratch(), memory_mb=MEMORY_MB) as duck:
        create_current(duck, desk, workload, plan, snapshot_id)
        others = desk.ledger.chunks(workload.name, states=ON_ITS_WAY) if workload.reuse else []
        away = [chunk for chunk in others if chunk.snapshot != snapshot_id]
        attempts = desk.ledger.parts(
            workload.name, kinds=["attempts"], snapshot=None if workload.reuse else snapshot_id or ""
        )
        told = [
            answers_query([desk.path(part.path) for part in attempts], snapshot_id or ""),
            asked_query("is_own", [desk.path(chunk.index_path) for chunk in own]),
            asked_query("is_away", [desk.path(chunk.index_path) for chunk in away]),
        ]
        duck.execute("CREATE TYPE model AS ENUM (SELECT DISTINCT model FROM current)")  # a byte, in millions of rows
        questions = pq.read_metadata(plan).num_rows
        few = sum(part.rows for part in attempts) > HISTORY_TIMES * questions
        known = [query for query in told if query is not None]
        query = ALL_ASKED if not known and are_distinct(plan) else choice_query(known, few=few)
        duck.execute(f"CREATE TEMP TABLE choice AS {query}")
        counted = {how: (questions, records) for how, questions, records in duck.sql(
            "SELECT how, count(*), sum(records)::BIGINT FROM choice GROUP BY how").fetchall()}  # fmt: skip
        asked = counted.get("ask", (0, 0))[0] + counted.get("asked", (0, 0))[0]
        of_asked = counted.get("ask", (0, 0))[1] + counted.get("asked", (0, 0))[1]
        counts = PlanCounts(
            asked=asked,
            duplicates=of_asked - asked,
            reused=counted.get("reused", (0, 0))[1],
            awaited=counted.get("awaited", (0, 0))[1],
            rejected=rejected,
        )
        waits_on = sorted({c.snapshot for c in away}) if counts.awaited else []
        by_model = duck.sql("SELECT model, count(*) FROM choice WHERE how = 'ask' GROUP BY model").fetchall()
        yield Decision(duck, counts, dict(by_model), waits_on)


def are_distinct(plan: Path, *, most: int = DISTINCT_ROWS_MAX) -> bool:
    """Whether surely no two questions of a plan are the same: no two fingerprints begin alike. False of a large one, whose
    beginnings would not fit in little memory.

    A tenth of the time of an aggregation, which takes 1.3 us a question (2026-11-28).
    """
    with open_parquet(plan) as file:
        count = file.metadata.num_rows
        if count > most:
            return False
        starts, end = np.empty(count, np.uint64), 0
        for batch in file.iter_batches(columns=["fingerprint"]):
            valid = batch.column(0).drop_null()
            if not len(valid):
                continue
            numbers = np.frombuffer(valid.buffers()[1], np.uint64).reshape(-1, FINGERPRINT_BYTES // 8)
            own = numbers[valid.offset : valid.offset + len(valid), 0]
            starts[end : end + len(own)] = own
            end += len(own)
    starts = starts[:end]
    starts.sort()
    return bool((starts[1:] != starts[:-1]).all())


def choice_query(told: Sequence[str], *, few: bool) -> str:
    """One row per question. A single aggregation, since that is what spills: joins of as many keys, one for each thing that
    is known of a question, run out of `MEMORY_MB` at ten million. `few`: most of what is told is of other questions."""
    here = " WHERE fingerprint IN (SELECT fingerprint FROM current)" if few else ""
    union = " UNION ALL BY NAME ".join(
        [
            "SELECT fingerprint, row, model::model AS model, wanted_tokens::BIGINT AS wanted FROM current",
            f"SELECT {_NOTHING} WHERE false",
            *(f"{query}{here}" for query in told),
        ]
    )
    # What this snapshot asked before has its outcome or is on its way: never asked again by itself, but for
    # answers that were cut where a longer one may be had by now.
    return f"""
        SELECT row, records, model,
            CASE WHEN is_own AND (is_answered OR NOT coalesce(own_cut < wanted, false)) THEN 'asked'
                 WHEN is_answered THEN 'reused'
                 WHEN is_away THEN 'awaited' ELSE 'ask' END AS how
        FROM (
            SELECT min(row) AS row, count(row)::UINTEGER AS records, any_value(model) AS model, max(wanted) AS wanted,
                coalesce(bool_or(is_whole), false) OR coalesce(max(cut) >= max(wanted), false) AS is_answered,
                min(own_cut) AS own_cut, bool_or(is_own) AS is_own, bool_or(is_away) AS is_away
            FROM ({union}) GROUP BY fingerprint HAVING count(row) > 0)"""


ALL_ASKED = "SELECT row, 1::UINTEGER AS records, model::model AS model, 'ask' AS how FROM current"
_NOTHING = """NULL::BLOB AS fingerprint, false AS is_whole, 0::BIGINT AS cut, 0::BIGINT AS own_cut, false AS is_own,
    false AS is_away"""


def answers_query(files: Sequence[Path], snapshot_id: str) -> str | None:
    """Of each answer: whether it came to its end, else at how many tokens it was cut, and whether that was in this
    snapshot."""
    if not files:
        return None
    cut = "CASE WHEN stop_reason = 'max_tokens' THEN coalesce(max_tokens, 0) END"
    return f"""
        SELECT fingerprint, {cut} IS NULL AS is_whole, {cut} AS cut,
            CASE WHEN snapshot = {literal(snapshot_id)} THEN {cut} END AS own_cut
        FROM (SELECT * FROM {_read(files)} WHERE outcome = 'succeeded')"""


def asked_query(what: str, indexes: Sequence[Path]) -> str | None:
    """The questions of chunks."""
    return f"SELECT fingerprint, true AS {what} FROM {_read(indexes)}" if indexes else None


def _read(files: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(map(file_literal, files))}], union_by_name = true)"
