"""The views of one workload in the warehouse: results, latest, attempts, dead_letters, rejected.

They read explicit, absolute lists of Parquet parts: a publish names exactly the parts of whole
merges, so a reader sees a snapshot whole or not at all, and publishing costs the same whatever the
history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from claude_pipeline.result import Measure
from claude_pipeline.sql import file_literal, identifier, literal

RESULT_COMMENTS: Mapping[str, str] = {
    "snapshot": "the snapshot the row belongs to: <partition>.<number>",
    "record_id": "names the record: the dataset's id column, else a digest of its content",
    "outcome": "succeeded, errored, canceled or expired as the API says; rejected: never sent",
    "answer": "the text of Claude's answer",
    "answer_source": "batch, realtime, reuse (an earlier snapshot) or duplicate (another record of this one)",
    "model": "the model that answered",
    "lane": "batch or realtime",
    "stop_reason": "why the answer ended, as the API says: end_turn, max_tokens, refusal, …",
    "input_tokens": "input that no cache touched; 0 where this record paid nothing",
    "output_tokens": "tokens of the answer; 0 where this record paid nothing",
    "cost_usd": "USD paid for this record in this snapshot; 0 for reuse and duplicates",
    "batch_id": "the Message Batch that answered",
    "attempt": "the round that answered, from 1",
    "error_type": "why there is no answer, or invalid_output: the answer does not fit the output schema",
    "error_message": "the same in words",
    "answered_at": "when the batch ended (UTC): result lines carry no time of their own",
}
VIEW_COMMENTS: Mapping[str, str] = {
    "results": "One row per snapshot and record: its own columns, the final outcome, the answer, usage and cost.",
    "latest": "The newest row of each record over all snapshots.",
    "attempts": "One row per request and attempt that reached the API.",
    "dead_letters": "Records that were asked, have no answer, and get no further attempt; with the reason.",
    "rejected": "Records that were never sent: error_type and error_message say why.",
    "quality": "One row per snapshot and model: how good the answers are that stand, and what asking cost.",
    "confusion": "One row per snapshot, model, label and answer, most frequent first.",
}
MEASURE_COMMENTS: Mapping[str, str] = {
    "asked": "questions this model was asked in the snapshot; a cascade's earlier levels count as well",
    "succeeded": "records whose answer is this model's, reuse and duplicates included",
    "valid": "of these, answers that fit the output schema",
    "labelled": "of these, records that have a label",
    "correct": "of these, answers that say what the label says",
    "accuracy": "correct / labelled",
    "score": "share of succeeded records for which the workload's rule is true",
    "cost_usd": "USD paid for asking this model in the snapshot",
    "cost_per_record_usd": "cost_usd / asked",
    "answered": "what the model said",
}
_NEWEST = "split_part(snapshot, '.', 1) DESC, CAST(split_part(snapshot, '.', 2) AS INTEGER) DESC"


def views(workload: str, merged: Sequence[Path], attempts: Sequence[Path]) -> dict[str, str]:
    """The SELECT of each view of a workload; `merged` and `attempts` name at least one file each."""
    schema = identifier(workload)
    return {
        "results": f"SELECT * FROM {_read(merged)}",
        "latest": f"SELECT * FROM {schema}.results "
        f"QUALIFY row_number() OVER (PARTITION BY record_id ORDER BY {_NEWEST}) = 1",
        "attempts": f"SELECT * EXCLUDE (fingerprint, verdict), hex(fingerprint) AS fingerprint FROM {_read(attempts)}",
        "dead_letters": f"SELECT * FROM {schema}.results WHERE outcome IN ('errored', 'canceled', 'expired')",
        "rejected": f"SELECT * FROM {schema}.results WHERE outcome = 'rejected'",
    }


def measures(workload: str, measure: Measure) -> dict[str, str]:
    """The SELECT of each view that measures a workload's answers."""
    schema = identifier(workload)
    results, attempts = f"{schema}.results", f"{schema}.attempts"
    confusion = measure.confusion(results)
    return {"quality": measure.quality(results, attempts)} | ({"confusion": confusion} if confusion else {})


def comments(workload: str, view: str, columns: Sequence[str]) -> list[str]:
    """The statements that document a view and its columns."""
    target = f"{identifier(workload)}.{identifier(view)}"
    statements = [f"COMMENT ON VIEW {target} IS {literal(VIEW_COMMENTS[view])}"]
    known = {**RESULT_COMMENTS, **MEASURE_COMMENTS} if view in ("quality", "confusion") else RESULT_COMMENTS
    statements += [
        f"COMMENT ON COLUMN {target}.{identifier(name)} IS {literal(known[name])}" for name in columns if name in known
    ]
    return statements


def _read(paths: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(file_literal(path) for path in paths)}], union_by_name = true)"
