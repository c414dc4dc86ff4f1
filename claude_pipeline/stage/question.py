"""What each record of a plan asks now: the same question always, or under a cascade that of its present level.

A record's level is derived anew from the plan and from what was answered, never remembered: it is the first
one that has not passed the record on, or the last. A level passes a record on when its question

- has answers and none is good: outside the output schema, refused, cut at that level's max_tokens, or
  `gives_up_when` is true of it (null and a failure of the condition count as false); or
- met an error in this snapshot that would come again (`permanent`; a stop of the account is none).

Answers of earlier snapshots count where the workload reuses them; errors of earlier snapshots never do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow.parquet as pq

from claude_pipeline.dataset import guarded
from claude_pipeline.ledger import ChunkRow, Part, SnapshotRow
from claude_pipeline.result import attempts_schema, good_where, output_fields
from claude_pipeline.sql import file_literal, literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

CASCADE_KEY = b"cascade"  # in the plan's metadata: the models in order, as JSON


class Cascade(NamedTuple):
    """The cascade that a plan was made for. A change of the workload counts when it is planned anew."""

    models: tuple[str, ...]
    max_tokens: tuple[int, ...]
    gives_up_when: str | None


def cascade_of(plan: Path) -> Cascade | None:
    """The cascade that a plan was made for, if it was."""
    about = pq.read_schema(plan).metadata or {}
    if CASCADE_KEY not in about:
        return None
    found = orjson.loads(about[CASCADE_KEY])
    return Cascade(tuple(found["models"]), tuple(found["max_tokens"]), found["gives_up_when"])


def create_current(duck: Any, desk: Desk, workload: Workload, plan: Path, snapshot_id: str | None) -> None:
    """Make `current` on a connection: row, fingerprint, model, wanted_tokens (its max_tokens), fallback
    (an earlier level has an answer, if not a good one); one row per record that can be asked."""
    cascade = cascade_of(plan)
    if cascade is not None:
        attempts = desk.ledger.parts(
            workload.name, kinds=["attempts"], snapshot=None if workload.reuse else snapshot_id or ""
        )
        with tempfile.TemporaryDirectory(dir=desk.home.scratch(), prefix="cascade-") as folder:
            tried = Path(folder) / "tried.parquet"
            _write_tried(desk, workload, cascade, plan, attempts, snapshot_id, tried)
            duck.execute(f"CREATE TEMP TABLE current AS {_frontier(cascade, plan, tried)}")
        return
    model = "model" if "model" in pq.read_schema(plan).names else literal(workload.models[0])
    duck.execute(
        f"""CREATE TEMP VIEW current AS
            SELECT row, fingerprint, {model} AS model, {workload.max_tokens:d} AS wanted_tokens, false AS fallback
            FROM read_parquet({file_literal(plan)}) WHERE fingerprint IS NOT NULL"""
    )


def metadata_of(workload: Workload) -> dict[bytes, bytes]:
    """What a cascade adds to a plan's metadata: one with another rule is another plan."""
    if workload.cascade is None:
        return {}
    limits = [variant.max_tokens for variant in workload.variants]
    return {
        CASCADE_KEY: orjson.dumps(
            {"models": workload.models, "max_tokens": limits, "gives_up_when": workload.gives_up_when}
        )
    }


def moves_on(desk: Desk, snapshot: SnapshotRow, chunk: ChunkRow, attempts: Path) -> int:
    """How many requests of a chunk its level passes on; 0 where no level follows."""
    cascade = None if snapshot.plan_path is None else cascade_of(desk.path(snapshot.plan_path))
    if cascade is None or chunk.model not in cascade.models[:-1]:
        return 0
    passed = _passed("t", cascade.max_tokens[cascade.models.index(chunk.model)])
    with guarded(desk.home.scratch(), [attempts]) as duck:
        rows = f"SELECT * FROM read_parquet({file_literal(attempts)})"
        query = f"SELECT count(*) FROM ({_judged(cascade, rows, chunk.snapshot)}) t WHERE {passed}"
        return int(duck.sql(query).fetchall()[0][0])


def _write_tried(
    desk: Desk,
    workload: Workload,
    cascade: Cascade,
    plan: Path,
    attempts: Sequence[Part],
    snapshot_id: str | None,
    path: Path,
) -> None:
    """What became of each question of the plan that was ever asked, over all levels."""
    empty = path.with_name("none.parquet")
    pq.write_table(attempts_schema(output_fields(workload)).empty_table(), empty)
    files = [empty, *(desk.path(part.path) for part in attempts)]
    asked = f"SELECT unnest([fingerprint] || further) AS fingerprint FROM read_parquet({file_literal(plan)})"
    rows = f"""SELECT * FROM read_parquet([{", ".join(map(file_literal, files))}], union_by_name = true)
               WHERE fingerprint IN ({asked})"""
    with guarded(desk.home.scratch(), [*files, plan]) as duck:
        duck.execute(f"COPY ({_judged(cascade, rows, snapshot_id)}) TO {literal(str(path))} (FORMAT parquet)")


def _judged(cascade: Cascade, rows: str, snapshot_id: str | None) -> str:
    """One row per fingerprint: answered, good, weak, cut_tokens (the longest that an answer was cut at)."""
    good = good_where(cascade.gives_up_when)
    return f"""
        SELECT fingerprint, bool_or(outcome = 'succeeded') AS answered, bool_or(good) AS good,
            bool_or(CASE WHEN outcome = 'succeeded' THEN NOT good AND stop_reason IS DISTINCT FROM 'max_tokens'
                         ELSE verdict = 'permanent' AND snapshot = {literal(snapshot_id or "")} END) AS weak,
            max(CASE WHEN outcome = 'succeeded' AND stop_reason = 'max_tokens' THEN coalesce(max_tokens, 0) END) AS cut_tokens
        FROM (SELECT *, ({good}) AS good FROM ({rows})) GROUP BY fingerprint"""


def _passed(table: str, max_tokens: int) -> str:
    return (
        f"coalesce(NOT {table}.good AND ({table}.weak OR coalesce({table}.cut_tokens >= {max_tokens:d}, false)), false)"
    )


def _frontier(cascade: Cascade, plan: Path, tried: Path) -> str:
    """The question of each record's level."""
    models, limits = cascade.models, cascade.max_tokens
    last = len(models) - 1
    fingerprints = ["p.fingerprint", *(f"p.further[{number}]" for number in range(1, len(models)))]
    joins = "".join(
        f" LEFT JOIN read_parquet({file_literal(tried)}) t{n} ON t{n}.fingerprint = {fingerprints[n]}"
        for n in range(last)
    )
    level = " ".join(f"WHEN NOT {_passed(f't{n}', limits[n])} THEN {n}" for n in range(last))
    some = " OR ".join(f"(level > {n} AND answered_{n})" for n in range(last))

    def of_level(values: Sequence[str]) -> str:
        return "CASE level " + " ".join(f"WHEN {n} THEN {value}" for n, value in enumerate(values)) + " END"

    answered = ", ".join(f"coalesce(t{n}.answered, false) AS answered_{n}" for n in range(last))
    every = ", ".join(f"{fingerprint} AS f{n}" for n, fingerprint in enumerate(fingerprints))
    return f"""
        SELECT row, {of_level([f"f{n}" for n in range(len(models))])} AS fingerprint,
            {of_level([literal(model) for model in models])} AS model,
            {of_level([f"{limit:d}" for limit in limits])} AS wanted_tokens, {some} AS fallback
        FROM (SELECT p.row, {every}, CASE {level} ELSE {last} END AS level, {answered}
              FROM read_parquet({file_literal(plan)}) p{joins} WHERE p.fingerprint IS NOT NULL)"""


__all__ = ["Cascade", "cascade_of", "create_current", "metadata_of", "moves_on"]
