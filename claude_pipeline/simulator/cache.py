"""Prompt caching: which tokens of a prompt are written to the cache, read from it, or neither.

A prefix ends at a block with `cache_control`. What is imitated, from the API documentation
(prompt-caching, as of 2026-08): 5 minutes or 1 hour of life renewed by each read, the shortest
prefix per model, tools before system before messages. Batches and messages keep caches apart (a
user's measurement). In a batch a hit is best effort: a prefix that is there is read in
`BATCH_HIT_RATE` of all cases (documentation: 30 % to 98 %).
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator
from typing import Any

import orjson

from claude_pipeline.simulator.clock import SECOND_US
from claude_pipeline.simulator.dice import falls_on
from claude_pipeline.simulator.model import Model
from claude_pipeline.simulator.price import Tokens
from claude_pipeline.simulator.token import content_size

BATCH_HIT_RATE = 0.9
_LIFE_US = {"5m": 300 * SECOND_US, "1h": 3600 * SECOND_US}
_KEPT = 10_000  # prefixes remembered at most; the oldest are forgotten first


class Cache:
    """The prefixes now cached, by workspace, lane, model and content. Lost at a restart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_us: dict[bytes, int] = {}

    def account(
        self, params: dict[str, Any], model: Model, input_tokens: int, scope: str, at_us: int, hit_key: str | None
    ) -> Tokens:
        """Split the input tokens by class, and remember what was written. Output stays 0.

        `hit_key` names the request where hits are best effort (batches); None always hits.
        """
        breakpoints = list(_breakpoints(params, model, scope))
        if not breakpoints or breakpoints[-1][1] < model.min_cache:
            return Tokens(input=input_tokens, output=0)
        with self._lock:
            read = 0
            for key, tokens, life in reversed(breakpoints):
                alive = self._until_us.get(key, 0) > at_us
                if alive and (hit_key is None or falls_on(BATCH_HIT_RATE, "cache", hit_key)):
                    self._until_us[key] = at_us + _LIFE_US[life]
                    read = tokens
                    break
            written = {"5m": 0, "1h": 0}
            done = read
            for key, tokens, life in breakpoints:
                if tokens > done and tokens >= model.min_cache:
                    written[life] += tokens - done
                    done = tokens
                    self._until_us[key] = at_us + _LIFE_US[life]
            while len(self._until_us) > _KEPT:
                del self._until_us[next(iter(self._until_us))]
        rest = max(input_tokens - done, 0)
        return Tokens(input=rest, output=0, write_5m=written["5m"], write_1h=written["1h"], read=read)

    def clear(self) -> None:
        with self._lock:
            self._until_us.clear()


def uses_cache(canonical: bytes) -> bool:
    """A fast look that spares most requests the walk over their blocks."""
    return b'"cache_control"' in canonical


def _breakpoints(params: dict[str, Any], model: Model, scope: str) -> Iterator[tuple[bytes, int, str]]:
    """(key, tokens up to here, life) of each prefix that asks to be cached, shortest first."""
    running = hashlib.sha256(f"{scope}\x00{model.id}\x00".encode())
    config = params.get("output_config") or {}
    running.update(orjson.dumps([params.get("tool_choice"), config.get("format")]))
    blocks = list(_blocks(params))
    top = params.get("cache_control")
    size_bytes = 0
    fixed = 0
    for position, block in enumerate(blocks):
        control = block.get("cache_control")
        if control is None and top is not None and position == len(blocks) - 1:
            control = top
        plain = {key: value for key, value in block.items() if key != "cache_control"}
        running.update(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS))
        more_bytes, more_fixed = content_size([plain])
        size_bytes += more_bytes
        fixed += more_fixed
        if isinstance(control, dict):
            life = "1h" if control.get("ttl") == "1h" else "5m"
            yield running.copy().digest(), math.ceil(size_bytes / model.bytes_per_token) + fixed, life


def _blocks(params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All blocks of a prompt in the order of the cache: tools, system, messages."""
    for tool in params.get("tools") or ():
        yield {"type": "tool", **tool}
    for content in (params.get("system") or [], *(message["content"] for message in params["messages"])):
        if isinstance(content, str):
            yield {"type": "text", "text": content}
        else:
            yield from content
