"""From accepted params to the Message the API answers, with its usage and its exact cost."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from claude_pipeline.simulator.answer import REFUSAL, REFUSED_PROMPT, Answer, answer
from claude_pipeline.simulator.cache import Cache, uses_cache
from claude_pipeline.simulator.dice import Dice
from claude_pipeline.simulator.error import Problem
from claude_pipeline.simulator.model import Model
from claude_pipeline.simulator.params import Setting, check_params
from claude_pipeline.simulator.price import Tokens, price_of
from claude_pipeline.simulator.token import digest_token, last_user_text

_REFUSED = {"type": "refusal", "category": None, "explanation": None}


def canonical_json(params: Any) -> bytes:
    """Sorted keys, no blanks, UTF-8: equal params have equal bytes. Raises TypeError where JSON has no form."""
    return orjson.dumps(params, option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answered request: what goes to the client, and what goes on the invoice."""

    message: dict[str, Any]
    model: str
    token: str
    tokens: Tokens
    cost_pico: int


@dataclass(frozen=True, slots=True)
class Writer:
    """Answers requests of one workspace; `seed` and `thinking_rate` are the simulator's."""

    seed: int
    thinking_rate: float
    cache: Cache

    def readable(self, params: Any, canonical: bytes, model: Model, scope: str, at_us: int) -> int:
        """Tokens that these params as a message would read from the cache now."""
        return self.cache.readable(params, model, f"{scope}/messages", at_us) if uses_cache(canonical) else 0

    def reply(
        self, params: Any, canonical: bytes, setting: Setting, *, name: str, place: str, scope: str, priced_us: int
    ) -> Reply | Problem:
        """Answer params, or say why they are refused.

        `name` makes the message's id (same name, same id); `place` is where it stands in the row of calls
        (the same in every run); `scope` is the workspace, whose cache is used.
        """
        checked = check_params(params, setting)
        if isinstance(checked, Problem):
            return checked
        model, input_tokens = checked
        token = digest_token(last_user_text(params))
        digest = hashlib.sha256(canonical).digest()
        if REFUSED_PROMPT in canonical:
            said = REFUSAL
        else:
            said = answer(params, model, token, Dice(b"%d:%b" % (self.seed, digest)), self.thinking_rate)
        tokens = Tokens(input=input_tokens, output=0)
        if uses_cache(canonical):
            lane = "batch" if setting.batch else "messages"
            # Not the message's name: a batch's id is drawn by lot, and would make two runs' invoices differ.
            hit_key = f"{self.seed}:{place}:{digest.hex()}" if setting.batch else None
            tokens = self.cache.account(params, model, input_tokens, f"{scope}/{lane}", setting.now_us, hit_key)
        tokens = tokens._replace(output=said.output_tokens)
        geo = params.get("inference_geo")
        price = price_of(model.id, priced_us, batch=setting.batch, geo_us=geo == "us")
        message = _message(model, name, said, tokens, geo or "global", setting.batch)
        return Reply(message, model.id, token, tokens, price.cost_pico(tokens))


def _message(model: Model, name: str, said: Answer, tokens: Tokens, geo: str, batch: bool) -> dict[str, Any]:
    return {
        "model": model.id,
        "id": f"msg_01{hashlib.sha256(name.encode()).hexdigest()[:22]}",
        "type": "message",
        "role": "assistant",
        "content": [*said.content],
        "stop_reason": said.stop_reason,
        "stop_sequence": said.stop_sequence,
        "stop_details": _REFUSED if said.stop_reason == "refusal" else None,
        "usage": {
            "input_tokens": tokens.input,
            "cache_creation_input_tokens": tokens.write_5m + tokens.write_1h,
            "cache_read_input_tokens": tokens.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": tokens.write_5m,
                "ephemeral_1h_input_tokens": tokens.write_1h,
            },
            "output_tokens": tokens.output,
            "output_tokens_details": {"thinking_tokens": said.thinking_tokens},
            "service_tier": "batch" if batch else "standard",
            "inference_geo": geo,
        },
    }
