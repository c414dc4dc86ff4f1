"""Choices that look like chance and are the same every time: they come from a digest, not from a clock."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")
_REFILL_BELOW = 1 << 64  # so that one choice among up to 2**32 is even to the eye


class Dice:
    """An endless row of choices that follow from `seed` alone. About 0.2 µs a choice."""

    __slots__ = ("_seed", "_value")

    def __init__(self, seed: bytes) -> None:
        self._seed = hashlib.sha256(seed).digest()
        self._value = int.from_bytes(self._seed, "big")

    def below(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1."""
        if self._value < _REFILL_BELOW:
            self._seed = hashlib.sha256(self._seed).digest()
            self._value = int.from_bytes(self._seed, "big")
        self._value, choice = divmod(self._value, bound)
        return choice

    def pick(self, choices: Sequence[_T]) -> _T:
        return choices[self.below(len(choices))]

    def chance(self, share: float) -> bool:
        """True in `share` of all cases."""
        return share > 0 and self.below(1 << 30) < share * (1 << 30)


def falls_on(share: float, *parts: object) -> bool:
    """Whether `parts` are among the `share` of all that a rule hits; the same parts, the same answer."""
    if share <= 0:
        return False
    if share >= 1:
        return True
    digest = hashlib.sha256("\x00".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
