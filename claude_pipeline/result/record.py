"""The records of a snapshot, as merged rows take them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from claude_pipeline.dataset import taken
from claude_pipeline.result.gather import Places


def chosen(pieces: Iterable[pa.RecordBatch], rows: Places) -> pa.Table:
    """Of the pieces of a row group the records at `rows`, which ascend and count from its first one."""
    found, start = [], 0
    for piece in pieces:
        low, high = np.searchsorted(rows, [start, start + piece.num_rows])
        if high > low:
            found.append(taken(piece, rows[low:high] - start))
        start += piece.num_rows
    return pa.Table.from_batches(found)
