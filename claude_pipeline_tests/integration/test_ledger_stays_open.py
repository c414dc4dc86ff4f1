"""While chunks are sent or collected the ledger stays open: who closes it last writes its log back, each time anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from claude_pipeline.crash import told
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import collect
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload
from claude_pipeline_tests.factory import PARTITION, ended_batches, note, send_ready, workload_over


def prepared(desk: Desk, workload: Workload, _simulator: Simulator) -> None:
    prepare(desk, workload, PARTITION)


@pytest.mark.parametrize(
    ("before", "act", "point"),
    [
        pytest.param(prepared, send_ready, "submit.after_record", id="sent"),
        pytest.param(ended_batches, collect, "collect.after_record", id="collected"),
    ],
)
def test_its_log_is_not_written_back_after_each_chunk(
    desk: Desk,
    simulator: Simulator,
    tmp_path: Path,
    before: Callable[[Desk, Workload, Simulator], object],
    act: Callable[[Desk, Workload], object],
    point: str,
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(6)], chunk={"requests": 2})
    before(desk, workload, simulator)
    log = desk.home.ledger.with_name(f"{desk.home.ledger.name}-wal")
    kept = []

    def look(passed: str) -> None:
        if passed == point:
            kept.append(log.exists())

    with told(look):
        act(desk, workload)
    assert kept == [True] * 3
    assert not log.exists()
