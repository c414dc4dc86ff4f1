"""`ops.sla`: the age of batches at the moment of the question, not of the publication."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.publish import publish
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS
from claude_pipeline_tests.factory import asked, note, sent_chunks, workload_over

ROWS = "SELECT chunk, age_hours, hours_left FROM ops.sla ORDER BY chunk"


def test_a_batch_in_flight_is_as_old_as_it_is_when_one_asks(desk: Desk, tmp_path: Path) -> None:
    sent_chunks(desk, workload_over(tmp_path, [note(n) for n in range(20)], lane="batch"))
    publish(desk)
    began = desk.ledger.batches(unended=True)[0].created_at

    (_, age, left), _ = asked(desk, ROWS)

    assert age == pytest.approx((datetime.now(UTC) - began).total_seconds() / 3600, abs=0.01)
    assert age + left == pytest.approx(24)


def test_a_batch_that_ended_keeps_the_age_it_reached(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    notes = workload_over(tmp_path, [note(n) for n in range(20)], lane="batch")
    drive.run(desk, notes, lambda: simulator.clock.advance(BATCH_SECONDS))

    assert asked(desk, ROWS) == [
        (chunk, pytest.approx(BATCH_SECONDS / 3600), pytest.approx(24 - BATCH_SECONDS / 3600))
        for chunk in ("r1-0001", "r1-0002")
    ]


def test_each_column_says_what_it_means(desk: Desk) -> None:
    publish(desk)
    silent = (
        "SELECT count(*) FROM duckdb_columns() WHERE schema_name = 'ops' AND table_name = 'sla' AND comment IS NULL"
    )
    assert asked(desk, silent) == [(0,)]
