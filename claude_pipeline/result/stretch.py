"""Answers put in order through scratch files: one for each stretch of rows, small enough to be sorted in memory."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from claude_pipeline.home import make_folder

STRETCH_BYTES = 16_000_000  # sorted at once; thrice that is held
STRETCHES_MAX = 128  # files that are open at once: beyond so many the stretches grow


def in_order(pieces: Iterable[pa.Table], total: int, scratch: Path) -> Iterator[pa.Table]:
    """The rows of all pieces, ascending. The last column numbers them, from 0 to `total`: others may have any name.

    What fits into one stretch touches no disk.
    """
    with ExitStack() as stack:
        files: _Stretches | None = None
        for held in _portions(pieces):
            if files is None:
                if len(held) == total:
                    yield held
                    return
                rows = max(len(held) * STRETCH_BYTES // held.nbytes, -(-total // STRETCHES_MAX), 1)
                files = stack.enter_context(_Stretches(scratch, held.schema, rows))
            files.add(held)
        if files is not None:
            yield from files.read()


def _portions(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Pieces together until they are of a stretch's size, each portion sorted."""
    held: list[pa.Table] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += piece.nbytes
        if size >= STRETCH_BYTES:
            yield _sorted(held)
            held, size = [], 0
    if held:
        yield _sorted(held)


def _sorted(pieces: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(pieces).combine_chunks()
    numbers = _numbers(table)
    if bool(np.all(numbers[1:] >= numbers[:-1])):
        return table
    return table.take(pa.array(np.argsort(numbers, kind="stable")))


def _numbers(table: pa.Table) -> npt.NDArray[np.int64]:
    return np.asarray(table.column(table.num_columns - 1))


class _Stretches:
    """The scratch files, in a folder that goes with them; the first holds the first `rows`, and so on."""

    def __init__(self, scratch: Path, schema: pa.Schema, rows: int) -> None:
        self._scratch, self._schema, self._rows = scratch, schema, rows
        self._open: dict[int, tuple[pa.OSFile, pa.RecordBatchStreamWriter]] = {}

    def __enter__(self) -> _Stretches:
        self._folder = tempfile.TemporaryDirectory(dir=make_folder(self._scratch), prefix="answers-")
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        self._folder.cleanup()

    def add(self, portion: pa.Table) -> None:
        """Ascending rows."""
        numbers = _numbers(portion) // self._rows  # of the stretches
        borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for begin, end in itertools.pairwise(borders):
            self._writer(int(numbers[begin])).write_table(portion.slice(begin, end - begin))

    def read(self) -> Iterator[pa.Table]:
        numbers = sorted(self._open)
        self._close()
        for number in numbers:
            path = self._path(number)
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
                yield _sorted([reader.read_all()])
            path.unlink()

    def _path(self, number: int) -> Path:
        return Path(self._folder.name) / f"{number}.arrow"

    def _writer(self, number: int) -> pa.RecordBatchStreamWriter:
        if number not in self._open:
            file = pa.OSFile(str(self._path(number)), "wb")
            self._open[number] = file, pa.ipc.new_stream(file, self._schema)
        return self._open[number][1]

    def _close(self) -> None:
        for file, writer in self._open.values():
            writer.close()
            file.close()
        self._open.clear()
