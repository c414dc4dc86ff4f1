"""How good answers are, by model: against a label column, by a rule, and what a record cost.

An answer is right when it says what the label says, whatever the capitals or the spaces around it, or is the
same number. Only records with an answer and a label count for accuracy; an answer outside the schema is wrong.
A rule that is null or fails on a record is not met.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import orjson

from claude_pipeline.result.schema import output_fields, own_names
from claude_pipeline.sql import identifier
from claude_pipeline.workload import Workload


@dataclass(frozen=True)
class Measure:
    """Which columns of results are compared, as they are named there."""

    label: str | None
    answer: str
    score: str | None  # SQL, checked

    @classmethod
    def of(cls, workload: Workload, columns: Iterable[str]) -> Measure | None:
        """That of a workload over records with those columns; None where it names nothing to measure by and has
        one model only, so that there is nothing to compare."""
        if workload.labels is None and workload.score is None and len(workload.models) == 1:
            return None
        output = output_fields(workload)
        properties = list(workload.output["properties"]) if workload.output is not None else []
        asked = properties.index(workload.label_of) if workload.label_of is not None else 0
        label = own_names(columns, output)[workload.labels] if workload.labels is not None else None
        return cls(label, output[asked].name if output else "answer", workload.score)

    def to_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> Measure:
        return cls(**orjson.loads(text))

    def quality(self, results: str, attempts: str) -> str:
        """One row per snapshot and model, from relations of results and of attempts."""
        labelled = "false" if self.label is None else f"outcome = 'succeeded' AND {identifier(self.label)} IS NOT NULL"
        right = "false" if self.label is None else f"coalesce({self._right()}, false)"
        met = (
            "NULL::BIGINT" if self.score is None else f"count(*) FILTER (WHERE coalesce(TRY(({self.score}\n)), false))"
        )
        return f"""
            SELECT snapshot, model, coalesce(a.asked, 0) AS asked, coalesce(r.succeeded, 0) AS succeeded,
                coalesce(r.valid, 0) AS valid, coalesce(r.labelled, 0) AS labelled, coalesce(r.correct, 0) AS correct,
                r.correct / nullif(r.labelled, 0) AS accuracy, r.met / nullif(r.succeeded, 0) AS score,
                coalesce(a.cost_usd, 0) AS cost_usd, a.cost_usd / nullif(a.asked, 0) AS cost_per_record_usd
            FROM (
                SELECT snapshot, model, count(*) AS succeeded, count(*) FILTER (WHERE error_type IS NULL) AS valid,
                    count(*) FILTER (WHERE {labelled}) AS labelled,
                    count(*) FILTER (WHERE {labelled} AND {right}) AS correct, {met} AS met
                FROM {results} WHERE outcome = 'succeeded' GROUP BY snapshot, model
            ) r FULL JOIN (
                SELECT snapshot, model, count(DISTINCT fingerprint) AS asked, sum(cost_usd) AS cost_usd
                FROM {attempts} GROUP BY snapshot, model
            ) a USING (snapshot, model) ORDER BY snapshot, model"""

    def confusion(self, results: str) -> str | None:
        """One row per snapshot, model, label and answer; None without labels."""
        if self.label is None:
            return None
        return f"""
            SELECT snapshot, model, {_text(self.label)} AS label, {_text(self.answer)} AS answered,
                coalesce(bool_and({self._right()}), false) AS correct, count(*) AS records
            FROM {results} WHERE outcome = 'succeeded' AND {identifier(self.label)} IS NOT NULL
            GROUP BY ALL ORDER BY snapshot, model, records DESC, label, answered"""

    def _right(self) -> str:
        label, answer = _text(self.label or ""), _text(self.answer)
        same_number = f"coalesce(TRY_CAST({label} AS DOUBLE) = TRY_CAST({answer} AS DOUBLE), false)"
        return f"(lower(trim({label})) = lower(trim({answer})) OR {same_number})"


def _text(column: str) -> str:
    return f"CAST({identifier(column)} AS VARCHAR)"
