"""Prompt caching: which tokens of a prompt are written to the cache, read from it, or neither.

A prefix ends at a block with `cache_control`. What is imitated, from the API documentation
(prompt-caching, as of 2026-08): 5 minutes or 1 hour of life renewed by each read, the shortest
prefix per model, tools before system before messages, and the look back: what an earlier call wrote
is found up to 20 blocks before a breakpoint, so a growing conversation reads what it wrote. Batches and messages keep caches apart (a
user's measurement). In a batch a hit is best effort: a prefix that is there is read in
`BATCH_HIT_RATE` of all cases (documentation: 30 % to 98 %). Which cases follows from the seed and
from what was asked, so that the same calls make the same invoice.
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
_LOOK_BACK = 20  # blocks, the breakpoint's own among them
_KEPT = 10_000  # prefixes remembered at most; the oldest are forgotten first


class Cache:
    """The prefixes now cached, by workspace, lane, model and content. Lost at a restart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Alive from when to when: answers of a batch are written long before their simulated time,
        # and a prefix must not be read by a request that is answered before the one that wrote it.
        self._alive_us: dict[bytes, tuple[int, int]] = {}

    def readable(self, params: dict[str, Any], model: Model, scope: str, at_us: int) -> int:
        """Tokens that a message with these params would read now; nothing is remembered."""
        prefixes = list(_prefixes(params, model, scope))
        with self._lock:
            found = self._longest(prefixes, model, at_us)
        return found[1] if found else 0

    def account(
        self, params: dict[str, Any], model: Model, input_tokens: int, scope: str, at_us: int, hit_key: str | None
    ) -> Tokens:
        """Split the input tokens by class, and remember what was written. Output stays 0.

        `hit_key` names the request where hits are best effort (batches); None always hits.
        """
        prefixes = list(_prefixes(params, model, scope))
        if not any(life and tokens >= model.min_cache for _, tokens, life in prefixes):
            return Tokens(input=input_tokens, output=0)
        with self._lock:
            read = 0
            if hit_key is None or falls_on(BATCH_HIT_RATE, "cache", hit_key):
                found = self._longest(prefixes, model, at_us)
                if found:
                    key, read, life = found
                    self._keep(key, life, at_us)
            written = {"5m": 0, "1h": 0}
            done = read
            for key, tokens, life in prefixes:
                if life and tokens > done and tokens >= model.min_cache:
                    written[life] += tokens - done
                    done = tokens
                    self._keep(key, life, at_us)
            while len(self._alive_us) > _KEPT:
                del self._alive_us[next(iter(self._alive_us))]
        rest = max(input_tokens - done, 0)
        return Tokens(input=rest, output=0, write_5m=written["5m"], write_1h=written["1h"], read=read)

    def clear(self) -> None:
        with self._lock:
            self._alive_us.clear()

    def _longest(
        self, prefixes: list[tuple[bytes, int, str]], model: Model, at_us: int
    ) -> tuple[bytes, int, str] | None:
        """The longest prefix that is alive and in sight of a breakpoint."""
        in_sight = 0
        life = ""
        for key, tokens, asked in reversed(prefixes):
            if asked:
                in_sight, life = _LOOK_BACK, asked
            from_us, until_us = self._alive_us.get(key, (0, 0))
            if in_sight > 0 and from_us <= at_us < until_us and tokens >= model.min_cache:
                return key, tokens, life
            in_sight -= 1
        return None

    def _keep(self, key: bytes, life: str, at_us: int) -> None:
        from_us, until_us = self._alive_us.get(key, (at_us, 0))
        self._alive_us[key] = min(from_us, at_us), max(until_us, at_us + _LIFE_US[life])


def uses_cache(canonical: bytes) -> bool:
    """A fast look that spares most requests the walk over their blocks."""
    return b'"cache_control"' in canonical


def _prefixes(params: dict[str, Any], model: Model, scope: str) -> Iterator[tuple[bytes, int, str]]:
    """(key, tokens up to here, life) of the prefix that ends at each block, shortest first.

    The life is empty where the block does not ask to be cached.
    """
    running = hashlib.sha256(f"{scope}\x00{model.id}\x00".encode())
    config = params.get("output_config") or {}
    running.update(orjson.dumps(config.get("format")))
    before, messages = _blocks(params)
    blocks = before + messages
    top = params.get("cache_control")
    size_bytes = 0
    fixed = 0
    for position, block in enumerate(blocks):
        control = block.get("cache_control")
        if control is None and top is not None and position == len(blocks) - 1:
            control = top
        if position == len(before):  # these leave what stands before the messages cached
            running.update(orjson.dumps([params.get("tool_choice"), params.get("thinking")]))
        plain = {key: value for key, value in block.items() if key != "cache_control"}
        running.update(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS))
        more_bytes, more_fixed = content_size([plain])
        size_bytes += more_bytes
        fixed += more_fixed
        life = str(control.get("ttl", "5m")) if isinstance(control, dict) else ""
        yield running.copy().digest(), math.ceil(size_bytes / model.bytes_per_token) + fixed, life


def _blocks(params: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All blocks of a prompt in the order of the cache: those of tools and system, those of messages."""
    before = [*(params.get("tools") or ()), *_content_blocks(params.get("system") or [])]
    return before, [block for message in params["messages"] for block in _content_blocks(message["content"])]


def _content_blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
