"""Where each record of the rest finds its answer: by keys alone, out of core.

A place is the number of an attempts file, in the upper 32 bits, and the row in that file, in the lower ones. No text
of a record or of an answer goes through these queries; only what failed brings its words, as nothing else has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from claude_pipeline.result.level import level_places, level_unanswered
from claude_pipeline.sql import file_literal, identifier, literal

MINE, DUPLICATE, REUSE = 0, 1, 2  # whose answer it is: asked for this very record, for another one here, or before
PLACE = "place of the attempt"  # a column beside the attempts' own; no property of an output has blanks and means that
_VIRTUAL = (
    "file_index",
    "file_row_number",
)  # DuckDB's, of each file that is read: hidden where a file has such a column
ROW_BITS = 32


@dataclass(frozen=True)
class FailedChunk:
    """A chunk without attempts: the API refused it, or it was withdrawn."""

    index: Path
    outcome: str  # errored or canceled
    error_type: str
    error_message: str


@dataclass(frozen=True)
class MergeInput:
    """All that a merge reads."""

    snapshot_id: str
    snapshot: Path
    plan: Path
    own_attempts: list[Path]  # of this snapshot and plan
    other_attempts: list[Path]  # of the workload: whose answers may be reused
    failed: list[FailedChunk]
    output: list[pa.Field]
    cascade: bool = False  # no chunk answered a record itself: of its levels' answers one is chosen here
    gives_up_when: str | None = None  # of the cascade


def places_query(
    duck: duckdb.DuckDBPyConnection, merge: MergeInput, files: Sequence[Path], rows: tuple[int, int]
) -> str:
    """Of the records from row to before row: row, place (null: no answer), whose (MINE, DUPLICATE, REUSE), and under a
    cascade what its levels cost. Ascending by row; of several lines for a row the first counts."""
    here, every = literal(merge.snapshot_id), _attempts(duck, files)
    whose = f"""CASE WHEN a.snapshot = {here} AND a.row = p.row THEN {MINE}
        WHEN a.snapshot = {here} THEN {DUPLICATE} ELSE {REUSE} END::TINYINT AS whose"""
    plan = f"{_plan(merge)} WHERE p.row >= {rows[0]:d} AND p.row < {rows[1]:d}"
    if merge.cascade:
        return level_places(plan, here, every, identifier(PLACE), whose, merge.gives_up_when)
    return f"""
        SELECT p.row, a.place, {whose}
        FROM ({plan}) p LEFT JOIN (
            SELECT fingerprint, row, snapshot, stop_reason, max_tokens, answered_at, {identifier(PLACE)} AS place
            FROM {every} WHERE outcome = 'succeeded'
        ) a ON a.fingerprint = p.fingerprint
        ORDER BY p.row, (a.stop_reason IS DISTINCT FROM 'max_tokens') DESC, a.max_tokens DESC NULLS LAST,
            (a.snapshot = {here}) DESC, a.answered_at DESC, a.snapshot, a.place"""


def unanswered_query(duck: duckdb.DuckDBPyConnection, merge: MergeInput, files: Sequence[Path]) -> str:
    """Of the records without an answer: row, outcome, and what the last attempt tells. Ascending by row."""
    here, every = literal(merge.snapshot_id), _attempts(duck, files)
    if merge.cascade:
        return level_unanswered(_plan(merge), here, every, _refused(merge))
    return f"""
        WITH failures AS (
            -- of any plan of this snapshot: what an earlier plan asked is not asked again
            SELECT fingerprint, outcome, model, lane, batch_id, attempt, error_type, error_message, answered_at FROM {every}
            WHERE outcome <> 'succeeded' AND snapshot = {here}
            QUALIFY row_number() OVER (PARTITION BY fingerprint ORDER BY attempt DESC, position) = 1
        )
        SELECT p.row, CASE WHEN p.reject_code IS NOT NULL THEN 'rejected' ELSE coalesce(f.outcome, c.outcome) END AS outcome,
            f.model, f.lane, f.batch_id, f.attempt, coalesce(f.error_type, c.error_type, p.reject_code) AS error_type,
            coalesce(f.error_message, c.error_message, p.reject_detail) AS error_message, f.answered_at
        FROM ({_plan(merge)}) p
        ANTI JOIN (SELECT fingerprint FROM {every} WHERE outcome = 'succeeded') a ON a.fingerprint = p.fingerprint
        LEFT JOIN failures f ON f.fingerprint = p.fingerprint
        LEFT JOIN ({_refused(merge)}) c ON c.fingerprint = p.fingerprint
        ORDER BY p.row"""


def _plan(merge: MergeInput) -> str:
    """The plan's records of the rest."""
    plan = f"SELECT p.* FROM read_parquet({file_literal(merge.plan)}) p"
    if merge.cascade or not merge.own_attempts:
        return plan
    answered = f"SELECT row FROM {_read(merge.own_attempts)} WHERE outcome = 'succeeded'"
    return f"{plan} ANTI JOIN ({answered}) o ON o.row = p.row"


def _refused(merge: MergeInput) -> str:
    """Fingerprints of chunks without attempts, with what became of them last (chunks come in the order they were cut)."""
    selects = [
        f"SELECT {number} AS number, fingerprint, {literal(c.outcome)} AS outcome, {literal(c.error_type)} AS error_type, "
        f"{literal(c.error_message.replace(chr(0), ''))} AS error_message FROM read_parquet({file_literal(c.index)})"
        for number, c in enumerate(merge.failed)
    ]
    nothing = "SELECT 0 AS number, NULL::BLOB AS fingerprint, '' AS outcome, '' AS error_type, '' AS error_message WHERE false"
    union = " UNION ALL ".join([nothing, *selects])
    columns = ", ".join(f"arg_max({name}, number) AS {name}" for name in ("outcome", "error_type", "error_message"))
    return f"SELECT fingerprint, {columns} FROM ({union}) GROUP BY fingerprint"


def _attempts(duck: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> str:
    """All columns of attempts files, and PLACE."""
    read = _read(files)
    columns = duck.sql(f"FROM {read}").columns
    # An output may have a property of that name: it stands aside for a moment.
    aside = {name: f"{name} of the output" for name in columns if name.lower() in _VIRTUAL}
    names = ", ".join(identifier(aside.get(name, name)) for name in columns)
    back = ", ".join(f"{identifier(other)} AS {identifier(name)}" for name, other in aside.items())
    return f"""(SELECT *{f" RENAME ({back})" if back else ""},
        (file_index::BIGINT << {ROW_BITS}) | file_row_number AS {identifier(PLACE)} FROM {read} AS t({names}))"""


def _read(files: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(map(file_literal, files))}], union_by_name = true)"
