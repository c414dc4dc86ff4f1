"""Values that all claims draw from: awkward texts more often than chance would bring them, JSON, spoiled bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

CANARY = "canary-7f3a"  # stands in texts of records; no message may hold it

_AWKWARD = ('"', ",", "\n", "\r", "\r\n", "\0", "\ufeff", "\u2028", "\x85", "'", ";", " ", "\\", "{{ x }}", "\ud7ff", "🎈", "a\u0301", "\u202e")  # fmt: skip

CHARACTERS = st.characters(codec="utf-8")
TEXTS = st.lists(st.sampled_from(_AWKWARD) | st.text(CHARACTERS, max_size=8), max_size=6).map("".join)
MARKED = TEXTS.map(lambda text: CANARY + text)

WHOLE = st.one_of(st.integers(-3, 10), st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, -(2**63)]))
WIDE = st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**40])
FLOATS = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -0.0, 1e308, 5e-324, 5.0]))
SCALARS = st.one_of(st.none(), st.booleans(), WHOLE, FLOATS, TEXTS)


def nested(leaves: st.SearchStrategy[Any], names: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Any]:
    """JSON values over these leaves."""
    keys = names if names is not None else st.text(CHARACTERS, max_size=4)
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
    )


JSON = nested(SCALARS)
_DEPTHS = (20, 200, 300, 520, 1_000, 1_030, 20_000)


def deep(depths: Sequence[int] = _DEPTHS) -> st.SearchStrategy[str]:
    """JSON text, nested past what one reader or another can follow."""
    kinds = st.sampled_from([("[", "1", "]"), ('{"a":', "1", "}"), ('[{"a":', "null", "}]")])
    return st.builds(lambda depth, kind: kind[0] * depth + kind[1] + kind[2] * depth, st.sampled_from(depths), kinds)


DEEP = deep()


@st.composite
def spoiled(
    draw: st.DrawFn, data: bytes, pieces: tuple[bytes, ...] = (b"\x00", b"\xff", b'"', b"\n", b"{", b",")
) -> bytes:
    """`data` with a few wounds: cut, flipped, doubled, filled with zeros, or with a piece put in."""
    wounded = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(wounded)))
        size = draw(st.integers(1, 40))
        match draw(st.sampled_from(["cut", "drop", "flip", "twice", "zeros", "piece"])):
            case "cut":
                del wounded[place:]
            case "drop":
                del wounded[place : place + size]
            case "flip" if place < len(wounded):
                wounded[place] ^= 1 << draw(st.integers(0, 7))
            case "twice":
                wounded[place:place] = wounded[place : place + size]
            case "zeros":
                wounded[place : place + size] = bytes(len(wounded[place : place + size]))
            case _:
                wounded[place:place] = draw(st.sampled_from(pieces))
    return bytes(wounded)
