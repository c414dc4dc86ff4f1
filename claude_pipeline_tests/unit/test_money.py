"""Sums in words."""

from __future__ import annotations

import pytest

from claude_pipeline.money import dollars, same_digits, sum_over

SUMS = [
    (0, "$0.0000"),
    (12_345_000_000_000, "$1,234.5000"),
    (10_000_000, "$0.0010"),
    (123_456, "$0.000012"),
    (1, "$0.0000000001"),
]


@pytest.mark.parametrize(("units", "words"), SUMS)
def test_small_sums_get_the_digits_that_show_them(units: int, words: str) -> None:
    assert dollars(units) == words


def test_amounts_of_one_sentence_have_equally_many_digits() -> None:
    assert same_digits(20_000_000_000, 123_456) == ["$2.000000", "$0.000012"]


def test_a_sum_that_passes_its_limit_by_a_hair_is_seen_to_pass_it() -> None:
    assert sum_over((10_000_000, 10_000_001), 20_000_000) == ["$0.0010000000", "$0.0010000001", "$0.0020000000"]
