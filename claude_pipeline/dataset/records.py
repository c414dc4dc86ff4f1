"""The records of a snapshot file, row group by row group, and which groups are those of another snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import pyarrow as pa

from claude_pipeline.dataset.parquet_table import row_group_batches
from claude_pipeline.dataset.table import ROWS_PER_BATCH
from claude_pipeline.home import READ_BYTES
from claude_pipeline.page_cache import let_go
from claude_pipeline.parquet_file import open_parquet


class Span(NamedTuple):
    """The rows of a row group, counted over the file from 0."""

    first: int
    rows: int


class Records:
    """An open snapshot file; at most one row group of it is in memory. Page checksums are checked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_parquet(path)
        self.schema: pa.Schema = self._file.schema_arrow
        self.spans: list[Span] = []
        first = 0
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            self.spans.append(Span(first, rows))
            first += rows
        self.count = first

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def batches(
        self, group: int, *, columns: Sequence[str] | None = None, rows: int = ROWS_PER_BATCH
    ) -> Iterator[pa.RecordBatch]:
        """The records of a row group in order, in batches of at most `rows`; of all columns, or of these."""
        yield from row_group_batches(self._file, columns=columns, rows=rows, groups=[group])
        let_go(self._path)

    def holds(self, group: int, other: Records) -> bool:
        """Whether a row group is, byte for byte, the same one of another snapshot: then its records are."""
        if group >= len(other.spans) or self.spans[group] != other.spans[group] or self.schema != other.schema:
            return False
        own, its = self._place(group), other._place(group)
        if own[1] != its[1]:
            return False
        with self._path.open("rb") as mine, other._path.open("rb") as theirs:
            mine.seek(own[0])
            theirs.seek(its[0])
            left = own[1]
            while left > 0:
                piece = mine.read(min(left, READ_BYTES))
                if not piece or piece != theirs.read(len(piece)):
                    return False
                left -= len(piece)
            let_go(mine.fileno())
            let_go(theirs.fileno())
        return True

    def _place(self, group: int) -> tuple[int, int]:
        """Where the pages of a row group begin, and how many bytes they take: its columns lie one after the other."""
        facts = self._file.metadata.row_group(group)
        columns = [facts.column(position) for position in range(facts.num_columns)]
        begins = [column.dictionary_page_offset or column.data_page_offset for column in columns]
        return min(begins, default=0), sum(column.total_compressed_size for column in columns)
