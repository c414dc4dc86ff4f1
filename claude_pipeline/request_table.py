"""Requests as columns: what is done for each of millions is then done for thousands at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from claude_pipeline.garbage import no_search
from claude_pipeline.request import Request

ROWS, BYTES = 5_000, 16_000_000  # of a table that `tables_of` makes, at most


@dataclass(frozen=True)
class RequestTable:
    """Requests in the order of their records' rows. Columns are those of `Request`, but that params are one text."""

    rows: npt.NDArray[np.int64]
    record_ids: pa.Array  # text
    fingerprints: pa.Array  # 32 bytes each
    sizes: npt.NDArray[np.int64]  # bytes of each request's params
    params: bytes | memoryview  # a line each, with its newline
    #: But for their prompts they are equal, as requests of one maker are.
    alike: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def slice(self, start: int, stop: int | None = None) -> RequestTable:
        """The requests from `start` up to `stop`; nothing is copied."""
        ends = np.concatenate(([0], np.cumsum(self.sizes + 1)))
        stop = len(self) if stop is None else stop
        return RequestTable(
            self.rows[start:stop],
            self.record_ids.slice(start, stop - start),
            self.fingerprints.slice(start, stop - start),
            self.sizes[start:stop],
            memoryview(self.params)[int(ends[start]) : int(ends[stop])],
            self.alike,
        )

    def line(self, number: int) -> bytes:
        """The params of one request."""
        begin = int(self.sizes[:number].sum()) + number
        return bytes(memoryview(self.params)[begin : begin + int(self.sizes[number])])

    def lines(self) -> list[bytes]:
        """The params of each request."""
        return bytes(self.params).split(b"\n")[:-1]

    def mapped(self, change: Callable[[bytes], bytes]) -> RequestTable:
        """With changed params."""
        return _table(
            self.rows, self.record_ids, self.fingerprints, [change(line) for line in self.lines()], self.alike
        )

    def filtered(self, wanted: Callable[[bytes], bool]) -> RequestTable:
        """Those whose fingerprint is wanted."""
        kept = [n for n, fingerprint in enumerate(self.fingerprints.to_pylist()) if wanted(fingerprint)]
        if len(kept) == len(self):
            return self
        lines, chosen = self.lines(), pa.array(kept, pa.int64())
        return _table(
            self.rows[kept],
            self.record_ids.take(chosen),
            self.fingerprints.take(chosen),
            [lines[n] for n in kept],
            self.alike,
        )


def tables_of(
    requests: Iterable[Request], *, alike: bool = False, rows: int = ROWS, size_bytes: int = BYTES
) -> Iterator[RequestTable]:
    """Tables of at most `rows` requests, fewer where `size_bytes` of params are full.
    `alike`: as in `RequestTable`."""
    stream = iter(requests)
    while taken := _taken(stream, rows, size_bytes):
        with no_search():
            columns = list(zip(*(request[:4] for request in taken), strict=True))
            table = _table(
                np.array(columns[0], np.int64),
                pa.array(columns[1], pa.string()),
                pa.array(columns[2], pa.binary(32)),
                columns[3],
                alike,
            )
        del taken, columns
        yield table


def _taken(stream: Iterator[Request], rows: int, size_bytes: int) -> list[Request]:
    """The next requests."""
    taken: list[Request] = []
    with no_search():
        for request in islice(stream, rows):
            taken.append(request)
            size_bytes -= len(request.params)
            if size_bytes < 0:
                break
    return taken


def _table(
    rows: npt.NDArray[np.int64], record_ids: pa.Array, fingerprints: pa.Array, lines: Iterable[bytes], alike: bool
) -> RequestTable:
    held = list(lines)
    sizes = np.fromiter(map(len, held), np.int64, len(held))
    params = b"\n".join([*held, b""])
    return RequestTable(rows, record_ids, fingerprints, sizes, params, alike)
