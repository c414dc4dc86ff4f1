"""What is known of a request's tokens before it is answered: by script, by output schema, by max_tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

import orjson

from claude_pipeline.plan.interval import Interval, Line


class Method(StrEnum):
    """Where an estimate comes from, the best first."""

    PAST_RESULTS = "past_results"
    COUNT_TOKENS = "count_tokens"
    OTHER_RESULTS = "other_results"  # of this workload under another prompt or model
    CHARACTERS = "characters"
    OUTPUT_SCHEMA = "output_schema"
    MAX_TOKENS = "max_tokens"


@dataclass(frozen=True)
class Estimate:
    """Tokens of all requests of one load, on one model; `line` is of the same method, for single requests."""

    tokens: Interval
    line: Line
    method: Method
    basis: str  # a clause for people, as "a fit on 4,000 past results"

    def converted(self, factor: float, because: str, doubt: float) -> Estimate:
        """For another model, whose tokens are `factor` times as many."""
        line = Line(self.line.constant * factor, self.line.per_byte * factor, self.line.variance * factor**2)
        return Estimate(self.tokens.times(factor).widened(doubt), line, self.method, f"{self.basis}; {because}")


ROUGH_SHARE = 0.35  # doubt about characters per token, to each side

_CJK = re.compile(
    r"[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
_CODE = re.compile(r"[{}\[\]()<>;=_/\\|&%$#@*^~`\"+-]|\d")
_OTHER = re.compile(r"[^\x00-\u024f]")
CODE_SHARE = 0.12  # of marks and digits, from which on a text counts as code-like


def rough_tokens(text: str, characters_per_token: Mapping[str, Decimal]) -> float:
    """Tokens of a text by the scripts of its characters; rough, for models with the newer tokenizer."""
    cjk = len(_CJK.findall(text))
    other = len(_OTHER.findall(text)) - cjk
    latin = len(text) - cjk - other
    marks = len(_CODE.findall(text))
    kind = "code" if latin and marks / latin > CODE_SHARE else "latin"
    per = {name: float(value) for name, value in characters_per_token.items()}
    return latin / per[kind] + cjk / per["cjk"] + max(other, 0) / per["other"]


# Output: characters of JSON, least, usual and most of one value (our own guesses; the interval is wide).
STRING = (8, 40, 400)
INTEGER = (1, 3, 10)
NUMBER = (1, 5, 18)
FORMATS = {"date": 12, "time": 11, "date-time": 27, "duration": 7, "uuid": 38, "ipv4": 13, "ipv6": 22}
ITEMS = (0, 2, 8)
OPTIONAL_GIVEN = 0.7
FREE_TEXT_TOKENS = 55  # a paragraph of three or four sentences
FREE_TEXT_SHARE = 0.75  # of max_tokens, where that is less
THINKING_TOKENS = 600  # upper allowance for a model that may think before it answers
JSON_DOUBT = 1.25  # about characters per token of JSON, as a factor to each side
DEPTH_MAX = 12

Span = tuple[float, float, float]  # least, usual, most


def output_by_schema(
    schema: Mapping[str, Any], *, characters_per_token: float, max_tokens: int, thinks: bool
) -> Interval:
    """Output tokens of one request that answers under a JSON Schema."""
    least, usual, most = (value / characters_per_token + 0.5 for value in _span(schema, schema, 0))
    most += THINKING_TOKENS * thinks
    # Many requests: the mean stays inside the extremes of single answers.
    return Interval(usual, least / JSON_DOUBT, most * JSON_DOUBT).within(1, max_tokens)


def output_by_max_tokens(max_tokens: int) -> Interval:
    """Output tokens of one request whose answer is free text."""
    usual = min(FREE_TEXT_TOKENS, FREE_TEXT_SHARE * max_tokens)
    return Interval(usual, min(8.0, usual), max_tokens)


def may_think(accepted: tuple[str, ...], params: Mapping[str, Any]) -> bool:
    """Whether a model may think although nobody asked it to."""
    thinking = params.get("thinking")
    return "adaptive" in accepted if thinking is None else thinking.get("type") in ("adaptive", "enabled")


def _span(schema: Any, root: Mapping[str, Any], depth: int) -> Span:
    """Characters of a value's JSON. Spreads of an object's values add in quadrature, as of independent ones."""
    if not isinstance(schema, dict) or depth > DEPTH_MAX:
        return STRING
    if "const" in schema:
        return _of_values([schema["const"]])
    if "enum" in schema:
        return _of_values(schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            spans = [_span(inner, root, depth + 1) for inner in schema[union]]
            return min(s[0] for s in spans), sum(s[1] for s in spans) / len(spans), max(s[2] for s in spans)
    if isinstance(schema.get("$ref"), str):
        return _span(_resolved(schema["$ref"], root), root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        return _span({"anyOf": [{**schema, "type": one} for one in kind]}, root, depth)
    match kind:
        case "boolean":
            return 4, 4.5, 5
        case "null":
            return 4, 4, 4
        case "integer" | "number":
            return _of_number(schema, INTEGER if kind == "integer" else NUMBER)
        case "array":
            return _of_array(schema, root, depth)
        case "object":
            return _of_object(schema, root, depth)
    return _of_text(schema)


def _of_values(values: list[Any]) -> Span:
    sizes = [len(orjson.dumps(value).decode()) for value in values]
    return min(sizes), sum(sizes) / len(sizes), max(sizes)


def _of_number(schema: Mapping[str, Any], usual: Span) -> Span:
    bounds = [schema[key] for key in ("minimum", "maximum") if isinstance(schema.get(key), int | float)]
    if len(bounds) < 2:
        return usual
    sizes = sorted(len(str(int(bound))) for bound in bounds)
    more = 0 if schema["type"] == "integer" else 3
    return min(1, sizes[0]), max(sizes) + more / 2, max(sizes) + 4 * more


def _of_text(schema: Mapping[str, Any]) -> Span:
    if schema.get("format") in FORMATS:
        size = FORMATS[schema["format"]]
        return size - 2, size, size + 6
    least, usual, most = map(float, STRING)
    longest = schema.get("maxLength")
    if isinstance(longest, int):
        most, usual = longest + 2, min(usual, 0.6 * longest + 2)
    shortest = schema.get("minLength", 0) + 2
    return max(min(least, usual), shortest), max(usual, shortest), max(most, shortest)


def _of_array(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Span:
    item = _span(schema.get("items", {}), root, depth + 1)
    fewest = max(schema.get("minItems", ITEMS[0]), 0)
    most = max(schema.get("maxItems", max(ITEMS[2], fewest)), fewest)
    usual = min(max(ITEMS[1], fewest), most)
    return 2 + fewest * (item[0] + 1), 2 + usual * (item[1] + 1), 2 + most * (item[2] + 1)


def _of_object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Span:
    least, usual, below, above = 2.0, 2.0, 0.0, 0.0
    required = set(schema.get("required", ()))
    for name, inner in (schema.get("properties") or {}).items():
        share = 1.0 if name in required else OPTIONAL_GIVEN
        around = len(name) + 4  # quotes, colon, comma
        span = _span(inner, root, depth + 1)
        usual += share * (span[1] + around)
        below += (span[1] - (span[0] if share == 1 else -around)) ** 2
        above += (span[2] - span[1] + (1 - share) * around) ** 2
    return max(least, usual - math.sqrt(below)), usual, usual + math.sqrt(above)


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for key in reference.removeprefix("#/").split("/"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
