"""The benchmark suite runs, compares like with like, and its ratios are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pipeline_tests.benchmark.__main__ import of_journey
from claude_pipeline_tests.benchmark.compare import Comparison, compare
from claude_pipeline_tests.benchmark.journey import STAGE_OF
from claude_pipeline_tests.benchmark.process import Figure


def test_each_work_answers_every_record_in_a_process_of_its_own(tmp_path: Path) -> None:
    found = compare([40], rounds=1, chunk=20, again=False, folder=tmp_path)
    assert {work: [figure.rows for figure in figures] for (work, _), figures in found.figures.items()} == {
        "journey": [40], "script": [40], "floor": [40],
    }  # fmt: skip
    stages = found.figures["journey", 40][0].stages
    assert set(stages) == set(STAGE_OF.values()) | {"start"}
    assert found.peak_mb("journey", 40) > 0
    assert sum(stages.values()) <= found.cpu("journey", 40)


def figure(work: str, cpu_seconds: float, peak_bytes: int = 10**8) -> Figure:
    return Figure(work, 0, cpu_seconds, 1.0, peak_bytes, {"start": 1.0})


def test_ratios_are_of_medians_and_of_what_a_record_more_costs() -> None:
    found = Comparison()
    found.figures["journey", 10_000] += [figure("journey", s) for s in (3.0, 3.5, 9.0)]
    found.figures["journey", 110_000] += [figure("journey", s, 2 * 10**8) for s in (8.5, 8.5, 8.5)]
    found.figures["script", 10_000] += [figure("script", s) for s in (3.0, 3.0, 3.0)]
    found.figures["script", 110_000] += [figure("script", s) for s in (13.0, 13.0, 99.0)]
    lines = {line.what: line for line in of_journey(found)}
    assert found.extra_us("journey") == pytest.approx(50)
    assert found.extra_us("script") == pytest.approx(100)
    assert lines["journey / script: CPU a record more"].value == pytest.approx(0.5)
    assert str(lines["journey / script: CPU a record more"]).endswith("held")
    assert str(lines["journey, peak memory: 110,000 / 10,000"]).endswith("MISSED")
