"""The files of a snapshot are compressed alike."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from claude_pipeline.parquet_file import NONE, SNAPPY, compression_of
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS
from claude_pipeline_tests.factory import PARTITION, asked, note, workload_over

TOMORROW = "2026-11-23"


@pytest.mark.parametrize(("text", "compression"), [("the same again, ", SNAPPY), ("", NONE)])
def test_what_is_made_of_records_is_compressed_as_they_are(
    desk: Desk, simulator: Simulator, tmp_path: Path, text: str, compression: str
) -> None:
    """The snapshot, what the chunks answered, and the rest: first without a reused answer, then of all but one, in which the
    snapshot differs."""
    rows = [note(n, text * 30 + random.Random(n).randbytes(60).hex()) for n in range(61)]
    for partition, records in ((PARTITION, rows[:60]), (TOMORROW, [rows[60], *rows[1:60]])):
        workload = workload_over(tmp_path, records, chunk={"requests": 20})
        drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS), partition=partition)
    parts = desk.ledger.parts("notes", kinds=["answered", "rest"])
    assert {(part.kind, part.rows) for part in parts} == {("answered", 20), ("answered", 1), ("rest", 59)}
    files = [desk.path(row.path) for row in [*desk.ledger.snapshots("notes"), *parts]]
    assert {compression_of(pq.read_metadata(file)) for file in files} == {compression}
    assert asked(desk, "SELECT count(*), count(DISTINCT text) FROM notes.results") == [(120, 61)]
