"""A later snapshot counts each of its records once, whether its answers are found in memory or by the query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS
from claude_pipeline_tests.factory import note, workload_over

WHOLE = 4_096  # tokens that no answer needs: where one was cut, all are left to the query
BEFORE = [note(n) for n in range(12)]
LATER: list[Any] = [
    pytest.param([*BEFORE, *(note(n) for n in range(12, 15))], (3, 12, 0, 0), id="three are new"),
    pytest.param([*BEFORE[:5], note(12, None)], (0, 5, 0, 1), id="fewer, and one cannot be asked"),
    pytest.param([*BEFORE, note(20, "note 3"), note(21), note(22, "note 21")], (1, 13, 1, 0), id="asked twice"),
]


@pytest.mark.parametrize("max_tokens", [WHOLE, 64])
@pytest.mark.parametrize(("rows", "counts"), LATER)
def test_what_was_answered_before_is_counted_as_reused(
    desk: Desk,
    simulator: Simulator,
    tmp_path: Path,
    rows: list[dict[str, Any]],
    counts: tuple[int, int, int, int],
    max_tokens: int,
) -> None:
    workload = workload_over(tmp_path, BEFORE, max_tokens=max_tokens)
    drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS), publishes=False)
    workload = workload_over(tmp_path, rows, max_tokens=max_tokens, max_reject_ratio=0.5)
    found = prepare(desk, workload, drive.PARTITION)
    taken = found.snapshot
    assert (taken.asked, taken.reused, taken.duplicates, taken.rejected) == counts
    assert sum(counts) == taken.records == len(rows)
    assert found.new_requests == counts[0]
