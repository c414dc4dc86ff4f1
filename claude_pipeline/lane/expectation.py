"""What a request will use, learned from what the ones before it used."""

from __future__ import annotations

from claude_pipeline.lane.reply import TokenUse

SEED_COUNT = 4  # answers that a seed stands for
SEED_BYTES = 2000.0  # of each of them
MEMORY = 100  # answers: older ones fade


class Mean:
    """The running mean of about the last `MEMORY` values; until there are a few, a seed stands for the rest of them."""

    __slots__ = ("_count", "_learned", "_seed", "value")

    def __init__(self, seed: float) -> None:
        self.value = self._seed = seed
        self._learned, self._count = 0.0, 0

    def learn(self, value: float) -> None:
        self._count = min(self._count + 1, MEMORY)
        self._learned += (value - self._learned) / self._count
        seed = max(0, SEED_COUNT - self._count) / SEED_COUNT
        self.value = seed * self._seed + (1.0 - seed) * self._learned


class Expectation:
    """Tokens of the next request: of input by its bytes, of output by the mean of answers.

    Input is what the limit counts, so what a cache gives makes the ratio smaller.
    """

    def __init__(self, tokens_per_byte: float, output_tokens: float) -> None:
        if tokens_per_byte <= 0 or output_tokens <= 0:
            raise ValueError(f"{tokens_per_byte} tokens per byte, {output_tokens} tokens of output: must be above zero")
        self._input = Mean(tokens_per_byte * SEED_BYTES)
        self._bytes = Mean(SEED_BYTES)
        self._output = Mean(output_tokens)
        self._error = Mean(0.0)

    def input_of(self, size_bytes: int) -> float:
        return size_bytes * self._input.value / self._bytes.value

    def output_of(self, max_tokens: int) -> float:
        return min(self._output.value, max_tokens)

    @property
    def input_error(self) -> float:
        """By how much input usually is off, as a share of what was expected."""
        return self._error.value

    @property
    def mean_input(self) -> float:
        return self._input.value

    @property
    def mean_output(self) -> float:
        return self._output.value

    def learn(self, size_bytes: int, usage: TokenUse) -> None:
        expected = self.input_of(size_bytes)
        self._error.learn(min(1.0, abs(usage.limited_input_tokens - expected) / max(expected, 1.0)))
        self._input.learn(usage.limited_input_tokens)
        self._bytes.learn(size_bytes)
        self._output.learn(usage.output_tokens)
