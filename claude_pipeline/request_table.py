"""Requests as columns: what is done for each of millions is then done for thousands at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from claude_pipeline.garbage import no_search
from claude_pipeline.request import Request, RequestMaker

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
    #: As the workload names it, where they are asked for the first time.
    model: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def slice(self, start: int, stop: int | None = None) -> RequestTable:
        """The requests from `start` up to `stop`; nothing is copied."""
        ends = np.concatenate(([0], np.cumsum(self.sizes + 1)))
        stop = len(self) if stop is None else stop
        return replace(
            self,
            rows=self.rows[start:stop],
            record_ids=self.record_ids.slice(start, stop - start),
            fingerprints=self.fingerprints.slice(start, stop - start),
            sizes=self.sizes[start:stop],
            params=memoryview(self.params)[int(ends[start]) : int(ends[stop])],
        )

    def line(self, number: int) -> bytes:
        """The params of one request."""
        begin = int(self.sizes[:number].sum()) + number
        return bytes(memoryview(self.params)[begin : begin + int(self.sizes[number])])

    def lines(self) -> list[bytes]:
        """The params of each request."""
        return bytes(self.params).split(b"\n")[:-1]

    def requests(self) -> list[Request]:
        """Each request by itself."""
        columns = (self.rows.tolist(), self.record_ids.to_pylist(), self.fingerprints.to_pylist(), self.lines())
        return [Request(*values, self.model) for values in zip(*columns, strict=True)]

    def mapped(self, change: Callable[[bytes], bytes]) -> RequestTable:
        """With changed params."""
        sizes, params = _joined([change(line) for line in self.lines()])
        return replace(self, sizes=sizes, params=params)

    def filtered(self, wanted: Callable[[bytes], bool]) -> RequestTable:
        """Those whose fingerprint is wanted."""
        kept = [n for n, fingerprint in enumerate(self.fingerprints.to_pylist()) if wanted(fingerprint)]
        if len(kept) == len(self):
            return self
        lines, chosen = self.lines(), pa.array(kept, pa.int64())
        sizes, params = _joined([lines[n] for n in kept])
        return replace(
            self,
            rows=self.rows[kept],
            record_ids=self.record_ids.take(chosen),
            fingerprints=self.fingerprints.take(chosen),
            sizes=sizes,
            params=params,
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
            table = RequestTable(
                np.array(columns[0], np.int64),
                pa.array(columns[1], pa.string()),
                pa.array(columns[2], pa.binary(32)),
                *_joined(columns[3]),
                alike,
            )
        del taken, columns
        yield table


def texts_made(
    maker: RequestMaker, rows: Sequence[int], record_ids: pa.Array, texts: Iterable[Sequence[str | None]]
) -> tuple[RequestTable, list[int]]:
    """The requests of many records with these prompts, which come in pieces; and the places of those among them that have
    none, or one that is refused."""
    head, tail = maker.head, maker.tail
    between = tail + b"\n" + head
    odd: list[int] = []
    sizes, fingerprints, params = [np.empty(0, np.int64)], [], []
    first = 0
    for piece in texts:
        asked = maker.questions(piece)
        odd += [first + at for at in asked.odd]
        first += len(piece)
        if asked.quoted:
            sizes.append(np.fromiter(map(len, asked.quoted), np.int64, len(asked.quoted)))
            fingerprints += asked.fingerprints
            params += [head, between.join(asked.quoted), tail, b"\n"]
    numbers = np.array(rows, np.int64)
    if odd:
        kept = np.delete(np.arange(len(rows)), odd)
        numbers, record_ids = numbers[kept], record_ids.take(pa.array(kept))
    held = pa.py_buffer(b"".join(fingerprints))
    return RequestTable(
        numbers,
        record_ids,
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(numbers), [None, held]),
        np.concatenate(sizes) + (len(head) + len(tail)),
        b"".join(params),
        alike=True,
        model=maker.model,
    ), odd


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


def _joined(lines: Sequence[bytes]) -> tuple[npt.NDArray[np.int64], bytes]:
    """The size of each line of params, and all of them."""
    return np.fromiter(map(len, lines), np.int64, len(lines)), b"\n".join([*lines, b""])
