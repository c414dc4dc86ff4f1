"""A pilot: a stratified sample of a snapshot asked for real; the full run asks only the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.dataset import Records
from claude_pipeline.duckdb_pool import leased
from claude_pipeline.errors import UsageError
from claude_pipeline.ledger import SnapshotRow
from claude_pipeline.request import Prompt
from claude_pipeline.result import output_fields
from claude_pipeline.sql import file_literal, identifier
from claude_pipeline.stage.decide import Decision
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

SHOWN = 10
SHOWN_CHARACTERS = 300


def keep_sample(decision: Decision, plan: Path, count: int) -> None:
    """Leave only `count` of the rows to ask in a decision: one of each stratum by bytes, of each model its share."""
    decision.duck.execute(
        f"""CREATE TEMP TABLE sampled AS
            WITH placed AS (
                SELECT c.row, hex(p.fingerprint) AS fp, count(*) OVER () AS n,
                    row_number() OVER (ORDER BY c.model, p.size_bytes, p.fingerprint) AS place
                FROM choice c JOIN read_parquet({file_literal(plan)}) p USING (row) WHERE c.how = 'ask')
            SELECT arg_min(row, fp) AS row FROM placed GROUP BY (place - 1) * least({count:d}, n) // n"""
    )
    decision.duck.execute("UPDATE choice SET how = 'later' WHERE how = 'ask' AND row NOT IN (SELECT row FROM sampled)")
    left = decision.duck.sql("SELECT model, count(*) FROM choice WHERE how = 'ask' GROUP BY model").fetchall()
    decision.to_ask_of = dict(left)


def check_pilot(snapshot: SnapshotRow) -> None:
    """Raises UsageError where a snapshot is beyond a pilot."""
    if snapshot.plan_number and snapshot.pilot is None:
        raise UsageError(
            f"snapshot {snapshot.workload}/{snapshot.id} is planned in full already: its answers are on their way or here; "
            "`claude-pipeline plan` without --pilot learns from them"
        )


@dataclass(frozen=True)
class PilotRows:
    """What a pilot's answers show: counts, tokens, cost, and some of them beside their records."""

    asked: int
    succeeded: int
    valid: int  # of the succeeded, those that fit the output schema
    input_tokens: int
    output_tokens: int
    cost_usd: float
    columns: tuple[str, ...]
    shown: tuple[tuple[Any, ...], ...]


def read_pilot(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> PilotRows:
    """The attempts of a piloted snapshot.

    Raises:
        UsageError: none of them has been collected.
    """
    parts = desk.ledger.parts(workload.name, kinds=["attempts"], snapshot=snapshot.id)
    if not parts:
        raise UsageError(f"the pilot of {workload.name}/{snapshot.id} has no answers yet; run it again")
    files = ", ".join(file_literal(desk.path(part.path)) for part in parts)
    attempts = f"read_parquet([{files}], union_by_name = true)"
    output = output_fields(workload)
    there = pq.read_schema(desk.path(snapshot.path)).names
    own = [
        "record_id",
        *(name for name in Prompt(workload.template(), there).columns if name != "record_id"),
    ]  # what Claude was shown
    answers = [field.name for field in output] or ["answer"]
    columns = (*own, "outcome", *answers)
    chosen = [*(f"s.record.{identifier(name)}" for name in own), "a.outcome"]
    chosen += [f"a.{identifier(name)}" for name in answers]
    shown = ", ".join(f"left({column}::VARCHAR, {SHOWN_CHARACTERS})" for column in chosen)
    with leased(desk.home.scratch()) as duck:
        (totals,) = duck.sql(
            f"""SELECT count(DISTINCT fingerprint), count(*) FILTER (outcome = 'succeeded'),
                       count(*) FILTER (outcome = 'succeeded' AND error_type IS NULL),
                       coalesce(sum(input_tokens + cache_write_tokens + cache_read_tokens), 0)::BIGINT,
                       coalesce(sum(output_tokens), 0)::BIGINT, coalesce(sum(cost_usd), 0) FROM {attempts}"""
        ).fetchall()
        first = f"SELECT * FROM {attempts} ORDER BY outcome DESC, row LIMIT {SHOWN}"
        numbers = np.unique(np.array(duck.sql(f"SELECT row FROM ({first})").fetchall(), np.int64))
        with Records(desk.path(snapshot.path)) as records:
            record = pa.chunked_array(records.at(numbers, own).to_struct_array())
        duck.register("records", pa.table({"row": numbers, "record": record}))
        try:
            rows = duck.sql(
                f"SELECT {shown} FROM ({first}) a JOIN records s USING (row) ORDER BY a.outcome DESC, row"
            ).fetchall()
        finally:
            duck.unregister("records")
    asked, succeeded, valid, input_tokens, output_tokens, cost_usd = totals
    return PilotRows(asked, succeeded, valid, input_tokens, output_tokens, cost_usd, columns, tuple(rows))
