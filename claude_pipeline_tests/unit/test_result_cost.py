"""What many answers cost by column is what each costs by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from claude_pipeline.catalog import UNITS_PER_USD, Rates, TokenRates, Usage
from claude_pipeline.catalog.price import NO_BAND
from claude_pipeline.result.cost import Usages
from claude_pipeline.result.line import TOKENS_MAX

PARTS = st.one_of(st.integers(0, 10**8), st.sampled_from([0, 10**12]))  # 75 USD a MTok is 750,000 units a token
TOKENS = st.one_of(st.integers(0, TOKENS_MAX), st.sampled_from([0, 1, 200_000, TOKENS_MAX]))
TOKEN_RATES = st.builds(TokenRates, *[PARTS] * 5)
RATES = st.builds(Rates, TOKEN_RATES, TOKEN_RATES, st.sampled_from([0, 200_000, NO_BAND]), st.sampled_from([1, 2, 80]))


@given(usages=st.lists(st.builds(Usage, *[TOKENS] * 5), min_size=1, max_size=20), rates=RATES)
def test_many_cost_what_each_costs(usages: list[Usage], rates: Rates) -> None:
    columns = Usages(*(np.array(tokens, np.int64) for tokens in zip(*usages, strict=True)))
    assert columns.cost_usd(rates).tolist() == [rates.cost_units(usage) / UNITS_PER_USD for usage in usages]


@given(usages=st.lists(st.builds(Usage, *[TOKENS] * 5), min_size=2, max_size=9), rates=RATES)
def test_some_of_them_cost_what_they_cost_among_all(usages: list[Usage], rates: Rates) -> None:
    columns = Usages(*(np.array(tokens, np.int64) for tokens in zip(*usages, strict=True)))
    places = np.arange(0, len(usages), 2)
    assert columns.at(places).cost_usd(rates).tolist() == columns.cost_usd(rates)[places].tolist()
