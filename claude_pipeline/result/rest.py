"""The records of a snapshot that no chunk of it answered itself, as merged rows.

What came from reuse (an earlier snapshot's answer) or is a duplicate (the same question in this
snapshot), what was rejected, and the dead letters with the reason of their last attempt. Joined by
DuckDB out of core: the snapshot, its plan, and the attempts of the workload.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.result.level import PAID, level_outcomes
from claude_pipeline.result.schema import AFTER_OUTPUT, attempts_schema, own_names
from claude_pipeline.sql import QUIET, file_literal, identifier, literal

MEMORY_LIMIT = "2GB"


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


def connection(scratch: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that spills into `scratch` and never touches the network."""
    duck = duckdb.connect(
        config={
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(scratch),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    duck.execute(QUIET)
    return duck


def write_rest(merge: MergeInput, path: Path, *, scratch: Path) -> Counter[str]:
    """Write the rest of a merge to `path`; returns its outcomes (an empty counter: no rest)."""
    empty = path.with_name(f"{path.name}.attempts")  # swept with it, should this process be killed
    pq.write_table(attempts_schema(merge.output).empty_table(), empty)
    try:
        with connection(scratch) as duck:
            duck.execute(f"CREATE TEMP TABLE outcome AS {_outcomes(merge, empty)}")
            counts = duck.sql("SELECT outcome, count(*) FROM outcome GROUP BY outcome").fetchall()
            if counts:
                duck.execute(f"COPY ({_rows(merge)}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")
    finally:
        empty.unlink(missing_ok=True)
    return Counter({outcome or "pending": count for outcome, count in counts})


def _outcomes(merge: MergeInput, empty: Path) -> str:
    """One row per record of the rest: `row`, and all columns of its result."""
    own, every = _read([empty, *merge.own_attempts]), _read([empty, *merge.own_attempts, *merge.other_attempts])
    answer_columns = ["answer", *(field.name for field in merge.output), "model", "lane", "stop_reason",
                      *PAID, "batch_id", "attempt",
                      "error_type", "error_message", "answered_at"]  # fmt: skip
    if merge.cascade:
        return level_outcomes(
            merge.plan, merge.snapshot_id, every, _refused(merge), answer_columns, merge.gives_up_when
        )  # fmt: skip
    mine = f"(a.snapshot = {literal(merge.snapshot_id)} AND a.row = p.row)"  # asked and paid for this very record
    failure = {"model", "lane", "batch_id", "attempt", "error_type", "error_message", "answered_at"}
    chosen = []
    for name in answer_columns:
        column = identifier(name)
        sources = [f"a.{column}"]
        if name in failure:
            sources.append(f"f.{column}")
        if name in {"error_type", "error_message"}:
            sources += [f"c.{column}", "p.reject_code" if name == "error_type" else "p.reject_detail"]
        if name in PAID:
            chosen.append(f"CASE WHEN {mine} THEN {sources[0]} ELSE 0 END AS {column}")
            continue
        value = f"CASE WHEN a.fingerprint IS NOT NULL THEN {sources[0]} ELSE coalesce({', '.join(sources)}) END"
        chosen.append(f"{value} AS {column}")
    return f"""
        WITH own AS (SELECT row, fingerprint, outcome, attempt FROM {own}),
        rest AS (
            SELECT p.* FROM read_parquet({file_literal(merge.plan)}) p
            ANTI JOIN (SELECT row FROM own WHERE outcome = 'succeeded') o ON o.row = p.row
        ),
        answers AS (
            SELECT * FROM {every}
            WHERE outcome = 'succeeded' AND fingerprint IN (SELECT fingerprint FROM rest WHERE fingerprint IS NOT NULL)
            QUALIFY row_number() OVER (
                PARTITION BY fingerprint ORDER BY (stop_reason IS DISTINCT FROM 'max_tokens') DESC, max_tokens DESC NULLS LAST,
                    (snapshot = {literal(merge.snapshot_id)}) DESC, answered_at DESC, snapshot
            ) = 1
        ),
        failures AS (
            -- of any plan of this snapshot: what an earlier plan asked is not asked again
            SELECT * FROM {every}
            WHERE outcome <> 'succeeded' AND snapshot = {literal(merge.snapshot_id)}
            QUALIFY row_number() OVER (PARTITION BY fingerprint ORDER BY attempt DESC, position) = 1
        ),
        refused AS ({_refused(merge)})
        SELECT p.row,
            CASE WHEN p.reject_code IS NOT NULL THEN 'rejected'
                 WHEN a.fingerprint IS NOT NULL THEN 'succeeded'
                 ELSE coalesce(f.outcome, c.outcome) END AS outcome,
            CASE WHEN a.fingerprint IS NULL THEN NULL
                 WHEN {mine} THEN a.answer_source
                 WHEN a.snapshot = {literal(merge.snapshot_id)} THEN 'duplicate' ELSE 'reuse' END AS answer_source,
            {", ".join(chosen)}
        FROM rest p
        LEFT JOIN answers a ON a.fingerprint = p.fingerprint
        LEFT JOIN failures f ON f.fingerprint = p.fingerprint
        LEFT JOIN refused c ON c.fingerprint = p.fingerprint
    """


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


def _rows(merge: MergeInput) -> str:
    """The merged rows of the rest, in the columns of `merged_schema`."""
    own = own_names(pq.read_schema(merge.snapshot).names, merge.output)
    output = [field.name for field in merge.output]
    after = [name for name, _ in AFTER_OUTPUT]
    columns = [f"{literal(merge.snapshot_id)} AS snapshot"]
    columns += [f"s.{identifier(name)} AS {identifier(final)}" for name, final in own.items()]
    columns += ["s.record_id", "o.outcome", "o.answer", *(f"o.{identifier(name)}" for name in output)]
    for name in after:
        # Paid for this record in this snapshot: under an earlier plan of it, or nothing, whatever the answer cost
        # where it was asked.
        columns.append(
            f"o.{name}::{'DOUBLE' if name == 'cost_usd' else 'BIGINT'} AS {name}" if name in PAID else f"o.{name}"
        )
    return f"""
        SELECT {", ".join(columns)}
        FROM read_parquet({file_literal(merge.snapshot)}, file_row_number = true) s
        JOIN outcome o ON o.row = s.file_row_number
    """


def _read(paths: list[Path]) -> str:
    files = ", ".join(file_literal(path) for path in paths)
    return f"read_parquet([{files}], union_by_name = true)"
