"""How much longer than what it is given the result of a filter or a method may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from claude_pipeline.template.plain import refuse_nulls
from claude_pipeline.template.unusable import null_text

WIDTHS = frozenset({"batch", "center", "ljust", "range", "rjust", "round", "slice", "to_bytes", "zfill"})
SLOW = 50  # units of a character that is wrapped or searched for links, beside the usual one
_WIDTH = re.compile(r"\d{4,}")
_WIDTH_OF_VALUE = re.compile(r"\{[^{}]*\{")  # of str.format


def growth(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], size: Callable[..., int]) -> int:
    """How much longer than its arguments the result of a filter or a method may be, at most.

    `args` begins with what the filter or the method is applied to. Raises Unusable: a null would become text.
    """
    value, *given = args or ("",)
    given += kwargs.values()
    widest = max((abs(number) for number in given if isinstance(number, int)), default=0)
    if name in WIDTHS:
        return widest
    match name:
        case "replace":
            old, new = (
                kwargs.get(key, given[place] if place < len(given) else "") for place, key in enumerate(("old", "new"))
            )
            times = value.count(old) if isinstance(value, str) and isinstance(old, str) else size(value)
            return times * size(new)
        case "join":
            return _join_growth(args, kwargs, size)
        case "format" | "format_map":
            return formatted(value, given, size)
        case "expandtabs":
            return (widest or 8) * size(value)
        case "indent":
            return (value.count("\n") + 1 if isinstance(value, str) else 1) * (widest + size(*given))
        case "wordwrap" | "urlize" | "translate" | "xmlattr" | "pprint":
            return size(value) * (SLOW + size(*given))
        case "tojson":
            return size(value) * widest
        case "sum" if isinstance(kwargs.get("start", args[2] if len(args) > 2 else 0), list | tuple | str):
            return size(value) * size(value)
    return 0


def _join_growth(args: tuple[Any, ...], kwargs: Mapping[str, Any], size: Callable[..., int]) -> int:
    """Of `items | join(between)` and `between.join(items)`. Raises Unusable: an item is null."""
    refuse_nulls(args)
    held = [arg for arg in args if isinstance(arg, list | tuple)]
    words = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, str)]
    most = max((len(arg) for arg in args if hasattr(arg, "__len__")), default=0)
    return (len(held[0]) if held else most) * size(*words)


def formatted(text: Any, values: Iterable[Any], size: Callable[..., int]) -> int:
    """How long a formatted text may get. Raises Unusable: a value is null."""
    values = list(values)
    if any(value is None for value in values):
        raise null_text()
    words = text if isinstance(text, str) else str(text)
    widths = [int(digits) for digits in _WIDTH.findall(words)]
    if "*" in words or _WIDTH_OF_VALUE.search(words):
        widths += [abs(value) for value in values if isinstance(value, int)]
    return (words.count("%") + words.count("{")) * (max(widths, default=0) + size(*values))
