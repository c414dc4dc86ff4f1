"""The final outcome of each record of a cascade: which level's answer it gets, and what all levels cost it.

A good answer (`result.schema.good_where`) wins, the last level's where there are several. Where no level gave a
good one, the best there is: one that ended by itself and fits the schema (the model said it cannot), then one
that was cut, then one outside the schema, then a refusal; of equals the last level's. Tokens and cost are the sum
over the levels that this very record was asked at in this snapshot.
"""

from __future__ import annotations

from claude_pipeline.result.schema import good_where

PAID = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens", "cost_usd")
_STANDING = """CASE WHEN stop_reason = 'refusal' THEN 3 WHEN error_type = 'invalid_output' THEN 2
    WHEN stop_reason IN ('max_tokens', 'model_context_window_exceeded') THEN 1 ELSE 0 END"""


def level_places(plan: str, here: str, every: str, place: str, whose: str, gives_up_when: str | None) -> str:
    """The query of `result.place.places_query` for a cascade. `plan` and `every` read the plan and the attempts,
    `here` is the snapshot."""
    return f"""{_asked(plan)},
        judged AS (
            SELECT fingerprint, row, snapshot, max_tokens, answered_at, position, {place} AS place,
                ({good_where(gives_up_when)}) AS is_good, {_STANDING} AS standing
            FROM {every} WHERE outcome = 'succeeded' AND fingerprint IN (SELECT fingerprint FROM asked)
        ),
        answers AS (
            FROM judged
            QUALIFY row_number() OVER (
                PARTITION BY fingerprint ORDER BY is_good DESC, standing, max_tokens DESC NULLS LAST,
                    (snapshot = {here}) DESC, answered_at DESC, snapshot, position
            ) = 1
        ),
        best AS (
            SELECT s.row AS record_row, a.* FROM asked s JOIN answers a ON a.fingerprint = s.fingerprint
            QUALIFY row_number() OVER (
                PARTITION BY s.row ORDER BY a.is_good DESC, CASE WHEN a.is_good THEN 0 ELSE a.standing END, s.level DESC
            ) = 1
        ),
        paid AS (
            SELECT e.row, {", ".join(f"sum(e.{name}) AS {name}" for name in PAID)}
            FROM {every} e JOIN asked s ON s.fingerprint = e.fingerprint AND s.row = e.row
            WHERE e.snapshot = {here} AND e.outcome = 'succeeded' GROUP BY e.row
        )
        SELECT p.row, a.place,
            {whose},
            {", ".join(f"coalesce(paid.{name}, 0)::{'DOUBLE' if name == 'cost_usd' else 'BIGINT'} AS {name}" for name in PAID)}
        FROM plan p LEFT JOIN best a ON a.record_row = p.row LEFT JOIN paid ON paid.row = p.row
        ORDER BY p.row"""


def level_unanswered(plan: str, here: str, every: str, refused: str) -> str:
    """The query of `result.place.unanswered_query` for a cascade. `refused` reads the fingerprints of chunks without attempts."""
    return f"""{_asked(plan)},
        failures AS (
            SELECT s.row AS record_row, f.outcome, f.model, f.lane, f.batch_id, f.attempt, f.error_type, f.error_message,
                f.answered_at
            FROM asked s JOIN {every} f ON f.fingerprint = s.fingerprint
            WHERE f.outcome <> 'succeeded' AND f.snapshot = {here}
            QUALIFY row_number() OVER (PARTITION BY s.row ORDER BY s.level DESC, f.attempt DESC, f.position) = 1
        ),
        refused AS (
            SELECT s.row, arg_max(c.outcome, s.level) AS outcome, arg_max(c.error_type, s.level) AS error_type,
                arg_max(c.error_message, s.level) AS error_message
            FROM asked s JOIN ({refused}) c ON c.fingerprint = s.fingerprint GROUP BY s.row
        ),
        answered AS (
            SELECT s.row FROM asked s
            SEMI JOIN (SELECT fingerprint FROM {every} WHERE outcome = 'succeeded') a ON a.fingerprint = s.fingerprint
        )
        SELECT p.row, CASE WHEN p.reject_code IS NOT NULL THEN 'rejected' ELSE coalesce(f.outcome, c.outcome) END AS outcome,
            f.model, f.lane, f.batch_id, f.attempt, coalesce(f.error_type, c.error_type, p.reject_code) AS error_type,
            coalesce(f.error_message, c.error_message, p.reject_detail) AS error_message, f.answered_at
        FROM plan p
        ANTI JOIN answered a ON a.row = p.row
        LEFT JOIN failures f ON f.record_row = p.row
        LEFT JOIN refused c ON c.row = p.row
        ORDER BY p.row"""


def _asked(plan: str) -> str:
    return f"""
        WITH plan AS ({plan}),
        asked AS (
            SELECT row, unnest([fingerprint] || further) AS fingerprint, unnest(range(1 + len(further))) AS level
            FROM plan WHERE fingerprint IS NOT NULL
        )"""
