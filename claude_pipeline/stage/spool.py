"""The params of a snapshot's requests, kept from planning to cutting.

A plan needs every request's fingerprint, so each record is rendered for it; what is asked is then cut into chunks. Where
nearly all of a snapshot will be asked, its params are written down on the way, and cutting copies lines instead of
reading and rendering the records once more. They take as much room as the chunks will; beyond `BYTES_MAX`, or where
the disk is short, they are dropped, and the chosen records are rendered again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.request_table import BYTES, RequestTable
from claude_pipeline.stage.ascending import Ascending, Rows

BYTES_MAX = 32 << 30
FREE_SHARE = 4  # of the free disk, at most one part in so many
PLAN_ROWS = 5_000


class Spool:
    """One line of params for each request of a plan, in the order of its rows; a record that was rejected has none."""

    def __init__(self, path: Path, *, most_bytes: int = BYTES_MAX) -> None:
        self._path = path
        self._file = path.open("wb", buffering=1 << 20)
        self._left = min(most_bytes, shutil.disk_usage(path.parent).free // FREE_SHARE)
        self.is_whole = True

    def add(self, lines: Sequence[bytes]) -> None:
        """The params of the next requests."""
        if not self.is_whole:
            return
        try:
            self._left -= self._file.write(b"\n".join([*lines, b""])) if lines else 0
        except OSError:  # the disk is full after all: chunks may still have room
            self._left = -1
        if self._left < 0:
            self.close()

    def close(self) -> None:
        """Nobody needs them any more."""
        self.is_whole = False
        with suppress(OSError):  # what a full disk did not take need not be flushed
            self._file.close()
        self._path.unlink(missing_ok=True)

    def tables(self, plan: Path, rows: Iterable[pa.Array], *, at_once: int = PLAN_ROWS) -> Iterator[RequestTable]:
        """The requests of chosen rows of the plan, given in ascending order, in pieces."""
        self._file.flush()
        chosen = Ascending(rows)
        columns = ["row", "record_id", "fingerprint", "size_bytes"]
        first = offset = 0
        with (
            pq.ParquetFile(plan, pre_buffer=False, page_checksum_verification=True) as file,
            self._path.open("rb") as lines,
        ):
            for batch in file.iter_batches(at_once, columns=columns, use_threads=False):
                sizes = np.asarray(pc.fill_null(batch.column("size_bytes"), -1), np.int64)
                ends = offset + np.cumsum(sizes + 1)
                for picked in _pieces(chosen.below(first + len(batch)) - first, sizes, BYTES):
                    kept = pa.array(picked)
                    yield RequestTable(
                        picked + first,
                        batch.column("record_id").take(kept),
                        batch.column("fingerprint").take(kept),
                        sizes[picked],
                        _read(lines, ends[picked] - sizes[picked] - 1, ends[picked]),
                        alike=True,
                    )
                if chosen.over:
                    return
                first, offset = first + len(batch), int(ends[-1])


def _pieces(picked: Rows, sizes: Rows, size_bytes: int) -> Iterator[Rows]:
    """These positions in pieces of at most so many bytes; one that is larger is a piece of its own."""
    while len(picked):
        end = max(1, int(np.searchsorted(np.cumsum(sizes[picked]), size_bytes, side="right")))
        yield picked[:end]
        picked = picked[end:]


def _read(file: BinaryIO, starts: Rows, ends: Rows) -> bytes:
    """These lines, those that stand side by side at once."""
    breaks = np.flatnonzero(starts[1:] != ends[:-1])
    firsts, lasts = np.concatenate(([0], breaks + 1)), np.concatenate((breaks, [len(ends) - 1]))
    pieces = []
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        file.seek(int(starts[first]))
        pieces.append(file.read(int(ends[last] - starts[first])))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
