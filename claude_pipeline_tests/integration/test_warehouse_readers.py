"""Opening the warehouse while it is published works every time, from any number of processes.

python -m pytest -m long claude_pipeline_tests/integration/test_warehouse_readers.py    # 4 readers, 50 publications
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.publish import publish
from claude_pipeline_tests.integration.warehouse_case import publish_every_outcome

READER = """
import sys, duckdb
versions, opened = set(), 0
print("ready", flush=True)
while versions != {int(sys.argv[2])}:
    duck = duckdb.connect(sys.argv[1], read_only=True)
    count, = duck.execute("SELECT count(*) FROM notes.results").fetchone()
    latest, = duck.execute("SELECT count(outcome) FROM notes.latest").fetchone()
    published, = duck.execute("SELECT count(*) FROM ops.events WHERE move = 'warehouse published'").fetchone()
    duck.close()
    assert (count, latest) == (12, 12), (count, latest)
    versions = {published}
    opened += 1
print(opened, flush=True)
"""


def hammer(desk: Desk, *, readers: int, publications: int) -> list[int]:
    """How often each reader opened the file, from before the first publication until it saw the last."""
    command = [sys.executable, "-c", READER, str(desk.home.warehouse), str(publications)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(readers)
    ]
    for reader in running:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    for _ in range(publications):
        publish(desk)
    said = [reader.communicate(timeout=300) for reader in running]
    assert [reader.returncode for reader in running] == [0] * readers, [errors for _, errors in said]
    return [int(text) for text, _ in said]


@pytest.mark.parametrize(
    ("readers", "publications"),
    [pytest.param(2, 10, id="2-by-10"), pytest.param(4, 50, id="4-by-50", marks=pytest.mark.long)],
)
def test_each_opening_finds_one_whole_version(
    desk: Desk, simulator: Simulator, tmp_path: Path, readers: int, publications: int
) -> None:
    publish_every_outcome(desk, simulator, tmp_path)
    opened = hammer(desk, readers=readers, publications=publications)
    print(f"{sum(opened):,} openings by {readers} readers during {publications} publications, none failed")
    assert min(opened) >= 1
