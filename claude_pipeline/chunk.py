"""Cut a stream of requests into chunks that each fit one Message Batch.

A chunk closes when the next request would pass either limit. Order is kept, and every request
lands in exactly one chunk. Nothing is held but the open chunk's index: the params go to its file
as they come, one line each, ready to be spliced into the body of the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.errors import RequestTooLarge
from claude_pipeline.garbage import no_search
from claude_pipeline.home import sha256_of, written
from claude_pipeline.request import Request

TAG_LENGTH = 25  # ledger id (8 hex), a dash, 16 hex of chance: see custom_id
_ENTRY_HEAD = b'{"custom_id":"%s-%d","params":'
_ENTRY_TAIL = b"}"
_BODY_HEAD = b'{"requests":['
_BODY_TAIL = b"]}"
# Bytes that a request adds to the body beside its params; positions have at most 6 digits.
ENTRY_OVERHEAD_BYTES = len('{"custom_id":"') + TAG_LENGTH + len('-123456","params":') + len("},")
BODY_OVERHEAD_BYTES = len(_BODY_HEAD) + len(_BODY_TAIL)

INDEX = pa.schema(
    [
        ("position", pa.int32()),  # line in the params file, from 0; the end of the custom_id
        ("row", pa.int64()),  # row in the snapshot, from 0
        ("record_id", pa.string()),
        ("fingerprint", pa.binary(32)),
        ("reserve_units", pa.int64()),  # upper bound of its cost, in 1e-10 USD
    ]
)


@dataclass(frozen=True)
class ChunkLimit:
    """Most requests, and most bytes of request body, in one chunk."""

    requests: int
    bytes: int


@dataclass(frozen=True)
class Chunk:
    """Requests meant for one batch, as two immutable files."""

    number: int
    params_path: Path
    params_sha256: str
    index_path: Path
    index_sha256: str
    requests: int
    size_bytes: int  # of the request body
    reserve_units: int
    first_row: int
    last_row: int


@dataclass
class _Open:
    """A chunk being filled."""

    size_bytes: int = BODY_OVERHEAD_BYTES
    rows: list[int] = field(default_factory=list)
    record_ids: list[str] = field(default_factory=list)
    fingerprints: list[bytes] = field(default_factory=list)
    reserves: list[int] = field(default_factory=list)

    def fits(self, size_bytes: int, limit: ChunkLimit) -> bool:
        return len(self.rows) < limit.requests and self.size_bytes + size_bytes <= limit.bytes

    def add(self, request: Request, size_bytes: int, reserve_units: int) -> None:
        self.size_bytes += size_bytes
        self.rows.append(request.row)
        self.record_ids.append(request.record_id)
        self.fingerprints.append(request.fingerprint)
        self.reserves.append(reserve_units)

    def index(self) -> pa.Table:
        columns = [list(range(len(self.rows))), self.rows, self.record_ids, self.fingerprints, self.reserves]
        arrays = [pa.array(column, type=kind) for column, kind in zip(columns, INDEX.types, strict=True)]
        return pa.Table.from_arrays(arrays, schema=INDEX)


def cut_chunks(
    requests: Iterable[Request],
    limit: ChunkLimit,
    *,
    reserve_units: Callable[[bytes], int],
    place: Callable[[int], tuple[Path, Path]],
    first_number: int = 1,
) -> Iterator[Chunk]:
    """Write requests, in order, into the fewest chunks within `limit`. Lazy: a chunk is yielded when whole.

    `reserve_units` bounds a request's cost by its params; `place` names the params
    file and the index file of a chunk by its number.

    Raises:
        RequestTooLarge: one request alone passes `limit.bytes`.
    """
    stream = iter(requests)
    pending = next(stream, None)
    number = first_number
    while pending is not None:
        params_path, index_path = place(number)
        with ExitStack() as stack:
            temporary = stack.enter_context(written(params_path))
            chunk, pending, digest = _fill(pending, stream, limit, reserve_units, temporary)
        with written(index_path) as temporary:
            pq.write_table(chunk.index(), temporary, compression="zstd", write_page_checksum=True)
        yield Chunk(
            number=number,
            params_path=params_path,
            params_sha256=digest,
            index_path=index_path,
            index_sha256=sha256_of(index_path),
            requests=len(chunk.rows),
            size_bytes=chunk.size_bytes,
            reserve_units=sum(chunk.reserves),
            first_row=min(chunk.rows),
            last_row=max(chunk.rows),
        )
        number += 1


def _fill(
    first: Request,
    stream: Iterator[Request],
    limit: ChunkLimit,
    reserve_units: Callable[[bytes], int],
    path: Path,
) -> tuple[_Open, Request | None, str]:
    """Fill one chunk's params file; returns it, the request that did not fit, and the file's sha256."""
    chunk, digest = _Open(), hashlib.sha256()
    pending: Request | None = first
    with path.open("wb", buffering=1 << 20) as file, no_search():
        while pending is not None:
            size_bytes = len(pending.params) + ENTRY_OVERHEAD_BYTES
            if size_bytes + BODY_OVERHEAD_BYTES > limit.bytes:
                raise RequestTooLarge(pending.record_id, size_bytes, limit.bytes)
            if not chunk.fits(size_bytes, limit):
                break
            line = pending.params + b"\n"
            file.write(line)
            digest.update(line)
            chunk.add(pending, size_bytes, reserve_units(pending.params))
            pending = next(stream, None)
    return chunk, pending, digest.hexdigest()


class Body:
    """The request body of a batch, streamed from a params file with custom_ids spliced in.

    Iterating opens the file anew each time, so it may be sent more than once; `length` is exact,
    for the content-length header.
    """

    def __init__(self, params_path: Path, tag: str, *, piece_bytes: int = 1 << 18) -> None:
        self._path, self._tag, self._piece_bytes = params_path, tag.encode("ascii"), piece_bytes

    @property
    def length(self) -> int:
        with self._path.open("rb") as file:
            return sum(len(piece) for piece in self._pieces(file))

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            yield from self._pieces(file)

    def _pieces(self, file: BinaryIO) -> Iterator[bytes]:
        piece = bytearray(_BODY_HEAD)
        for position, line in enumerate(file):
            if position:
                piece += b","
            piece += _ENTRY_HEAD % (self._tag, position)
            piece += line[:-1]
            piece += _ENTRY_TAIL
            if len(piece) >= self._piece_bytes:
                yield bytes(piece)
                piece.clear()
        yield bytes(piece + _BODY_TAIL)
