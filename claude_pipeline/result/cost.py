"""What many answers cost, by column: of each what `Rates.cost_units` says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from claude_pipeline.catalog import UNITS_PER_USD, Rates, TokenRates, Usage

Tokens = npt.NDArray[np.int64]
EXACT_MAX = 2**53  # up to which whole numbers are divided as exactly by numpy as by Python


class Usages(NamedTuple):
    """Tokens of many answers, by class of price as in `Usage`."""

    input_tokens: Tokens
    output_tokens: Tokens
    cache_write_5m_tokens: Tokens
    cache_write_1h_tokens: Tokens
    cache_read_tokens: Tokens

    def at(self, places: npt.NDArray[np.int64]) -> Usages:
        """Those of the answers at these places."""
        return Usages(*(tokens[places] for tokens in self))

    def cost_usd(self, rates: Rates) -> npt.NDArray[np.float64]:
        """Cost of each."""
        most = sum(int(tokens.max(initial=0)) for tokens in self)
        if most * max(*rates.below, *rates.above) > EXACT_MAX:  # counts that nobody has, at a price that nobody asks
            each = (Usage(*tokens) for tokens in zip(*(tokens.tolist() for tokens in self), strict=True))
            return np.array([rates.cost_units(usage) / UNITS_PER_USD for usage in each], np.float64)
        parts = self._parts(rates.below)
        is_above = self.input_tokens + sum(self[2:]) > rates.threshold_tokens
        if is_above.any():
            parts = np.where(is_above, self._parts(rates.above), parts)
        return -(-parts // rates.parts_per_unit) / UNITS_PER_USD

    def _parts(self, rate: TokenRates) -> Tokens:
        parts = np.zeros(len(self.input_tokens), np.int64)
        for tokens, price in zip(self, rate, strict=True):
            parts += tokens * price
        return parts
