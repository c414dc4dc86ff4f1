"""Files that are let go of are what they were, and not in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.dataset import Records
from claude_pipeline.home import written
from claude_pipeline.page_cache import let_go
from claude_pipeline_tests.dataset_factory import write_differential

CONTENT_BYTES = 4_000_000
GROUP_ROWS = 1_000


@pytest.mark.parametrize("span", [{}, {"first": 0, "count": 4_096}, {"first": 1 << 40}], ids=["all", "some", "beyond"])
def test_a_file_that_is_let_go_of_reads_as_ever(tmp_path: Path, span: dict[str, int]) -> None:
    path = tmp_path / "file"
    content = os.urandom(100_000)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        let_go(file.fileno(), **span)
        file.write(b"more")
    let_go(path, **span)
    assert path.read_bytes() == content + b"more"


def _is_in_memory(path: Path) -> bool:
    """Whether the middle of a file can be read without its disk."""
    with path.open("rb") as file:
        try:
            return bool(os.preadv(file.fileno(), [bytearray(1)], path.stat().st_size // 2, os.RWF_NOWAIT))
        except BlockingIOError:
            return False


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder of a file system that can be asked what it holds in memory, and lets go of it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "control"
        path.write_bytes(os.urandom(CONTENT_BYTES))
        try:
            before = _is_in_memory(path)
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            able = before and not _is_in_memory(path)
        except (AttributeError, OSError):
            able = False
        if not able:
            pytest.skip("this file system does not tell, or keeps everything in memory")
        yield Path(folder)


def test_what_is_written_for_later_is_in_memory_no_more(on_disk: Path) -> None:
    with written(on_disk / "file") as temporary:
        temporary.write_bytes(os.urandom(CONTENT_BYTES))
        assert _is_in_memory(temporary)
    assert not _is_in_memory(on_disk / "file")


@pytest.fixture
def full(on_disk: Path) -> Path:
    """A full snapshot of three row groups, whose middle is the second one's; on the disk, and in memory."""
    path = on_disk / "full.parquet"
    texts = [os.urandom(700).hex() for _ in range(3 * GROUP_ROWS)]
    records = pa.table({"record_id": [f"r{number}" for number in range(len(texts))], "text": texts})
    pq.write_table(records, path, row_group_size=GROUP_ROWS, compression="none", use_dictionary=False)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        file.read()
    assert _is_in_memory(path)
    return path


def _differential(full: Path) -> Path:
    """The same records but for the last one."""
    records = pq.read_table(full).to_pylist()
    changed = pa.Table.from_pylist([*records[:-1], {**records[-1], "text": "changed"}])
    path = write_differential(changed, full.with_name("differential.parquet"), full)
    full.read_bytes()
    return path


@pytest.mark.parametrize("of", [Path, _differential], ids=["full", "differential"])
def test_records_that_were_read_are_in_memory_no_more_and_others_stay(full: Path, of: Callable[[Path], Path]) -> None:
    with Records(of(full)) as records:
        list(records.batches(0))
        assert _is_in_memory(full)  # read ahead, perhaps, for the next row group
        list(records.batches(1, rows=300))
        list(records.batches(2, rows=300))
        assert not _is_in_memory(full)


def test_some_records_of_a_row_group_leave_nothing_in_memory(full: Path) -> None:
    with Records(full) as records:
        for group in (0, 1, 2):
            assert records.at(np.array([GROUP_ROWS * group + 5, GROUP_ROWS * group + 9])).num_rows == 2
    assert not _is_in_memory(full)


def test_what_cannot_be_let_go_of_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go(tmp_path / "nothing there")
    let_go(tmp_path)
    monkeypatch.delattr(os, "posix_fadvise", raising=False)  # as on macOS
    let_go(tmp_path / "nothing there")
