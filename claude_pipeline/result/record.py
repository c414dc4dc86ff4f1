"""The records of a snapshot, as merged rows take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from claude_pipeline.dataset import taken
from claude_pipeline.result.gather import Places

RUN_ROWS = 200  # that follow one another, on the average: rather a piece of their own than copied


def chosen(pieces: Iterable[pa.RecordBatch], rows: Places) -> pa.Table:
    """Of the pieces of a row group the records at `rows`, which ascend and count from its first one."""
    found: list[pa.RecordBatch] = []
    start = 0
    for piece in pieces:
        low, high = np.searchsorted(rows, [start, start + piece.num_rows])
        if high > low:
            found += _taken(piece, rows[low:high] - start)
        start += piece.num_rows
    return pa.Table.from_batches(found)


def _taken(piece: pa.RecordBatch, rows: Places) -> Iterator[pa.RecordBatch]:
    """Those rows of a piece; without a copy where few are left out."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    if not len(ends) or len(ends) * RUN_ROWS > len(rows):
        yield taken(piece, rows)
        return
    for run in np.split(rows, ends):
        yield piece.slice(int(run[0]), len(run))
