"""The invoice: every request ever accepted, and what it cost to the last picodollar.

Only succeeded requests are billed; a batch is billed at its end. Deleted batches stay on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import orjson

from claude_pipeline.simulator.batch import Batch
from claude_pipeline.simulator.clock import rfc3339, rfc3339_or_none
from claude_pipeline.simulator.price import usd
from claude_pipeline.simulator.store import MESSAGES, Store

_AT_ONCE = 1_000  # lines read from the store in one go
_CLASSES = ("input", "output", "write_5m", "write_1h", "read")


def invoice(store: Store) -> dict[str, Any]:
    """Totals, by batch, by model; amounts are exact decimal strings of USD."""
    messages, answered, messages_pico = store.rows(
        "SELECT COUNT(*), COALESCE(SUM(outcome = 'succeeded'), 0), COALESCE(SUM(cost_pico), 0) FROM line "
        "WHERE batch = ?",
        (MESSAGES,),
    )[0]
    batches = store.batches("ORDER BY seq")
    models = _models(store)
    return {
        "total_usd": usd(sum(batch.cost_pico for batch in batches) + messages_pico),
        "accepted_requests": sum(batch.size for batch in batches) + messages,
        "billed_requests": sum(batch.billed for batch in batches) + answered,
        "billed_twice": billed_twice(store),
        "batches": len(batches),
        "by_batch": [
            {
                "batch_id": batch.id,
                "workspace_id": batch.workspace,
                "created_at": rfc3339(batch.created_us),
                "ended_at": rfc3339_or_none(batch.ended_us),
                "deleted": bool(batch.deleted),
                "requests": batch.size,
                "succeeded": batch.succeeded,
                "errored": batch.errored,
                "canceled": batch.canceled,
                "expired": batch.expired,
                "billed": batch.billed,
                "cost_usd": usd(batch.cost_pico),
                "models": models.get(batch.seq, {}),
            }
            for batch in batches
        ],
        "messages": {
            "requests": messages,
            "succeeded": answered,
            "errored": messages - answered,
            "billed": answered,
            "cost_usd": usd(messages_pico),
            "models": models.get(MESSAGES, {}),
        },
        "by_model": _summed(models),
        "calls": _calls(store),
    }


def billed_twice(store: Store) -> int:
    """Questions (equal canonical params) that were billed more than once, over batches and messages.

    Lines of batches that have not ended count as well, since they will be billed.
    """
    query = "SELECT COUNT(*) FROM (SELECT 1 FROM line WHERE outcome = 'succeeded' GROUP BY digest HAVING COUNT(*) > 1)"
    return int(store.rows(query)[0][0])


def invoice_lines(store: Store) -> Iterator[bytes]:
    """NDJSON, one line per request accepted; batch after batch, then messages.

    Requests of a batch that has not ended are `processing`: no tokens, no cost, not billed, in the order sent
    or, once their answers lie ready, in the order of their results.
    """
    for batch in store.batches("ORDER BY seq"):
        if batch.ended_us is not None:
            yield from _kept_lines(store, batch.seq, batch.id, batch.workspace)
        else:
            yield from _processing_lines(store, batch)
    yield from _kept_lines(store, MESSAGES, None, None)


def _kept_lines(store: Store, seq: int, batch_id: str | None, workspace: str | None) -> Iterator[bytes]:
    last = -1
    while rows := store.rows(
        "SELECT position, custom_id, digest, token, model, input, output, write_5m, write_1h, read, cost_pico, "
        "outcome, error_type, at_us FROM line WHERE batch = ? AND position > ? ORDER BY position LIMIT ?",
        (seq, last, _AT_ONCE),
    ):
        last = rows[-1][0]
        yield b"".join(_line(batch_id, workspace, row) for row in rows)


def _processing_lines(store: Store, batch: Batch) -> Iterator[bytes]:
    """Requests that wait for their batch's end, from the spool, or from the store once they are answered."""
    try:
        with store.spool_path(batch.id).open("rb") as spool:
            while spooled := list(islice(spool, _AT_ONCE)):
                yield b"".join(_waiting_line(batch, *_asked(line)) for line in spooled)
        return
    except FileNotFoundError:
        last = -1
    query = "SELECT position, custom_id, digest FROM line WHERE batch = ? AND position > ? ORDER BY position LIMIT ?"
    while rows := store.rows(query, (batch.seq, last, _AT_ONCE)):
        last = rows[-1][0]
        yield b"".join(_waiting_line(batch, custom_id, digest) for _, custom_id, digest in rows)


def _asked(spooled: bytes) -> tuple[str, bytes]:
    """custom_id and digest of a spooled request."""
    name, _, canonical = spooled.removesuffix(b"\n").partition(b"\t")
    return name.decode(), hashlib.sha256(canonical).digest()


def _waiting_line(batch: Batch, custom_id: str, digest: bytes) -> bytes:
    row = (0, custom_id, digest, None, None, 0, 0, 0, 0, 0, 0, "processing", None, batch.created_us)
    return _line(batch.id, batch.workspace, row)


def _line(batch_id: str | None, workspace: str | None, row: tuple[Any, ...]) -> bytes:
    _, custom_id, digest, token, model, *tokens, cost_pico, outcome, error_type, at_us = row
    entry = {
        "batch_id": batch_id,
        "request_id": custom_id if batch_id is None else None,
        "custom_id": None if batch_id is None else custom_id,
        "workspace_id": workspace,
        "digest": digest.hex(),
        "token": token,
        "model": model,
        "tokens": dict(zip(_CLASSES, tokens, strict=True)),
        "cost_usd": usd(cost_pico),
        "billed": outcome == "succeeded",
        "outcome": outcome,
        "error_type": error_type,
        "at": rfc3339(at_us),
    }
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)


def _models(store: Store) -> dict[int, dict[str, dict[str, Any]]]:
    """Batch number -> model -> billed requests, tokens by class, cost."""
    rows = store.rows("SELECT batch, model, billed, input, output, write_5m, write_1h, read, cost_pico FROM bill")
    rows += store.rows(
        "SELECT batch, model, COUNT(*), SUM(input), SUM(output), SUM(write_5m), SUM(write_1h), SUM(read), "
        "SUM(cost_pico) FROM line WHERE batch = ? AND outcome = 'succeeded' GROUP BY model",
        (MESSAGES,),
    )
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for seq, model, billed, *tokens, cost_pico in rows:
        found.setdefault(seq, {})[model] = _part(billed, tokens, cost_pico)
    return found


def _part(billed: int, tokens: list[int], cost_pico: int) -> dict[str, Any]:
    return {"billed": billed, "tokens": dict(zip(_CLASSES, tokens, strict=True)), "cost_usd": usd(cost_pico)}


def _summed(models: dict[int, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    total: dict[str, dict[str, Any]] = {}
    for parts in models.values():
        for model, part in parts.items():
            so_far = total.setdefault(model, {"billed": 0, "tokens": dict.fromkeys(_CLASSES, 0), "cost_usd": "0"})
            so_far["billed"] += part["billed"]
            for name in _CLASSES:
                so_far["tokens"][name] += part["tokens"][name]
            so_far["cost_usd"] = str(Decimal(so_far["cost_usd"]) + Decimal(part["cost_usd"]))
    return total


def _calls(store: Store) -> dict[str, dict[str, int]]:
    """Endpoint -> answer (a status, or `dropped`) -> calls."""
    calls: dict[str, dict[str, int]] = {}
    for endpoint, answer, number in store.rows("SELECT endpoint, answer, calls FROM call ORDER BY endpoint, answer"):
        calls.setdefault(endpoint, {})[answer] = number
    return calls
