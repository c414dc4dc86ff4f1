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

# Closed sets of ours are ENUM types: DESCRIBE and every tool shows the values, a comparison with another text is
# simply false, and a cast costs 30 ns a row. In the order of the alphabet, so that they sort as text did. What a user's schema or the API may extend tomorrow stays text.
ENUMS: Mapping[str, tuple[str, ...]] = {
    "outcome": ("canceled", "errored", "expired", "rejected", "succeeded"),
    "answer_source": ("batch", "duplicate", "realtime", "reuse"),
    "lane": ("batch", "realtime"),
}
RESULT_COMMENTS: Mapping[str, str] = {
    "snapshot": "the snapshot the row belongs to, as 2026-11-22.1: its partition and a number that rises when records change",
    "record_id": "names the record: the dataset's id column, else a digest of its content",
    "outcome": "ENUM ops.outcome: succeeded, errored, canceled or expired as the API says; rejected: never sent",
    "answer": "the text of Claude's answer",
    "answer_source": "batch, realtime, reuse (an earlier snapshot) or duplicate (another record of this one)",
    "model": "the model that answered",
    "lane": "batch or realtime",
    "stop_reason": "why the answer ended, as the API says: end_turn, max_tokens, refusal, …",
    "input_tokens": "input that no cache touched; 0 where this record paid nothing",
    "output_tokens": "tokens of the answer; 0 where this record paid nothing",
    "cost_usd": "USD paid for this record in this snapshot; 0 for reuse and duplicates",
    "batch_id": "the Message Batch that answered; null in real time",
    "attempt": "the round that answered, from 1",
    "error_type": "why there is no answer, or invalid_output: the answer does not fit the output schema",
    "error_message": "the same in words",
    "cache_write_tokens": "input written to the prompt cache",
    "cache_read_tokens": "input read from the prompt cache",
    "answered_at": "UTC; when the batch ended, since its result lines carry no time of their own; in real time when the answer came",
}
VIEW_COMMENTS: Mapping[str, str] = {
    "results": "One row per snapshot and record: its own columns, the final outcome, the answer, usage and cost.",
    "latest": "The newest row of each record over all snapshots.",
    "attempts": "One row per request and attempt that reached the API; its columns tell of that attempt alone.",
    "dead_letters": "Records that were asked, have no answer, and get no further attempt; with the reason.",
    "rejected": "Records that were never sent: error_type and error_message say why.",
    "quality": "One row per snapshot and model: how good the answers are that stand, and what asking cost.",
    "confusion": "One row per snapshot, model, label and answer, most frequent first.",
}
ATTEMPT_COMMENTS: Mapping[str, str] = {
    **RESULT_COMMENTS,
    "chunk": "the chunk it went out in, as r1-0007: its round and a number; see ops.chunks",
    "position": "its place in the chunk, from 0",
    "row": "the record's place in the snapshot, from 0",
    "fingerprint": "SHA-256 of the request without max_tokens: equal questions have the same one",
    "custom_id": "its id within the batch; null in real time",
    "message_id": "the API's id of the message",
    "max_tokens": "the limit it was asked with",
    "outcome": "ENUM ops.outcome: succeeded, errored, canceled or expired as the API says",
    "answer_source": "batch or realtime; null without an answer",
    "model": "the model that answered, or was asked",
    "cost_usd": "USD billed for this request; null where the API did not tell the usage",
    "input_tokens": "input that no cache touched",
    "output_tokens": "tokens of the answer",
    "attempt": "the round, from 1",
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
    "label": "what the label column says",
    "records": "how many records have this label and this answer",
}
CONFUSION_COMMENTS: Mapping[str, str] = {"correct": "whether this answer says what the label says"}


def views(workload: str, merged: Mapping[str, Sequence[Path]], attempts: Sequence[Path]) -> dict[str, str]:
    """The SELECT of each view of a workload; `merged` (by snapshot) and `attempts` name at least one file each."""
    schema = identifier(workload)
    return {
        "results": f"SELECT * {_typed()} FROM {_read([path for parts in merged.values() for path in parts])}",
        "latest": _latest(f"{schema}.results", list(merged)),
        "attempts": f"SELECT * EXCLUDE (fingerprint, verdict) {_typed()}, hex(fingerprint) AS fingerprint "
        f"FROM {_read(attempts)}",
        "dead_letters": f"SELECT * FROM {schema}.results WHERE outcome IN ('errored', 'canceled', 'expired')",
        "rejected": f"SELECT * FROM {schema}.results WHERE outcome = 'rejected'",
    }


def _latest(results: str, snapshots: Sequence[str]) -> str:
    """The rows that no newer snapshot has of the same record; `snapshots`, oldest first, are all that there are.

    Only keys are held, and of the oldest snapshot (as a rule the largest) none: rows stream past them. A snapshot has one
    row of each record, so that where there is but one nothing is compared.
    """
    if len(snapshots) == 1:
        return f"FROM {results}"
    return f"""SELECT this.* FROM {results} AS this ANTI JOIN (
            SELECT record_id, max({_order("later")}) AS newest FROM {results} AS later
            WHERE snapshot <> {literal(snapshots[0])} GROUP BY record_id
        ) AS other ON other.record_id = this.record_id AND other.newest > {_order("this")}"""


def _order(of: str) -> str:
    """What snapshots ascend by: 2026-11-22.10 is newer than 2026-11-22.9."""
    return f"(split_part({of}.snapshot, '.', 1), CAST(split_part({of}.snapshot, '.', 2) AS INTEGER))"


def measures(workload: str, measure: Measure) -> dict[str, str]:
    """The SELECT of each view that measures a workload's answers."""
    schema = identifier(workload)
    results, attempts = f"{schema}.results", f"{schema}.attempts"
    confusion = measure.confusion(results)
    return {"quality": measure.quality(results, attempts)} | ({"confusion": confusion} if confusion else {})


def comments(workload: str, view: str, columns: Sequence[str], output: Mapping[str, str]) -> list[str]:
    """The statements that document a view and all its columns; `output` says what the output's columns are."""
    target = f"{identifier(workload)}.{identifier(view)}"
    statements = [f"COMMENT ON VIEW {target} IS {literal(VIEW_COMMENTS[view])}"]
    known: dict[str, str] = {**RESULT_COMMENTS, **output}
    match view:
        case "attempts":
            known = {**ATTEMPT_COMMENTS, **output}
        case "quality":
            known = {**RESULT_COMMENTS, **MEASURE_COMMENTS}
        case "confusion":
            known = {**RESULT_COMMENTS, **MEASURE_COMMENTS, **CONFUSION_COMMENTS}
    return statements + [
        f"COMMENT ON COLUMN {target}.{identifier(name)} IS {literal(known.get(name) or _own(name))}" for name in columns
    ]


def types(database: str) -> list[str]:
    """The statements that make the ENUM types, in the schema `ops`."""
    return [
        f"CREATE TYPE {database}.ops.{identifier(name)} AS ENUM ({', '.join(map(literal, values))})"
        for name, values in ENUMS.items()
    ]


def comment_of_result(name: str, output: Mapping[str, str]) -> str:
    """What a column of results means."""
    return {**RESULT_COMMENTS, **output}.get(name) or _own(name)


def comment_of_attempt(name: str, output: Mapping[str, str]) -> str:
    """What a column of attempts means."""
    return {**ATTEMPT_COMMENTS, **output}.get(name) or _own(name)


def _own(name: str) -> str:
    original = name.removeprefix("record_")
    renamed = original != name and original in ATTEMPT_COMMENTS
    return f"the record's own column {original}" + (", renamed: results have one of that name" if renamed else "")


def _typed() -> str:
    return f"REPLACE ({', '.join(f'CAST({name} AS ops.{name}) AS {name}' for name in ENUMS)})"


def _read(paths: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(file_literal(path) for path in paths)}], union_by_name = true)"
