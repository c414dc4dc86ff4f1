"""The params of a snapshot's requests, kept from planning to cutting.

A plan needs every request's fingerprint, so each record is rendered for it; what is asked is then cut into chunks. Where
nearly all of a snapshot will be asked, its params are written down on the way, into segments that end where a chunk
would. A segment that is asked whole becomes the file of a chunk as it is; of another one the chosen lines are copied.
They take as much room as the chunks will; beyond `BYTES_MAX`, or where the disk is short, they are dropped, and the
chosen records are rendered again. Where an earlier plan knows most records, only the params of the others are kept.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from claude_pipeline.chunk import BODY_OVERHEAD_BYTES, ENTRY_OVERHEAD_BYTES, ChunkLimit
from claude_pipeline.page_cache import let_go
from claude_pipeline.parquet_file import open_parquet
from claude_pipeline.request_table import RequestTable
from claude_pipeline.segment import Segment, starts_of, tables_in
from claude_pipeline.stage.ascending import Ascending, Rows

BYTES_MAX = 32 << 30
FREE_SHARE = 4  # of the free disk, at most one part in so many
PLAN_ROWS = 5_000
ROWS_MAX = 1_000_000  # of which a spool of some requests keeps the numbers, 8 bytes each


@dataclass
class _File:
    """A segment as it is written."""

    path: Path
    begin: int  # bytes of params in those before it
    requests: int = 0
    size_bytes: int = BODY_OVERHEAD_BYTES  # of the body of a batch of them
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)


class Spool:
    """One line of params for each request of a plan, or for each that was rendered for it, in the order of its rows; a
    record that was rejected has none."""

    def __init__(
        self,
        folder: Path,
        limit: ChunkLimit,
        *,
        is_of_all: bool = True,
        most_bytes: int = BYTES_MAX,
        most_rows: int = ROWS_MAX,
    ) -> None:
        """`limit` is that of the chunks; `folder` holds nothing else. One that `is_of_all` is given each request of the
        plan, any other at most `most_rows`, or it is dropped."""
        self._folder, self._limit = folder, limit
        self.is_of_all, self._most_rows = is_of_all, most_rows
        self._rows: list[Rows] = []  # those given, where it is not of all
        self._count = 0  # of them
        self._files: list[_File] = []
        self._open: FileIO | None = None  # the last of them
        self._most = min(most_bytes, shutil.disk_usage(folder).free // FREE_SHARE)
        self._size = 0  # bytes of params
        self.is_whole = True

    def add(self, requests: RequestTable) -> None:
        """The next requests."""
        if not self.is_of_all and self.is_whole:
            self._rows.append(requests.rows)
            self._count += len(requests)
            if self._count > self._most_rows:
                self.close()
        sizes = requests.sizes + ENTRY_OVERHEAD_BYTES
        first = 0
        while self.is_whole and first < len(requests):
            file = self._files[-1] if self._open is not None else self._next()
            fit = int(np.searchsorted(np.cumsum(sizes[first:]), self._limit.bytes - file.size_bytes, side="right"))
            fit = min(fit, self._limit.requests - file.requests)
            if fit == 0 and file.requests:
                self._end()
                continue
            end = first + max(fit, 1)  # what is too large for any chunk is refused where chunks are cut
            file.requests += end - first
            file.size_bytes += int(sizes[first:end].sum())
            self._write(file, requests.slice(first, end).params)
            first = end

    def close(self) -> None:
        """Nobody needs them any more."""
        self.is_whole = False
        self._end()
        for file in self._files:
            file.path.unlink(missing_ok=True)  # where it has not become a chunk's
        self._files, self._rows = [], []

    def holds(self, rows: Iterable[pa.Array]) -> bool:
        """Whether it has the requests of all these rows of the plan, which have one each."""
        if self.is_of_all or not self.is_whole:
            return self.is_whole
        kept = self._kept()
        missing = sum(int(np.isin(piece, kept, invert=True).sum()) for piece in rows)  # they are read to their end
        return missing == 0

    def _kept(self) -> Rows:
        return np.concatenate([np.empty(0, np.int64), *self._rows])

    def requests(
        self, plan: Path, rows: Iterable[pa.Array], *, at_once: int = PLAN_ROWS
    ) -> Iterator[RequestTable | Segment]:
        """The requests of chosen rows of the plan, all of which it `holds`, given in ascending order: a segment where all
        of it is chosen, else in pieces. A segment may be moved away."""
        self._end()
        kept = None if self.is_of_all else self._kept()
        ends = np.cumsum([file.requests for file in self._files], dtype=np.int64)
        held: list[_Chosen] = []  # of one segment
        for chosen in _chosen(plan, kept, Ascending(rows), at_once):
            for part in chosen.split(ends):
                if held and held[0].segment != part.segment:
                    yield from self._of_segment(held)
                    held = []
                held.append(part)
        if held:
            yield from self._of_segment(held)

    def _of_segment(self, parts: Sequence[_Chosen]) -> Iterator[RequestTable | Segment]:
        number = parts[0].segment
        file, chosen = self._files[number], _Chosen.of(parts)
        columns = (chosen.rows, chosen.record_ids, chosen.fingerprints, chosen.sizes)
        if len(chosen.rows) == file.requests:
            yield Segment(file.path, file.digest.copy(), *columns)
            return
        with file.path.open("rb") as lines:
            yield from tables_in(lines, *columns, chosen.starts - file.begin)

    def _next(self) -> _File:
        file = _File(self._folder / f"{len(self._files) + 1}.jsonl", self._size)
        self._files.append(file)
        self._open = FileIO(file.path, "w")
        return file

    def _write(self, file: _File, params: bytes | memoryview) -> None:
        assert self._open is not None
        self._size += len(params)
        try:
            left = memoryview(params)
            while left and self._size <= self._most:
                left = left[self._open.write(left) :]
        except OSError:  # the disk is full after all: chunks may still have room
            self._size = self._most + 1
        if self._size > self._most:
            self.close()
        else:
            file.digest.update(params)

    def _end(self) -> None:
        """No more of the open segment; it goes on its way to the disk, and the one before out of memory."""
        if self._open is not None:
            self._open.close()
            self._open = None
            for file in self._files[-2:]:
                let_go(file.path)


@dataclass(frozen=True)
class _Chosen:
    """Chosen requests of a plan. `numbers` count all its requests from 0; `starts` are the first bytes of their params,
    were all in one file."""

    rows: Rows
    record_ids: pa.Array
    fingerprints: pa.Array
    sizes: Rows
    numbers: Rows
    starts: Rows
    segment: int = 0

    @staticmethod
    def of(parts: Sequence[_Chosen]) -> _Chosen:
        """All of them, of one segment."""
        return _Chosen(
            np.concatenate([part.rows for part in parts]),
            pa.concat_arrays([part.record_ids for part in parts]),
            pa.concat_arrays([part.fingerprints for part in parts]),
            np.concatenate([part.sizes for part in parts]),
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.starts for part in parts]),
            parts[0].segment,
        )

    def split(self, ends: Rows) -> Iterator[_Chosen]:
        """Those of each segment, of which `ends` has the numbers where they end."""
        segments = np.searchsorted(ends, self.numbers, side="right")
        borders = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(segments)]
        for first, end in itertools.pairwise(borders):
            if first < end:
                yield _Chosen(
                    self.rows[first:end],
                    self.record_ids.slice(first, end - first),
                    self.fingerprints.slice(first, end - first),
                    self.sizes[first:end],
                    self.numbers[first:end],
                    self.starts[first:end],
                    int(segments[first]),
                )


def _chosen(plan: Path, kept: Rows | None, rows: Ascending, at_once: int) -> Iterator[_Chosen]:
    """`kept` are the rows whose requests are there to be chosen; None: all that have one."""
    columns = ["row", "record_id", "fingerprint", "size_bytes"]
    first = number = offset = 0  # of the next batch: its row, the requests and their bytes before it
    with open_parquet(plan) as file:
        for batch in file.iter_batches(at_once, columns=columns, use_threads=False):
            sizes = np.asarray(pc.fill_null(batch.column("size_bytes"), -1), np.int64)
            if kept is not None:
                sizes = _only(sizes, kept[slice(*np.searchsorted(kept, [first, first + len(batch)]))] - first)
            numbers = number + np.cumsum(sizes >= 0) - 1
            picked = rows.below(first + len(batch)) - first
            places = pa.array(picked)
            yield _Chosen(
                picked + first,
                batch.column("record_id").take(places),
                batch.column("fingerprint").take(places),
                sizes[picked],
                numbers[picked],
                (offset + starts_of(sizes))[picked],
            )
            if rows.over:
                return
            first, number, offset = first + len(batch), int(numbers[-1]) + 1, offset + int((sizes + 1).sum())


def _only(sizes: Rows, places: Rows) -> Rows:
    """The sizes at these places, and -1 elsewhere: no request."""
    some = np.full_like(sizes, -1)
    some[places] = sizes[places]
    return some
