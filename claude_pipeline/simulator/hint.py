"""Bounds that a schema may only say in words.

Structured output refuses `minimum`, `maxLength` and their like; the SDK's `transform_schema` moves them to the end
of the description, as `{maximum: 5, minimum: 1}`, others do as `(minimum: 1; maximum: 5)`. A model reads them and
mostly keeps to them; here it always does. Patterns are left alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from claude_pipeline.simulator.dice import Dice

_AT_THE_END = re.compile(r"[{(]([^{}()]*)[)}]\s*\Z")
_BOUND = re.compile(r"(\w+): (-?\d+(?:\.\d+)?)(?=[,;]|\Z)")
_MOST_ITEMS = 100
_MOST_CHARACTERS = 1_000  # a longer answer than this is not filled up
_USUAL_SPAN = 99  # from the one bound that is given to the other
_STEPS = 10_000  # a number's values between its bounds


def bounds_of(node: Mapping[str, Any]) -> dict[str, float]:
    """The bounds at the end of the node's description: {"maximum": 5.0, "minimum": 1.0}."""
    description = node.get("description")
    found = _AT_THE_END.search(description) if isinstance(description, str) else None
    return {word: float(value) for word, value in _BOUND.findall(found[1])} if found else {}


def integer_within(bounds: Mapping[str, float]) -> Callable[[Dice], int]:
    """Makes integers within the bounds; 0 to 99 without any, or where the bounds leave nothing."""
    step = max(int(bounds.get("multipleOf", 1)), 1)
    least, most = _ends(bounds, 1)
    first, last = math.ceil(least / step), math.floor(most / step)
    if first > last:
        step, first, last = 1, 0, _USUAL_SPAN
    return lambda dice: step * (first + dice.below(last - first + 1))


def number_within(bounds: Mapping[str, float]) -> Callable[[Dice], float]:
    """Makes numbers within the bounds, never on one; 0 to 100 in hundredths without any."""
    least, most = _ends(bounds, 0)
    if not bounds or least > most:
        return lambda dice: dice.below(_STEPS) / 100
    return lambda dice: least + (most - least) * (1 + dice.below(_STEPS)) / (_STEPS + 1)


def text_within(text: str, token: str, bounds: Mapping[str, float]) -> str:
    """The text, cut or filled up; where it does not fit, the prompt's digest token as far as it does."""
    most = bounds.get("maxLength")
    if most is not None and len(text) > most:
        return token[: int(most)]
    return text.ljust(min(int(bounds.get("minLength", 0)), _MOST_CHARACTERS), ".")


def items_within(bounds: Mapping[str, float], least: int) -> tuple[int, int]:
    """How many items a list has at least, and how many lengths there are to choose from."""
    first = max(least, min(int(bounds.get("minItems", 0)), _MOST_ITEMS))
    return first, max(min(first + 2, int(bounds.get("maxItems", first + 2))) - first + 1, 1)


def _ends(bounds: Mapping[str, float], beside: float) -> tuple[float, float]:
    """The least and the most; `beside` is how far a value keeps from a bound that is itself excluded."""
    low = max(bounds.get("minimum", -math.inf), bounds.get("exclusiveMinimum", -math.inf) + beside)
    high = min(bounds.get("maximum", math.inf), bounds.get("exclusiveMaximum", math.inf) - beside)
    if low == -math.inf:
        low = min(0.0, high - _USUAL_SPAN)
    return low, low + _USUAL_SPAN if high == math.inf else high
