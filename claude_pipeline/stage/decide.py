"""Which rows of a plan are asked, and how the others are answered: by a query, out of core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from claude_pipeline.ledger import ChunkRow, PlanCounts, SnapshotId
from claude_pipeline.ledger.state import ON_ITS_WAY
from claude_pipeline.result import answered_where, connection
from claude_pipeline.sql import file_literal, literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.question import create_current
from claude_pipeline.workload import Workload


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

    def close(self) -> None:
        self.duck.close()


def decide(
    desk: Desk, workload: Workload, snapshot_id: str | None, plan: Path, rejected: int, own: Sequence[ChunkRow]
) -> Decision:
    """How each record of a plan is answered. `own` are the chunks in which the snapshot asked before;
    `snapshot_id` is None where it was never registered."""
    duck = connection(desk.home.scratch())
    create_current(duck, desk, workload, plan, snapshot_id)
    duck.execute(
        """CREATE TEMP TABLE question AS
           SELECT fingerprint, min(row) AS row, count(*) AS records, any_value(model) AS model,
               any_value(wanted_tokens) AS wanted_tokens
           FROM current GROUP BY fingerprint"""
    )
    others = desk.ledger.chunks(workload.name, states=ON_ITS_WAY) if workload.reuse else []
    answered = desk.ledger.parts(
        workload.name, kinds=["attempts"], snapshot=None if workload.reuse else snapshot_id or ""
    )
    good = answered_where("wanted_tokens")
    by_question = "JOIN question USING (fingerprint) WHERE"
    _known(duck, "answered", [desk.path(p.path) for p in answered], f"{by_question} {good}")
    mine = [desk.path(p.path) for p in answered if p.snapshot == snapshot_id]
    _known(duck, "cut_short", mine, f"{by_question} outcome = 'succeeded' AND NOT ({good})")
    # What this snapshot asked before has its outcome or is on its way: never asked again by itself, but for
    # answers that were cut where a longer one may be had by now.
    _known(duck, "asked_before", [desk.path(c.index_path) for c in own], "")
    duck.execute(
        """CREATE TEMP TABLE asked AS FROM asked_before WHERE fingerprint IN (FROM answered)
           OR fingerprint NOT IN (FROM cut_short)"""
    )
    away = [c for c in others if c.snapshot != snapshot_id]
    _known(duck, "away", [desk.path(c.index_path) for c in away], "")
    duck.execute(
        """CREATE TEMP TABLE choice AS SELECT q.row, q.records, q.model,
               CASE WHEN q.fingerprint IN (FROM asked) THEN 'asked'
                    WHEN q.fingerprint IN (FROM answered) THEN 'reused'
                    WHEN q.fingerprint IN (FROM away) THEN 'awaited' ELSE 'ask' END AS how
           FROM question q"""
    )
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
    return Decision(duck, counts, dict(by_model), waits_on)


def _known(duck: Any, name: str, files: Sequence[Path], where: str) -> None:
    """A temporary table of the fingerprints in `files`."""
    source = "(SELECT NULL::BLOB AS fingerprint, '' AS outcome, '' AS stop_reason, 0 AS max_tokens WHERE false)"
    if files:
        source = f"read_parquet([{', '.join(file_literal(path) for path in files)}], union_by_name = true)"
    duck.execute(f"CREATE TEMP TABLE {name} AS SELECT DISTINCT fingerprint FROM {source} {where}")
