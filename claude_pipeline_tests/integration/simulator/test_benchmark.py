"""The simulator's benchmark runs, in small, and its memory does not grow with the batch."""

from __future__ import annotations

import pytest

from claude_pipeline_tests.benchmark.simulator import Figure, main, measure


def test_the_benchmark_prints_a_figure_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--requests", "1000", "--messages", "50"])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:26].strip() for line in lines[2:]] == [
        "batch accepted",
        "answered after that",
        "results served",
        "messages, 8 at once",
    ]


def test_twenty_megabytes_are_taken_in_without_being_held() -> None:
    small, large = (max(map(_peak, measure(requests, 2_500, 8))) for requests in (100, 8_000))
    assert large - small < 15_000_000


def _peak(figure: Figure) -> int:
    return figure.peak_bytes
