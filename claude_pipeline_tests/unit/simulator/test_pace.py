"""How long batches and messages take: ratios by model line, the same for the same seed."""

from __future__ import annotations

import random
from collections import Counter
from statistics import median

import pytest

from claude_pipeline.simulator.batch import duration_us
from claude_pipeline.simulator.pace import batch_seconds, message_seconds

MODELS = {"sonnet": "claude-sonnet-5-5", "opus": "claude-opus-5-5", "fable": "claude-fable-5-2"}
RATIOS = {"sonnet": (3.0, 4.0), "opus": (8.0, 8.0), "fable": (12.0, 12.0)}


def asked(model: str, number: int) -> dict[str, object]:
    return {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": f"question {number}"}]}


@pytest.mark.parametrize(("line", "bounds"), RATIOS.items(), ids=RATIOS.keys())
def test_a_message_takes_its_lines_multiple_of_haiku(line: str, bounds: tuple[float, float]) -> None:
    haiku = median(message_seconds(asked("claude-haiku-5-5", n), 0, 0.01) for n in range(1_000))
    other = median(message_seconds(asked(MODELS[line], n), 0, 0.01) for n in range(1_000))
    assert bounds[0] <= round(other / haiku, 6) <= bounds[1]


def test_the_median_of_haiku_is_what_was_set() -> None:
    seconds = [message_seconds(asked("claude-haiku-5-5", n), 0, 0.5) for n in range(2_000)]
    assert median(seconds) == pytest.approx(0.5, rel=0.05)


def test_messages_vary_by_seed_and_question() -> None:
    seconds = {message_seconds(asked("claude-haiku-5-5", n), seed, 1.0) for n in range(3) for seed in range(3)}
    assert len(seconds) == 9


def test_a_message_to_nobody_takes_no_time() -> None:
    nobody: list[object] = [{"model": "claude-9"}, {}, [], None]
    assert [message_seconds(params, 0, 1.0) for params in nobody] == [0, 0, 0, 0]


@pytest.mark.parametrize("size", [1, 100, 10_000, 100_000])
@pytest.mark.parametrize(("line", "bounds"), RATIOS.items(), ids=RATIOS.keys())
def test_a_batch_takes_its_lines_multiple_of_haiku(line: str, bounds: tuple[float, float], size: int) -> None:
    haiku, other = (batch_seconds({name: size}, random.Random(1)) for name in ("haiku", line))
    assert bounds[0] <= round(other / haiku, 6) <= bounds[1]


def test_a_mixed_batch_lies_between() -> None:
    pure_haiku, mixed, pure_opus = (
        batch_seconds(lines, random.Random(1))
        for lines in ({"haiku": 20_000}, {"haiku": 10_000, "opus": 10_000}, {"opus": 20_000})
    )
    assert mixed == pytest.approx((pure_haiku + pure_opus) / 2)


def test_the_same_seed_gives_the_same_durations() -> None:
    first, second, other = (
        [duration_us(seed, seq, Counter(haiku=500), None) for seq in range(20)] for seed in (7, 7, 8)
    )
    assert first == second
    assert first != other
