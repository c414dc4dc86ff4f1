"""The prompt cache: which part of a workload's requests can be cached, the mark that asks for it, what it saves.

The API caches a prefix (tools, then system, then messages) up to a block that carries `cache_control`. All
requests of a workload share their tools, their system prompt and what stands in the prompt before its first
column; where that is long enough for the model, its last block is marked for one hour. The mark changes what
a request costs, not what it asks: a fingerprint never sees it.

Nothing is primed a second time: the hour runs from the primer's end and each read renews it, and what is sent
later than that (held by a budget, a further round) fills the cache by itself, at the write price for the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import orjson

from claude_pipeline.catalog import Model, Price, Usage
from claude_pipeline.request import constant_head
from claude_pipeline.workload import Workload

REQUESTS_MIN = 20  # fewer are not worth the wait for the primer
HIT_RATE = 0.9  # assumed; the documentation says 30 % to 98 % for batches
# Bytes of text per token, on the long side: a prefix that is called long enough is.
BYTES_PER_TOKEN, BYTES_PER_TOKEN_OLD = Fraction(4), Fraction(26, 5)
CONTROL = {"type": "ephemeral", "ttl": "1h"}
_CONTENT, _ROLE = b'"content":"', b'","role":"user"}]'
_KEY = b'"cache_control":'

Where = Literal["tools", "system", "prompt"]
Mark = Callable[[bytes], bytes]


@dataclass(frozen=True)
class CacheChoice:
    """Whether the requests of a snapshot are marked, and why (not)."""

    why: str  # for people: `on: …` or `off: …`
    prefix_tokens: int = 0
    mark: Mark | None = None  # params -> params with the mark; None: off

    @property
    def on(self) -> bool:
        return self.mark is not None


class Prefix(NamedTuple):
    """The longest part that all requests of a workload share and that can be marked."""

    where: Where
    tokens: int


def choose(workload: Workload, model: Model, requests: int) -> CacheChoice:
    """Whether to mark so many requests of a workload for a model's prompt cache.

    Raises:
        WorkloadInvalid: an unreadable prompt_file.
    """
    if workload.cache == "off":
        return CacheChoice("off: cache: auto turns it on")
    if b"cache_control" in orjson.dumps(workload.params):
        return CacheChoice("off: params hold a cache_control of their own, which is sent as it is")
    least = model.min_cacheable_tokens
    if least is None:
        return CacheChoice(f"off: the shortest prefix that {model.id} caches is not known")
    prefix = prefix_of(workload, model)
    if prefix.tokens < least:
        return CacheChoice(
            f"off: tools, system and the constant head of the prompt are about {prefix.tokens:,} tokens, "
            f"{model.id} caches from {least:,} on", prefix.tokens,
        )  # fmt: skip
    if requests < REQUESTS_MIN:
        return CacheChoice(f"off: {requests:,} requests are too few to wait for a primer", prefix.tokens)
    why = f"on: about {prefix.tokens:,} tokens up to the end of the {prefix.where} are cached for 1 h"
    return CacheChoice(f"{why}; one request goes first and fills it", prefix.tokens, _marker(workload, prefix.where))


def prefix_of(workload: Workload, model: Model) -> Prefix:
    """What a mark would cover. It stands behind the prompt's constant head where that is what makes the
    prefix long, or is long enough to be cached alone; else behind the system prompt, or the last tool."""
    per_token = BYTES_PER_TOKEN if model.new_tokenizer is not False else BYTES_PER_TOKEN_OLD
    tools = workload.params.get("tools") or []
    before = len(orjson.dumps(tools)) * bool(tools) + len((workload.system or "").encode())
    head = len(constant_head(workload.template()).encode())
    least = model.min_cacheable_tokens or 0
    if head and (before // per_token < least or head // per_token >= least):
        return Prefix("prompt", (before + head) // per_token)
    return Prefix("system" if workload.system is not None else "tools", before // per_token)


def is_marked(params: bytes) -> bool:
    """Whether params, as they are sent, ask for the cache. In JSON a text's own quotes are escaped: only a
    key can look like this."""
    return _KEY in params


def _marker(workload: Workload, where: Where) -> Mark:
    """Marks canonical params. Requests of a workload differ in their prompt only, so the bytes to be
    replaced are the same in each."""
    if where == "prompt":
        return _prompt_marker(constant_head(workload.template()))
    if where == "system":
        old: Any = workload.system
        new: Any = [{"type": "text", "text": workload.system, "cache_control": CONTROL}]
    else:
        old = workload.params["tools"]
        new = [*old[:-1], {**old[-1], "cache_control": CONTROL}]
    find, put = (f'"{where}":'.encode() + _json(value) for value in (old, new))
    return lambda params: params.replace(find, put, 1)


def _prompt_marker(head: str) -> Mark:
    """The prompt's constant head becomes a text block of its own."""
    first = _json({"type": "text", "text": head, "cache_control": CONTROL})
    begin = _CONTENT + _json(head)[1:-1]

    def mark(params: bytes) -> bytes:
        at = params.find(begin)
        end = params.find(_ROLE, at)
        rest = params[at + len(begin) : end]
        if at < 0 or end < 0 or not orjson.loads(b'"' + rest + b'"').strip():
            return params  # a block of nothing is refused
        return b"".join(
            (params[:at], b'"content":[', first, b',{"text":"', rest, b'","type":"text"}]', params[end + 1 :])
        )

    return mark


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


class CacheSaving(NamedTuple):
    """What 1-hour caching of a prefix does to the cost of a snapshot, in 1e-10 USD; negative: it costs more."""

    units: int
    primer_units: int  # what filling the cache costs over plain input; part of `units`
    break_even_hit_rate: float  # under it caching costs more than it saves


def cache_saving(
    price: Price, *, prefix_tokens: int, requests: int, hit_rate: float = HIT_RATE, geo: str | None = None
) -> CacheSaving:
    """What caching saves in the batch lane: one request writes the prefix, of the others `hit_rate` read it and
    the rest write it again."""
    rates = price.rates(lane="batch", geo=geo)
    plain, write, read = (
        rates.cost_units(usage)
        for usage in (
            Usage(prefix_tokens, 0),
            Usage(0, 0, cache_write_1h_tokens=prefix_tokens),
            Usage(0, 0, cache_read_tokens=prefix_tokens),
        )
    )
    others = max(requests - 1, 0)
    saved = others * (plain - (hit_rate * read + (1 - hit_rate) * write))
    even = (write - plain) / (write - read) if write > read else 1.0
    return CacheSaving(round(saved) - (write - plain), write - plain, even)
