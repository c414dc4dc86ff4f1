"""The final outcome of each record of a cascade: which level's answer it gets, and what all levels cost it.

A good answer (`result.schema.good_where`) wins, the last level's where there are several. Where no level gave a
good one, the best there is: one that ended by itself and fits the schema (the model said it cannot), then one
that was cut, then one outside the schema, then a refusal; of equals the last level's. Tokens and cost are the sum
over the levels that this very record was asked at in this snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence

from claude_pipeline.result.schema import good_where
from claude_pipeline.sql import file_literal, identifier, literal

PAID = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens", "cost_usd")
_STANDING = """CASE WHEN stop_reason = 'refusal' THEN 3 WHEN error_type = 'invalid_output' THEN 2
    WHEN stop_reason IN ('max_tokens', 'model_context_window_exceeded') THEN 1 ELSE 0 END"""
_OF_FAILURES = frozenset({"model", "lane", "batch_id", "attempt", "error_type", "error_message", "answered_at"})


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
