"""What a workload's file may hold that cannot be sent as it is meant: the key, and values that are no JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from claude_pipeline.errors import API_KEY

INTEGER_BITS_MAX = 63  # of JSON as it is written here
_UNSENDABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class _Name:
    """A name of a mapping that YAML read as no text."""

    read: object


def key_in(value: Any) -> str | None:
    """The field in which an API key stands; None where none does."""
    return next((where for where, leaf in _leaves(value) if isinstance(leaf, str) and API_KEY.search(leaf)), None)


def problem_of(value: Any) -> str | None:
    """Why a value cannot be part of a request, with its field; None where it can."""
    for where, leaf in _leaves(value):
        said = _problem_of_leaf(leaf)
        if said is not None:
            return f"{where} {said}" if where else said
    return None


def _problem_of_leaf(leaf: Any) -> str | None:
    match leaf:
        case str() if _UNSENDABLE.search(leaf):
            return "holds a NUL character, or half of one (a lone surrogate); take it out"
        case float() if not math.isfinite(leaf):
            return f"is {leaf}, which JSON cannot hold"
        case int() if leaf.bit_length() > INTEGER_BITS_MAX:
            return "is a number of more than 63 bits; quote it"
        case date():
            return f"is read as the date {leaf}; quote it"
        case _Name():
            return f"has the name {leaf.read!r}, which is no text: quote it"
        case None | str() | float() | int():
            return None
    return f"is a {type(leaf).__name__}, which JSON cannot hold; quote it"


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Each single value with its field; a mapping's names as well, as values of the mapping."""
    match value:
        case dict():
            for name, inner in value.items():
                yield where, name if isinstance(name, str) else _Name(name)
                yield from _leaves(inner, f"{where}.{name}" if where else str(name))
        case list() | tuple():
            for number, inner in enumerate(value):
                yield from _leaves(inner, f"{where}.{number}" if where else str(number))
        case _:
            yield where, value


__all__ = ["key_in", "problem_of"]
