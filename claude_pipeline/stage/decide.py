"""Which rows of a plan are asked, and how the others are answered: found in memory, or by a query out of core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.ledger import ChunkRow, PlanCounts, SnapshotId
from claude_pipeline.ledger.state import ON_ITS_WAY
from claude_pipeline.result import AnswerIndex, are_distinct, fingerprint_file, prints_of
from claude_pipeline.sql import file_literal, literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.question import cascade_of, create_current
from claude_pipeline.workload import Workload

MEMORY_MB = 256  # what a million questions take; of more of them the rest is spilled
QUESTIONS_MAX = 1_500_000  # that are looked up in memory, as many answers beside them
HISTORY_TIMES = 3  # as many attempts as questions, from which on they are looked through for those that matter


@dataclass
class Decision:
    """`duck` holds the table `choice`: row, model, records, how (ask, asked, reused, awaited), one row per question; those
    that are reused need not be there."""

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
        files = [desk.path(part.path) for part in attempts]
        is_simple = not own and not away and (cascade_of(plan) is None or not files)
        found = unanswered(plan, files) if is_simple else None
        if found is not None:
            _create_simple_choice(duck, found.rows)
        else:
            told = [
                answers_query(files, snapshot_id or ""),
                asked_query("is_own", [desk.path(chunk.index_path) for chunk in own]),
                asked_query("is_away", [desk.path(chunk.index_path) for chunk in away]),
            ]
            _create_choice(duck, told, few=sum(part.rows for part in attempts) > HISTORY_TIMES * _rows_of(plan))
        counted = {how: (questions, records) for how, questions, records in duck.sql(
            "SELECT how, count(*), sum(records)::BIGINT FROM choice GROUP BY how").fetchall()}  # fmt: skip
        asked = counted.get("ask", (0, 0))[0] + counted.get("asked", (0, 0))[0]
        of_asked = counted.get("ask", (0, 0))[1] + counted.get("asked", (0, 0))[1]
        counts = PlanCounts(
            asked=asked,
            duplicates=of_asked - asked,
            reused=counted.get("reused", (0, 0))[1] + (found.answered if found is not None else 0),
            awaited=counted.get("awaited", (0, 0))[1],
            rejected=rejected,
        )
        waits_on = sorted({c.snapshot for c in away}) if counts.awaited else []
        by_model = duck.sql("SELECT model, count(*) FROM choice WHERE how = 'ask' GROUP BY model").fetchall()
        yield Decision(duck, counts, dict(by_model), waits_on)


def _create_simple_choice(duck: Any, rows: pa.Table) -> None:
    """Where each question has one record, and the rows of those without an answer are known."""
    _create_models(duck)
    duck.register("unanswered", rows)
    duck.execute(
        """CREATE TEMP TABLE choice AS SELECT row, 1::UINTEGER AS records, model::model AS model, 'ask' AS how
           FROM current WHERE row IN (SELECT row FROM unanswered)"""
    )
    duck.unregister("unanswered")


def _create_choice(duck: Any, told: Sequence[str | None], *, few: bool) -> None:
    _create_models(duck)
    duck.execute(f"CREATE TEMP TABLE choice AS {choice_query([query for query in told if query is not None], few=few)}")


def _create_models(duck: Any) -> None:
    duck.execute("CREATE TYPE model AS ENUM (SELECT DISTINCT model FROM current)")  # a byte, in millions of rows


def _rows_of(plan: Path) -> int:
    return int(pq.read_metadata(plan).num_rows)


class Unanswered(NamedTuple):
    """Of a plan's questions."""

    rows: pa.Table  # those without an answer, in one column
    answered: int  # how many have one


def unanswered(plan: Path, attempts: Sequence[Path], *, most: int = QUESTIONS_MAX) -> Unanswered | None:
    """What of a plan has no answer in these attempts. None where that does not tell what is asked: a question stands in the
    plan twice, perhaps, or was answered twice, or cut; or there are too many to be held.

    Raises:
        LedgerDamaged: a file cannot be read; says which.
    """
    with fingerprint_file(plan) as file:
        if file.metadata.num_rows > most:
            return None
        planned = file.read(columns=["row", "fingerprint"], use_threads=False)
    fingerprints = planned.column("fingerprint")
    if fingerprints.null_count:  # rejected
        planned = planned.filter(fingerprints.is_valid())
    rows, fingerprints = planned.select(["row"]), planned.column("fingerprint").combine_chunks()
    del planned
    if not are_distinct(prints_of(fingerprints)):
        return None
    if not attempts:
        return Unanswered(rows, 0)
    index = AnswerIndex.read(attempts, "", most=most)
    if index is None:
        return None
    left = rows.filter(pa.array(index.of_each(fingerprints, rows.column("row").to_numpy()) < 0))
    return Unanswered(left, len(rows) - len(left))


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
