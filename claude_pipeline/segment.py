"""Requests whose params lie in a file already, which can become that of a chunk without being copied."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from claude_pipeline.request_table import BYTES, RequestTable

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """All requests of one file, a line of params each. Columns as in `RequestTable`; `digest` is the file's sha256, which can
    be gone on with."""

    path: Path
    digest: hashlib._Hash
    rows: Rows
    record_ids: pa.Array
    fingerprints: pa.Array
    sizes: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def table(self) -> RequestTable:
        """The requests as one table: of the params nothing is read but what is looked at, whatever the file's name by then."""
        with self.path.open("rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return RequestTable(self.rows, self.record_ids, self.fingerprints, self.sizes, mapped, alike=True)

    def tables(self) -> Iterator[RequestTable]:
        """The requests in pieces that fit in memory."""
        with self.path.open("rb") as file:
            yield from tables_in(file, self.rows, self.record_ids, self.fingerprints, self.sizes, starts_of(self.sizes))


def starts_of(sizes: Rows) -> Rows:
    """Where lines of params begin that follow one another."""
    return np.cumsum(sizes + 1) - sizes - 1


def tables_in(
    file: BinaryIO, rows: Rows, record_ids: pa.Array, fingerprints: pa.Array, sizes: Rows, starts: Rows
) -> Iterator[RequestTable]:
    """Requests whose params stand in a file, the first byte of each at `starts`: in pieces of `BYTES`, or of one request
    that is larger."""
    first = 0
    while first < len(rows):
        end = first + max(1, int(np.searchsorted(np.cumsum(sizes[first:]), BYTES, side="right")))
        params = _read(file, starts[first:end], starts[first:end] + sizes[first:end] + 1)
        ids, prints = record_ids.slice(first, end - first), fingerprints.slice(first, end - first)
        yield RequestTable(rows[first:end], ids, prints, sizes[first:end], params, alike=True)
        first = end


def in_tables(requests: Iterable[RequestTable | Segment]) -> Iterator[RequestTable]:
    """The same requests, each segment in pieces."""
    for each in requests:
        if isinstance(each, Segment):
            yield from each.tables()
        else:
            yield each


def _read(file: BinaryIO, starts: Rows, ends: Rows) -> bytes:
    """These lines, those that stand side by side at once."""
    breaks = np.flatnonzero(starts[1:] != ends[:-1])
    firsts, lasts = np.concatenate(([0], breaks + 1)), np.concatenate((breaks, [len(ends) - 1]))
    pieces = []
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        file.seek(int(starts[first]))
        pieces.append(file.read(int(ends[last] - starts[first])))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
