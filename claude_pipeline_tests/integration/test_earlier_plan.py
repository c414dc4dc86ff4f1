"""What an earlier plan knows is used only where its files are what was written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from claude_pipeline.ledger import SnapshotRow
from claude_pipeline.stage.cancel import cancel
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.known import known_of
from claude_pipeline.stage.plan_file import about_of
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.render import BATCH_ROWS
from claude_pipeline.workload import Workload
from claude_pipeline_tests.factory import note, prepared_snapshot, workload_over, write_dataset

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


MANY = BATCH_ROWS + 40  # those of the first batch are rendered in any case


@pytest.mark.parametrize("withdrawn", [False, True], ids=["what-has-changed", "all"])
def test_what_is_asked_is_what_the_records_say_whether_it_was_rendered_or_known(
    desk: Desk, tmp_path: Path, withdrawn: bool
) -> None:
    """Of the second snapshot one record was rendered, and all are asked where the first one was withdrawn."""
    records = [note(n) for n in range(MANY)]
    workload = workload_over(tmp_path, records, chunk={"requests": 2_000})
    first = prepared_snapshot(desk, workload)
    if withdrawn:
        cancel(desk, workload, first.snapshot.id)
    records[MANY - 20] = note(MANY - 20, "changed")
    write_dataset(tmp_path / "notes.jsonl", records)

    second = prepare(desk, workload, "2026-11-23")

    lines = [line for chunk in second.chunks for line in desk.path(chunk.params_path).read_bytes().splitlines()]
    prompts = [orjson.loads(line)["messages"][0]["content"] for line in lines]
    assert prompts == [
        f"Sort: {record['text']}" for record in (records if withdrawn else records[MANY - 20 : MANY - 19])
    ]
