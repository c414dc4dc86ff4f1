"""Downloads of results as they might come: sound, spoiled, foreign; and a second reader of their lines.

The second reader shares nothing with the product: the standard library's JSON, the simulator's price list.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import strategies as st

from claude_pipeline.simulator.clock import microseconds
from claude_pipeline.simulator.price import Tokens, price_of
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.fuzz.value import CANARY, DEEP, JSON, MARKED, SCALARS, TEXTS, WIDE, spoiled

TAG = "0123abcd-0123456789abcdef"
MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
OUTCOMES = ("succeeded", "errored", "canceled", "expired")
TOKENS_MAX = 1_000_000_000  # more is no count of tokens
PICO_PER_UNIT = 100
OUTPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "queue": {"type": "string", "enum": ["billing", "other"]},
        "stars": {"type": "integer", "minimum": 1},
        "share": {"type": "number"},
        "urgent": {"type": ["boolean", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "who": {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}},
        "rest": {},
    },
    "required": ["queue"],
}

_COUNTS = st.integers(0, 2_000_000)
_ODD = st.one_of(SCALARS, WIDE, JSON, st.sampled_from([True, -1, 10**12, 2**63, 1e3]))
_NAMES = st.sampled_from(["queue", "stars", "share", "urgent", "tags", "who", "rest", "more"])
ANSWERS = st.one_of(
    MARKED,
    st.dictionaries(_NAMES, JSON, max_size=5).map(lambda answer: json.dumps(answer)),
    st.builds(lambda name, deep: f'{{"queue":"other",{json.dumps(name)}:{deep}}}', _NAMES, DEEP),
    st.just('{"queue":"billing","stars":1e400,"share":18446744073709551616}'),
)


@st.composite
def _usages(draw: st.DrawFn) -> Any:
    writes = draw(_COUNTS)
    usage: dict[str, Any] = {
        "input_tokens": draw(_COUNTS),
        "output_tokens": draw(_COUNTS),
        "cache_creation_input_tokens": writes,
        "cache_read_input_tokens": draw(_COUNTS),
        "cache_creation": {"ephemeral_1h_input_tokens": draw(st.integers(0, writes))},
        "inference_geo": draw(st.sampled_from(["global", "us", None])),
        "service_tier": "batch",
    }
    for name in draw(st.lists(st.sampled_from(sorted(usage)), max_size=2, unique=True)):
        usage[name] = draw(_ODD)
    return usage


@st.composite
def _results(draw: st.DrawFn) -> Any:
    match draw(st.sampled_from([*OUTCOMES, "succeeded", "succeeded", "odd"])):
        case "succeeded":
            message: dict[str, Any] = {
                "id": "msg_1",
                "type": "message",
                "model": draw(st.sampled_from(MODELS)),
                "content": [{"type": "text", "text": draw(ANSWERS)}],
                "stop_reason": "end_turn",
                "usage": draw(_usages()),
            }
            for name in draw(st.lists(st.sampled_from(sorted(message)), max_size=1)):
                message[name] = draw(
                    st.one_of(_ODD, st.lists(st.dictionaries(st.sampled_from(["type", "text"]), _ODD)))
                )
            return {"type": "succeeded", "message": message}
        case "errored":
            error = {
                "type": draw(st.sampled_from(["api_error", "invalid_request_error", "new"])),
                "message": draw(TEXTS),
            }
            return {
                "type": "errored",
                "error": draw(st.sampled_from([{"type": "error", "error": error}, error, None, 5])),
            }
        case "odd":
            return draw(st.one_of(_ODD, st.dictionaries(st.sampled_from(["type", "message", "error"]), _ODD)))
        case kind:
            return {"type": kind}


@dataclass(frozen=True)
class Download:
    """The lines that came for a chunk of `requests` requests, and what the batch counts."""

    requests: int
    lines: tuple[bytes, ...]
    counts: dict[str, int]
    sound: bool  # every line is there once and whole

    @property
    def data(self) -> bytes:
        return b"".join(self.lines)


def line(custom_id: Any, result: Any, **more: Any) -> bytes:
    """As the API might write it: what no UTF-8 holds is escaped."""
    return json.dumps({"custom_id": custom_id, "result": result, **more}, allow_nan=False).encode() + b"\n"


_IDS = st.sampled_from(
    [f"{TAG}-{n}" for n in ("00", "٣", "-1", "1e0", "9" * 5_000, "9" * 12, " 0", "0\n", "")]
    + ["", "mine", TAG, f"{TAG}-", f"ffff0000-0123456789abcdef-{0}"]
)


@st.composite
def downloads(draw: st.DrawFn) -> Download:
    """Sound ones, and ones with a few wounds."""
    results = draw(st.lists(_results(), min_size=1, max_size=4))
    lines = [line(f"{TAG}-{n}", result) for n, result in enumerate(results)]
    kinds = Counter(str(result.get("type")) if isinstance(result, dict) else "" for result in results)
    counts = {outcome: kinds[outcome] for outcome in OUTCOMES}
    counts["succeeded"] += len(results) - sum(counts.values())  # what nobody can name was perhaps answered
    lines = list(draw(st.permutations(lines)))
    wounds = draw(
        st.lists(st.sampled_from(["spoil", "twice", "foreign", "blank", "lose", "deep", "other", "count"]), max_size=2)
    )
    for wound in wounds:
        place = draw(st.integers(0, len(lines) - 1)) if lines else 0
        match wound:
            case "spoil" if lines:
                lines[place] = draw(spoiled(lines[place]))
            case "twice" if lines:
                lines.append(lines[place])
            case "foreign":
                lines.insert(place, line(draw(_IDS), {"type": "expired"}))
            case "blank":
                lines.insert(place, draw(st.sampled_from([b"\n", b" \t\r\n", b"\x0b\n"])))
            case "lose" if lines:
                del lines[place]
            case "deep":
                deep = draw(DEEP).encode()
                lines.insert(place, b'{"custom_id":"%b-0","result":{"type":"expired","x":%b}}\n' % (TAG.encode(), deep))
            case "other" if lines:
                lines.insert(place, line(f"{TAG}-0", draw(_results())))
            case "count":
                counts[draw(st.sampled_from(OUTCOMES))] += draw(st.integers(-1, 1))
    return Download(len(results), tuple(lines), counts, not wounds)


def read_again(data: bytes, requests: int) -> tuple[dict[int, list[dict[str, Any]]], bool]:
    """Position -> the documents of its lines, by the standard library; and whether it could follow every line."""
    found: dict[int, list[dict[str, Any]]] = {}
    whole = True
    for raw in data.split(b"\n"):
        try:
            document = json.loads(raw)
            json.dumps(document)
        except RecursionError:
            whole = False
            continue
        except ValueError:
            continue
        if not isinstance(document, dict) or not isinstance(document.get("result"), dict):
            continue
        for position in range(requests):
            if document.get("custom_id") == f"{TAG}-{position}":
                found.setdefault(position, []).append(document)
    return found, whole


def right_units(message: dict[str, Any], *, batch: bool) -> int | None:
    """What an answer costs in 1e-10 USD by the simulator's price list; None where its usage does not say."""
    usage, model = message.get("usage"), message.get("model")
    if not isinstance(usage, dict) or model not in MODELS:
        return None
    creation = usage.get("cache_creation")
    if not isinstance(creation, dict | None):
        return None
    counted = [usage.get("input_tokens"), usage.get("output_tokens")]
    optional = [usage.get("cache_creation_input_tokens"), usage.get("cache_read_input_tokens")]
    optional.append(creation.get("ephemeral_1h_input_tokens") if isinstance(creation, dict) else creation)
    counted += [0 if value is None else value for value in optional]
    if not all(type(value) is int and 0 <= value <= TOKENS_MAX for value in counted):
        return None
    fresh, out, writes, reads, hour = counted
    geo = usage.get("inference_geo")
    if hour > writes or geo not in (None, "global", "us"):
        return None
    price = price_of(model, microseconds(NOW), batch=batch, geo_us=geo == "us")
    return -(-price.cost_pico(Tokens(fresh, out, writes - hour, hour, reads)) // PICO_PER_UNIT)


def text_of(message: dict[str, Any]) -> str | None:
    """The answer's text; a lone surrogate, which no file can hold, as "?"."""
    content = message.get("content")
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    texts = [block.get("text") for block in blocks if block.get("type") == "text"]
    if not all(isinstance(text, str) for text in texts):
        return None
    return "".join(texts).encode("utf-8", "replace").decode() if texts else None


def message_of(model: str, text: str, tokens: int) -> bytes:
    """A message's body as the API sends it in real time."""
    usage = {"input_tokens": tokens, "output_tokens": tokens}
    content = [{"type": "text", "text": text}]
    return orjson.dumps({"id": "msg_1", "model": model, "content": content, "stop_reason": "end_turn", "usage": usage})


__all__ = [
    "CANARY",
    "MODELS",
    "OUTPUT",
    "TAG",
    "Download",
    "downloads",
    "line",
    "message_of",
    "read_again",
    "right_units",
    "text_of",
]
