"""What many answers cost, by column: of each what `Rates.cost_units` says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from claude_pipeline.catalog import Rates

Tokens = npt.NDArray[np.int64]


class Usages(NamedTuple):
    """Tokens of many answers, by class of price as in `Usage`."""

    input_tokens: Tokens
    output_tokens: Tokens
    cache_write_5m_tokens: Tokens
    cache_write_1h_tokens: Tokens
    cache_read_tokens: Tokens

    def where(self, chosen: npt.NDArray[np.bool_]) -> Usages:
        """Those of some answers."""
        return Usages(*(tokens[chosen] for tokens in self))

    def cost_units(self, rates: Rates) -> Tokens:
        """Cost of each in 1e-10 USD. No count is above `TOKENS_MAX`, so that no sum of parts is too large."""
        fresh, _, write_5m, write_1h, read = self
        parts = self._parts(rates.below)
        is_above = fresh + write_5m + write_1h + read > rates.threshold_tokens
        if is_above.any():
            parts = np.where(is_above, self._parts(rates.above), parts)
        return parts if rates.parts_per_unit == 1 else -(-parts // rates.parts_per_unit)

    def _parts(self, rate: tuple[int, ...]) -> Tokens:
        parts = np.zeros(len(self.input_tokens), np.int64)
        for tokens, price in zip(self, rate, strict=True):
            parts += tokens * price
        return parts
