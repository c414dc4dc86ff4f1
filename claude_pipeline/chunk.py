"""Cut a stream of requests into chunks that each fit one Message Batch.

A chunk closes when the next request would pass either limit. Order is kept, and every request
lands in exactly one chunk. Nothing is held but the open chunk's index: the params go to its file
as they come, one line each, ready to be spliced into the body of the batch; or a file that holds them already becomes
the chunk's.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.errors import RequestTooLarge
from claude_pipeline.home import READ_BYTES, sha256_of, written
from claude_pipeline.request_table import RequestTable
from claude_pipeline.segment import Segment

TAG_LENGTH = 25  # ledger id (8 hex), a dash, 16 hex of chance: see custom_id
_ENTRY_HEAD = b'{"custom_id":"%s-%d","params":'
_ENTRY_TAIL = b"}"
_ENTRY_BETWEEN = _ENTRY_TAIL + b","
_BODY_HEAD = b'{"requests":['
_BODY_TAIL = b"]}"
# Bytes that a request adds to the body beside its params; positions have at most 6 digits.
ENTRY_OVERHEAD_BYTES = len('{"custom_id":"') + TAG_LENGTH + len('-123456","params":') + len("\n},")
BODY_OVERHEAD_BYTES = len(_BODY_HEAD) + len(_BODY_TAIL)

Reserves = npt.NDArray[np.int64]  # of each request, in 1e-10 USD

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
    requests: int = 0
    tables: list[RequestTable] = field(default_factory=list)
    reserves: list[Reserves] = field(default_factory=list)

    def add(self, table: RequestTable, reserves: Reserves) -> None:
        self.size_bytes += int(table.sizes.sum()) + len(table) * ENTRY_OVERHEAD_BYTES
        self.requests += len(table)
        # Without its params, which are in the file by now.
        self.tables.append(RequestTable(table.rows, table.record_ids, table.fingerprints, table.sizes, b""))
        self.reserves.append(reserves)

    def has_room(self, following: RequestTable | Segment | None, limit: ChunkLimit) -> bool:
        """For the first of these; none is too large for an empty chunk to say so."""
        if following is None or not self.requests:
            return following is not None
        return self.size_bytes + int(following.sizes[0]) + ENTRY_OVERHEAD_BYTES <= limit.bytes

    def index(self) -> pa.Table:
        columns = [
            np.arange(self.requests, dtype=np.int32),
            np.concatenate([table.rows for table in self.tables]),
            pa.chunked_array([table.record_ids for table in self.tables]),
            pa.chunked_array([table.fingerprints for table in self.tables]),
            np.concatenate(self.reserves),
        ]
        return pa.Table.from_arrays(columns, schema=INDEX)


class _Left:
    """The requests that no chunk holds yet."""

    def __init__(self, requests: Iterable[RequestTable | Segment]) -> None:
        self._requests = iter(requests)
        self._pieces: Iterator[RequestTable] = iter(())  # of a segment
        self._held: RequestTable | Segment | None = None

    def any(self) -> RequestTable | Segment | None:
        """The next of them, as they came; None: there are no more."""
        while self._held is None or not len(self._held):
            self._held = next(self._pieces, None)
            if self._held is None:
                self._held = next(self._requests, None)
            if self._held is None:
                return None
        return self._held

    def segment(self, limit: ChunkLimit) -> Segment | None:
        """The next of them, where their file can be a chunk's or the beginning of one; they are taken."""
        segment = self.any()
        if not isinstance(segment, Segment) or len(segment) > limit.requests or _body(segment.sizes) > limit.bytes:
            return None
        self._held = None
        return segment

    def table(self) -> RequestTable | None:
        """The next of them; None: there are no more."""
        while isinstance(found := self.any(), Segment):
            self._pieces, self._held = found.tables(), None
        return found

    def taken(self, count: int) -> None:
        """So many of the next ones are in a chunk."""
        assert isinstance(self._held, RequestTable)
        self._held = self._held.slice(count)


def cut_chunks(
    requests: Iterable[RequestTable | Segment],
    limit: ChunkLimit,
    *,
    reserve_units: Callable[[RequestTable], Reserves],
    place: Callable[[int], tuple[Path, Path]],
    first_number: int = 1,
) -> Iterator[Chunk]:
    """Write requests, in order, into the fewest chunks within `limit`. Lazy: a chunk is yielded when whole.

    `reserve_units` bounds the cost of each request; `place` names the params
    file and the index file of a chunk by its number.

    Raises:
        RequestTooLarge: one request alone passes `limit.bytes`.
    """
    left = _Left(requests)
    number = first_number
    while left.any() is not None:
        params_path, index_path = place(number)
        with ExitStack() as stack:
            temporary = stack.enter_context(written(params_path))
            chunk, digest = _fill(left, limit, reserve_units, temporary)
        index = chunk.index()
        with written(index_path) as temporary:
            # No two of its values are alike, but for the reserves.
            pq.write_table(index, temporary, compression="zstd", write_page_checksum=True, use_dictionary=False)
        yield Chunk(
            number=number,
            params_path=params_path,
            params_sha256=digest,
            index_path=index_path,
            index_sha256=sha256_of(index_path),
            requests=chunk.requests,
            size_bytes=chunk.size_bytes,
            reserve_units=sum(int(reserves.sum()) for reserves in chunk.reserves),
            first_row=min(int(table.rows.min()) for table in chunk.tables),
            last_row=max(int(table.rows.max()) for table in chunk.tables),
        )
        number += 1


def _fill(
    left: _Left, limit: ChunkLimit, reserve_units: Callable[[RequestTable], Reserves], path: Path
) -> tuple[_Open, str]:
    """Fill one chunk's params file; returns it and the file's sha256."""
    chunk, digest = _Open(), hashlib.sha256()
    if (segment := left.segment(limit)) is not None:
        whole = segment.table()
        chunk.add(whole, reserve_units(whole))
        digest = segment.digest
        shutil.move(segment.path, path)  # as a rule by its name alone
    with path.open("ab", buffering=1 << 20) as file:
        while (
            chunk.requests < limit.requests
            and chunk.has_room(left.any(), limit)
            and (table := left.table()) is not None
        ):
            sizes = table.sizes + ENTRY_OVERHEAD_BYTES
            _check_sizes(table, sizes, limit)
            fit = int(np.searchsorted(np.cumsum(sizes), limit.bytes - chunk.size_bytes, side="right"))
            fit = min(fit, limit.requests - chunk.requests)
            if fit == 0:
                break
            fitting = table.slice(0, fit)
            file.write(fitting.params)
            digest.update(fitting.params)
            chunk.add(fitting, reserve_units(fitting))
            left.taken(fit)
            if fit < len(table):
                break
    return chunk, digest.hexdigest()


def _body(sizes: npt.NDArray[np.int64]) -> int:
    """Bytes of the body of a batch of such requests."""
    return int(sizes.sum()) + len(sizes) * ENTRY_OVERHEAD_BYTES + BODY_OVERHEAD_BYTES


def _check_sizes(table: RequestTable, sizes: npt.NDArray[np.int64], limit: ChunkLimit) -> None:
    too_large = np.flatnonzero(sizes + BODY_OVERHEAD_BYTES > limit.bytes)
    if len(too_large):
        first = int(too_large[0])
        raise RequestTooLarge(table.record_ids[first].as_py(), int(sizes[first]), limit.bytes)


class Body:
    """The request body of a batch, streamed from a params file with custom_ids spliced in.

    A line goes with its newline, which JSON takes for a blank: to cut it off takes two thirds of what reading it does.
    Iterating opens the file anew each time, so it may be sent more than once; `length` is exact,
    for the content-length header. `requests`, the lines of the file, are counted where nobody knows them.
    """

    def __init__(self, params_path: Path, tag: str, *, requests: int | None = None, piece_bytes: int = 1 << 18) -> None:
        self._path, self._tag, self._requests = params_path, tag.encode("ascii"), requests
        self._piece_bytes = piece_bytes

    @property
    def length(self) -> int:
        requests = self._counted() if self._requests is None else self._requests
        entry = len(_ENTRY_BETWEEN + _ENTRY_HEAD % (self._tag, 0)) - len("0")
        # No comma before the first entry.
        size = self._path.stat().st_size + requests * entry + _digits(requests)
        return size + BODY_OVERHEAD_BYTES - (requests > 0)

    def _counted(self) -> int:
        requests = 0
        with self._path.open("rb") as file:
            while piece := file.read(READ_BYTES):
                requests += piece.count(b"\n")
        return requests

    def __iter__(self) -> Iterator[bytes]:
        position = 0
        with self._path.open("rb", buffering=READ_BYTES) as file:
            # Lines by `readlines`, which looks for their ends many bytes at a time; `split` looks at each.
            while lines := file.readlines(self._piece_bytes):
                entries = self._entries(lines, position)
                yield entries if position else _BODY_HEAD + entries[len(_ENTRY_BETWEEN) :]
                position += len(lines)
        yield _ENTRY_TAIL + _BODY_TAIL if position else _BODY_HEAD + _BODY_TAIL

    def _entries(self, lines: Sequence[bytes], first: int) -> bytes:
        """Each behind what ends the one before it; the last is not ended."""
        head = _ENTRY_BETWEEN + _ENTRY_HEAD
        parts = [b""] * (2 * len(lines))
        parts[::2] = [head % (self._tag, position) for position in range(first, first + len(lines))]
        parts[1::2] = lines
        return b"".join(parts)


def _digits(count: int) -> int:
    """Of the whole numbers below `count`, all together."""
    return sum(max(0, count - least) for least in (0, *(10**power for power in range(1, len(str(count))))))
