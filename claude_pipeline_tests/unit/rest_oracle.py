"""The merge as one join of all columns: the query that `result.rest` once was, kept as the reference for what it must say.

It needs memory for the texts of a dataset; what it says of a record is right. `oracle_rows` gives that as plain rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from claude_pipeline.result import MergeInput, attempts_schema, good_where, own_names
from claude_pipeline.result.schema import AFTER_OUTPUT
from claude_pipeline.sql import QUIET, file_literal, identifier, literal

PAID = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens", "cost_usd")
_STANDING = """CASE WHEN stop_reason = 'refusal' THEN 3 WHEN error_type = 'invalid_output' THEN 2
    WHEN stop_reason IN ('max_tokens', 'model_context_window_exceeded') THEN 1 ELSE 0 END"""
_OF_FAILURES = frozenset({"model", "lane", "batch_id", "attempt", "error_type", "error_message", "answered_at"})


def oracle_rows(merge: MergeInput, scratch: Path) -> list[dict[str, Any]]:
    """The merged rows of the rest, in no order."""
    empty = scratch / "empty.parquet"
    pq.write_table(attempts_schema(merge.output).empty_table(), empty)
    with duckdb.connect(config={"temp_directory": str(scratch)}) as duck:
        duck.execute(QUIET)
        duck.execute("SET TimeZone = 'UTC'")
        duck.execute(f"CREATE TEMP TABLE outcome AS {_outcomes(merge, empty)}")
        return list(duck.sql(_rows(merge)).to_arrow_table().to_pylist())


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


def level_outcomes(
    plan: object, snapshot_id: str, every: str, refused: str, answer_columns: Sequence[str], gives_up_when: str | None
) -> str:
    """One row per record of the plan: `row`, and all columns of its result. `every` reads the attempts."""
    here = literal(snapshot_id)
    return f"""
        WITH plan AS (SELECT * FROM read_parquet({file_literal(plan)})),
        asked AS (
            SELECT row, unnest([fingerprint] || further) AS fingerprint, unnest(range(1 + len(further))) AS level
            FROM plan WHERE fingerprint IS NOT NULL
        ),
        answers AS (
            SELECT *, ({good_where(gives_up_when)}) AS good, {_STANDING} AS standing FROM {every}
            WHERE outcome = 'succeeded' AND fingerprint IN (SELECT fingerprint FROM asked)
            QUALIFY row_number() OVER (
                PARTITION BY fingerprint ORDER BY good DESC, standing, max_tokens DESC NULLS LAST, (snapshot = {here}) DESC,
                    answered_at DESC, snapshot, position
            ) = 1
        ),
        best AS (
            SELECT s.row AS record_row, a.* FROM asked s JOIN answers a ON a.fingerprint = s.fingerprint
            QUALIFY row_number() OVER (
                PARTITION BY s.row ORDER BY a.good DESC, CASE WHEN a.good THEN 0 ELSE a.standing END, s.level DESC
            ) = 1
        ),
        paid AS (
            SELECT e.row, {", ".join(f"sum(e.{name}) AS {name}" for name in PAID)}
            FROM {every} e JOIN asked s ON s.fingerprint = e.fingerprint AND s.row = e.row
            WHERE e.snapshot = {here} AND e.outcome = 'succeeded' GROUP BY e.row
        ),
        failures AS (
            SELECT s.row AS record_row, f.* FROM asked s JOIN {every} f ON f.fingerprint = s.fingerprint
            WHERE f.outcome <> 'succeeded' AND f.snapshot = {here}
            QUALIFY row_number() OVER (PARTITION BY s.row ORDER BY s.level DESC, f.attempt DESC, f.position) = 1
        ),
        refused AS (
            SELECT s.row, arg_max(c.outcome, s.level) AS outcome, arg_max(c.error_type, s.level) AS error_type,
                arg_max(c.error_message, s.level) AS error_message
            FROM asked s JOIN ({refused}) c ON c.fingerprint = s.fingerprint GROUP BY s.row
        )
        SELECT p.row,
            CASE WHEN p.reject_code IS NOT NULL THEN 'rejected'
                 WHEN a.record_row IS NOT NULL THEN 'succeeded'
                 ELSE coalesce(f.outcome, c.outcome) END AS outcome,
            CASE WHEN a.record_row IS NULL THEN NULL
                 WHEN a.snapshot = {here} AND a.row = p.row THEN a.answer_source
                 WHEN a.snapshot = {here} THEN 'duplicate' ELSE 'reuse' END AS answer_source,
            {", ".join(map(_chosen, answer_columns))}
        FROM plan p
        LEFT JOIN best a ON a.record_row = p.row
        LEFT JOIN paid ON paid.row = p.row
        LEFT JOIN failures f ON f.record_row = p.row
        LEFT JOIN refused c ON c.row = p.row"""


def _chosen(name: str) -> str:
    column = identifier(name)
    if name in PAID:
        return f"coalesce(paid.{column}, 0) AS {column}"
    others = [f"f.{column}"] if name in _OF_FAILURES else []
    if name in ("error_type", "error_message"):
        others += [f"c.{column}", "p.reject_code" if name == "error_type" else "p.reject_detail"]
    instead = f" ELSE coalesce({', '.join(others)})" if others else ""
    return f"CASE WHEN a.record_row IS NOT NULL THEN a.{column}{instead} END AS {column}"
