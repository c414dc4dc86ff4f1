"""Where the answers to questions stand, found by their fingerprints in memory.

DuckDB finds the same out of core (`result.place`, `stage.decide`). It takes twice the time (1.4 us a question of a merge,
2026-11-28), and goes on where this does not: where a question was answered more than once, so that one answer is to be
chosen, and where there are too many to be held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.parquet_file import only_value, open_parquet
from claude_pipeline.result.place import ROW_BITS

ATTEMPTS_MAX = 1_500_000  # that are held, 49 bytes each
_PIECE = 16_384  # fingerprints that are compared at once: what is copied for it stays in a core's cache
_WORDS = 4  # of 8 bytes, of a fingerprint
_PRINT = pa.binary(32)
_COLUMNS = ["fingerprint", "outcome", "snapshot", "row", "stop_reason"]

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Prints = npt.NDArray[np.uint64]  # one row of 4 numbers for each fingerprint


class AnswerIndex:
    """The answers in attempts files, no two of which are to questions that begin alike."""

    def __init__(self, prints: Prints, places: Numbers, rows: Numbers, is_here: Mask) -> None:
        """What is known of each answer: `places` are the files' and the rows in them, `rows` those of the records in
        their snapshots, `is_here` says which were asked in the snapshot at hand."""
        self._prints = prints
        # The last of each stands for no answer: -1 finds it.
        self.places, self.rows, self.is_here = np.append(places, 0), np.append(rows, -1), np.append(is_here, False)

    @classmethod
    def read(cls, files: Sequence[Path], snapshot_id: str, *, most: int = ATTEMPTS_MAX) -> AnswerIndex | None:
        """None: there are more than `most`, a question has several answers, or one that was cut, so that another may be
        wanted.

        Raises:
            LedgerDamaged: a file cannot be read; says which.
        """
        count = 0
        for path in files:
            count += _count(path)
            if count > most:
                return None
        prints, is_here = np.empty((count, _WORDS), np.uint64), np.empty(count, np.bool_)
        places, rows = np.empty(count, np.int64), np.empty(count, np.int64)
        end = 0
        for number, path in enumerate(files):
            answers = _answers(path, snapshot_id)
            if answers is None:
                return None
            own = slice(end, end + len(answers.places))
            end = own.stop
            prints[own] = prints_of(answers.asked.column("fingerprint"))
            places[own] = (number << ROW_BITS) | answers.places
            rows[own] = answers.asked.column("row").to_numpy()
            is_here[own] = answers.is_here
        index = cls(prints[:end], places[:end], rows[:end], is_here[:end])
        return index if are_distinct(index._prints) else None

    def of_each(self, fingerprints: pa.Array | pa.ChunkedArray, rows: Numbers) -> Numbers:
        """The number of the answer to each question, -1 where it has none, or is none itself (null). `rows` are those of
        its records, which ascend."""
        found = np.full(len(fingerprints), -1, np.int64)
        places = np.flatnonzero(fingerprints.is_valid())
        if len(places) and len(self._prints):
            prints = prints_of(fingerprints.drop_null())
            at = self._at_same_row(prints, rows[places])
            left = np.flatnonzero(at < 0)
            at[left] = self._anywhere(prints[left])
            found[places] = at
        return found

    def _at_same_row(self, prints: Prints, rows: Numbers) -> Numbers:
        """The answer to a record that stood in the same row, as most do of a table that comes again: no search for it."""
        first, end = int(rows[0]), int(rows[-1]) + 1
        near = np.flatnonzero((self.rows >= first) & (self.rows < end))
        at_row = np.full(end - first, -1, np.int64)
        at_row[self.rows[near] - first] = near
        return self._if_same(prints, at_row[rows - first])

    def _anywhere(self, prints: Prints) -> Numbers:
        starts, which = np.unique(prints[:, 0], return_inverse=True)
        if not len(starts):
            return _NONE
        own = np.ascontiguousarray(self._prints[:, 0])
        near = np.minimum(np.searchsorted(starts, own), len(starts) - 1)
        alike = np.flatnonzero(starts[near] == own)
        of_start = np.full(len(starts), -1, np.int64)
        of_start[near[alike]] = alike
        return self._if_same(prints, of_start[which])

    def _if_same(self, prints: Prints, at: Numbers) -> Numbers:
        """Those of the answers that are to these very questions."""
        found = np.empty(len(at), np.int64)
        for first in range(0, len(at), _PIECE):
            piece = slice(first, first + _PIECE)
            is_same = (self._prints[at[piece]] == prints[piece]).all(axis=1)
            found[piece] = np.where(is_same, at[piece], -1)
        return found


def prints_of(fingerprints: pa.ChunkedArray | pa.Array) -> Prints:
    """None of them is null."""
    array = fingerprints.combine_chunks() if isinstance(fingerprints, pa.ChunkedArray) else fingerprints
    if not len(array):
        return np.empty((0, _WORDS), np.uint64)
    numbers = np.frombuffer(array.buffers()[1], np.uint64, len(array) * _WORDS, array.offset * _WORDS * 8)
    return numbers.reshape(-1, _WORDS)


def answered_rows(attempts: Sequence[Path], count: int) -> Mask:
    """Which of a snapshot's `count` records have an answer of their own in these attempts. Raises LedgerDamaged."""
    is_answered = np.zeros(count, np.bool_)
    for path in attempts:
        read = _columns(path, ["row", "outcome"])
        is_answered[read.filter(pc.equal(read.column("outcome"), "succeeded")).column("row").to_numpy()] = True
    return is_answered


def are_distinct(prints: Prints) -> bool:
    """Whether surely no two are the same: none begin alike."""
    starts = np.sort(prints[:, 0])
    return bool((starts[1:] != starts[:-1]).all())


class _Answers(NamedTuple):
    """Of one file: all of its answers, in its order."""

    asked: pa.Table  # fingerprint, row
    places: Numbers  # in the file
    is_here: Mask


def _answers(path: Path, snapshot_id: str) -> _Answers | None:
    """None where an answer was cut, or the file is of an older version."""
    with fingerprint_file(path) as file:
        if not set(_COLUMNS) <= set(file.schema_arrow.names):
            return None
        asked = file.read(columns=["fingerprint", "row"], use_threads=False)
        is_answer = _is(file, "outcome", "succeeded")
        if (is_answer & _is(file, "stop_reason", "max_tokens")).any():
            return None
        is_here = _is(file, "snapshot", snapshot_id)
    if is_answer.all():
        return _Answers(asked, np.arange(len(asked)), is_here)
    return _Answers(asked.filter(pa.array(is_answer)), np.flatnonzero(is_answer), is_here[is_answer])


def _is(file: pq.ParquetFile, name: str, value: str) -> Mask:
    """In which rows a column has this value: by the footer where all have one, as those of most files do."""
    alone = only_value(file.metadata, name)
    if alone is not None:
        return np.full(file.metadata.num_rows, alone == value)
    column = file.read(columns=[name], use_threads=False).column(name)
    found: Mask = pc.fill_null(pc.equal(column, value), False).to_numpy()
    return found


def _columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Those of the columns that a file has, checked. Raises LedgerDamaged."""
    with fingerprint_file(path) as file:
        return file.read(columns=list(columns), use_threads=False)


@contextmanager
def fingerprint_file(path: Path) -> Iterator[pq.ParquetFile]:
    """A file with fingerprints, whose pages are checked as they are read. Raises LedgerDamaged, then as well."""
    with _named(path), open_parquet(path) as file:
        kind = file.schema_arrow.field("fingerprint").type
        if kind != _PRINT:
            raise ValueError(f"its fingerprints are {kind}")
        yield file


def _count(path: Path) -> int:
    with _named(path):
        return int(pq.read_metadata(path).num_rows)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raises LedgerDamaged where the file cannot be read, or not as what was written."""
    try:
        yield
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise LedgerDamaged(f"{path} cannot be read ({error}); restore it from a backup") from error


_NONE: Numbers = np.empty(0, np.int64)
