"""One request of a batch becomes one line of results, and one line of the invoice."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from claude_pipeline.simulator.batch import Batch, finish_moment
from claude_pipeline.simulator.bend import bend
from claude_pipeline.simulator.character import with_surrogates
from claude_pipeline.simulator.dice import falls_on
from claude_pipeline.simulator.error import Problem, error_body
from claude_pipeline.simulator.fault import Rule
from claude_pipeline.simulator.message import Reply, Writer
from claude_pipeline.simulator.params import Setting
from claude_pipeline.simulator.store import Line, Store

_LINE_MESSAGES = {
    "invalid_request_error": "The simulator was told to refuse this request",
    "authentication_error": "invalid x-api-key",
    "billing_error": "There is an issue with your organization's billing",
    "permission_error": "Your API key does not have permission to use the specified resource",
    "not_found_error": "The requested resource could not be found",
    "rate_limit_error": "This request would exceed your organization's rate limit",
    "request_too_large": "Request exceeds the maximum size",
    "api_error": "Internal server error",
    "timeout_error": "Timed out",
    "overloaded_error": "Overloaded",
}


def error_of(rule: Rule) -> Problem:
    """What a `line_error` fault says; an overloaded server unless the rule names another type."""
    kind = rule.error_type or "overloaded_error"
    return Problem(kind, rule.message or _LINE_MESSAGES.get(kind, "The simulator was told to refuse this request"))


def strikes_line(rule: Rule, store: Store, digest: bytes, origin: str, model: Any) -> bool:
    """Whether a rule hits this question, to the model it names, here.

    The share is drawn by question, so a rule without `attempts` hits the same question each time;
    with `attempts: n` it spares a question that it has hit in n other batches before.
    """
    if rule.model is not None and rule.model != model:
        return False
    if not falls_on(rule.share, rule.kind, rule.seed, rule.place, digest.hex()):
        return False
    return rule.attempts is None or store.times_met(rule.name, digest, origin) < rule.attempts


@dataclass(frozen=True, slots=True)
class LineWriter:
    """Answers the requests of one batch, one by one."""

    store: Store
    writer: Writer
    batch: Batch
    rules: Sequence[Rule]

    def write(self, position: int, spooled: bytes, offset: int) -> tuple[bytes, Line]:
        """The result line for a spooled request, and its line on the invoice."""
        batch = self.batch
        name, _, canonical = spooled.partition(b"\t")
        custom_id = name.decode()
        digest = hashlib.sha256(canonical).digest()
        at_us = finish_moment(batch, position)
        try:
            reply = self._reply(custom_id, canonical, digest, at_us)
        except Exception:  # a fault of ours costs one line, as one of the API's would, not the batch
            traceback.print_exc()
            reply = Problem("api_error", "Internal server error")
        if isinstance(reply, Problem):
            error = error_body(reply.type, reply.message, None)
            error["error"]["details"] = None  # as seen in a line of the real API
            result: dict[str, Any] = {"type": "errored", "error": error}
            line = Line.failed(batch.seq, custom_id, digest, reply.type, at_us, position)
        else:
            result = {"type": "succeeded", "message": reply.message}
            line = Line(
                batch.seq,
                position,
                custom_id,
                digest,
                reply.token,
                reply.model,
                reply.tokens,
                reply.cost_pico,
                "succeeded",
                None,
                at_us,
                0,
            )
        data = orjson.dumps({"custom_id": custom_id, "result": result}, option=orjson.OPT_APPEND_NEWLINE)
        if any(rule.kind == "odd_characters" for rule in self.rules):
            data = with_surrogates(data)
        return data, line._replace(end_offset=offset + len(data))

    def _reply(self, custom_id: str, canonical: bytes, digest: bytes, at_us: int) -> Reply | Problem:
        batch = self.batch
        params = orjson.loads(canonical)
        struck = [rule for rule in self.rules if strikes_line(rule, self.store, digest, batch.id, params.get("model"))]
        for rule in struck:
            if rule.kind == "line_error":
                return error_of(rule)
        setting = Setting(batch.version, tuple(batch.betas.split(",")), batch=True, now_us=at_us)
        reply = self.writer.reply(
            params,
            canonical,
            setting,
            name=f"{batch.id}/{custom_id}",
            place=custom_id,
            scope=batch.workspace,
            priced_us=batch.created_us,
        )
        if isinstance(reply, Reply):
            for rule in struck:
                bend(reply.message, rule.kind, rule.form)
        return reply
