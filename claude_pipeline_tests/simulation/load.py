"""Questions for the request queue, and what each of them really uses."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import cache

from claude_pipeline.lane.reply import Question


@dataclass(frozen=True, slots=True)
class Size:
    """What a question really uses."""

    input_tokens: int
    output_tokens: int


BYTES_PER_TOKEN = 3.5
NOISE = 0.1  # sigma of the log-normal factor between bytes and tokens
LARGE_EVERY, LARGE_TIMES = 20, 8  # every 20th question is 8 times as large
VARIETY = 997


@dataclass(frozen=True)
class Load:
    """Questions of about so many tokens; every 20th is large."""

    input_tokens: float
    output_tokens: float
    seed: int = 1
    noise: float = NOISE
    sizes: list[Size] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        small = LARGE_EVERY / (LARGE_EVERY - 1 + LARGE_TIMES)  # so that the mean is what was asked for
        for n in range(VARIETY):
            times = small * (LARGE_TIMES if n % LARGE_EVERY == 7 else 1)
            noise = math.exp(chance.gauss(0, self.noise) - self.noise**2 / 2)
            output = math.exp(chance.gauss(0, 0.5) - 0.125)
            tokens = max(1, round(self.input_tokens * times * noise))
            self.sizes.append(Size(tokens, max(1, round(self.output_tokens * output))))

    def size_of(self, question: Question) -> Size:
        assert isinstance(question.key, int)
        return self.sizes[question.key % VARIETY]

    def is_large(self, key: int) -> bool:
        return key % VARIETY % LARGE_EVERY == 7

    def question(self, key: int) -> Question:
        small = LARGE_EVERY / (LARGE_EVERY - 1 + LARGE_TIMES)
        times = small * (LARGE_TIMES if self.is_large(key) else 1)
        return Question(key, _bytes(max(2, round(self.input_tokens * times * BYTES_PER_TOKEN))), 128_000)


@cache
def _bytes(length: int) -> bytes:
    return bytes(length)
