"""What the next request will use, learned from the last ones."""

from __future__ import annotations

import pytest

from claude_pipeline.lane.expectation import Expectation, Mean
from claude_pipeline.lane.reply import TokenUse


def test_a_seed_stands_for_the_first_few_values_only() -> None:
    mean, values = Mean(100.0), []
    for _ in range(5):
        mean.learn(20.0)
        values.append(mean.value)
    assert values == pytest.approx([80, 60, 40, 20, 20])


def test_old_values_fade() -> None:
    mean = Mean(0.0)
    for value in [10.0] * 1000 + [20.0] * 500:
        mean.learn(value)
    assert mean.value == pytest.approx(20.0, abs=0.1)


def test_it_begins_with_its_seeds() -> None:
    expected = Expectation(0.25, 300.0)
    assert (expected.input_of(4000), expected.output_of(1024), expected.output_of(64)) == (1000.0, 300.0, 64)


def test_tokens_per_byte_and_the_mean_of_answers_are_learned() -> None:
    expected = Expectation(0.25, 300.0)
    for _ in range(1000):
        expected.learn(1000, TokenUse(500, 50))
    assert expected.input_of(4000) == pytest.approx(2000, rel=0.01)
    assert expected.output_of(1024) == pytest.approx(50, rel=0.01)
    assert expected.input_error < 0.01


def test_what_a_cache_gave_is_not_expected_to_count() -> None:
    expected = Expectation(0.25, 300.0)
    for _ in range(1000):
        expected.learn(4000, TokenUse(100, 50, cache_write_tokens=100, cache_read_tokens=800))
    assert expected.input_of(4000) == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize("seeds", [(0.0, 100.0), (0.3, 0.0), (-1.0, 5.0)])
def test_seeds_must_be_above_zero(seeds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Expectation(*seeds)
