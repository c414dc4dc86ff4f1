"""What an earlier plan knows is used only where its files are what was written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from claude_pipeline.ledger import SnapshotRow
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.known import known_of
from claude_pipeline.stage.plan_file import about_of
from claude_pipeline.workload import Workload
from claude_pipeline_tests.factory import note, prepared_snapshot, workload_over

RECORDS = 40


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    return workload_over(tmp_path, [note(n) for n in range(RECORDS)])


@pytest.fixture
def earlier(desk: Desk, workload: Workload) -> SnapshotRow:
    return prepared_snapshot(desk, workload).snapshot


def is_known(desk: Desk, workload: Workload, tmp_path: Path, earlier: SnapshotRow) -> bool:
    """Whether a new snapshot of the same records would use the earlier plan."""
    records = tmp_path / "records.parquet"
    if not records.exists():
        shutil.copy(desk.path(earlier.path), records)
    with known_of(desk, workload, records, ["text"], about=about_of(workload), most_bytes=10_000) as known:
        return known is not None


def test_a_plan_of_the_same_question_is_known(
    desk: Desk, workload: Workload, tmp_path: Path, earlier: SnapshotRow
) -> None:
    assert is_known(desk, workload, tmp_path, earlier)
    assert not is_known(desk, workload.model_copy(update={"max_tokens": 7}), tmp_path, earlier)


def shorten(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path, write_page_checksum=True)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("changed", [shorten, cut, Path.unlink])
@pytest.mark.parametrize("which", ["path", "plan_path"])
def test_a_file_that_is_not_what_was_written_tells_nothing(
    desk: Desk, workload: Workload, tmp_path: Path, earlier: SnapshotRow, which: str, changed: Callable[[Path], None]
) -> None:
    assert is_known(desk, workload, tmp_path, earlier)
    changed(desk.path(getattr(earlier, which)))
    assert not is_known(desk, workload, tmp_path, earlier)
