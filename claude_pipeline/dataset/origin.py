"""Where the rows of a snapshot came from, for whoever must mend one; and which of them could not be read whole."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from claude_pipeline.errors import DatasetInvalid

FAULTS_MAX = 1_000_000  # each costs some hundred bytes of memory; a dataset that has more is no dataset


class Fault(NamedTuple):
    """A value that no snapshot can hold: null stands in its place, and its record is not asked."""

    code: Literal["bad_unicode", "not_text"]
    detail: str  # names the column and what is wrong, never the value


@dataclass(frozen=True)
class _Source:
    """A file, or a query. `blank` are the numbers of its blank lines, where its records are lines."""

    name: str
    first_row: int
    blank: array[int] | None

    def place_of(self, row: int) -> str:
        record = row - self.first_row + 1
        if self.blank is None:
            return f"{self.name}, record {record:,}"
        line = record
        while (below := record + bisect_right(self.blank, line)) != line:
            line = below
        return f"{self.name}, line {line:,}"


@dataclass
class Origin:
    """Grows as the rows are read. `faults` are by the row in the snapshot, from 0."""

    rows: int = 0
    faults: dict[int, Fault] = field(default_factory=dict)
    _sources: list[_Source] = field(default_factory=list)

    def begin(self, name: str, *, blank: array[int] | None = None) -> None:
        """The rows that follow are of this source."""
        self._sources.append(_Source(name, self.rows, blank))

    def counted(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches as they are, with their rows counted once each was taken."""
        for batch in batches:
            yield batch
            self.rows += len(batch)

    def fault(self, row: int, fault: Fault) -> None:
        """Take note of a value of the current source.

        Raises:
            DatasetInvalid: there are more than anybody could mend.
        """
        if len(self.faults) >= FAULTS_MAX:
            raise DatasetInvalid(
                f"more than {FAULTS_MAX:,} records hold what cannot be kept; the first: {self.first_fault}; "
                "mend what writes them"
            )
        self.faults[row] = fault

    @property
    def first_fault(self) -> str:
        row = min(self.faults)
        return f"{self.place_of(row)}, {self.faults[row].detail}"

    def place_of(self, row: int) -> str:
        """`reviews.jsonl, line 12`; rows count from 0."""
        number = bisect_right(self._sources, row, key=lambda source: source.first_row)
        return self._sources[number - 1].place_of(row) if number else f"record {row + 1:,}"


class KeptOrigin(Origin):
    """Of the rows of `source` that a filter kept: their own numbers here, the source's place of each."""

    def __init__(self, source: Origin) -> None:
        super().__init__()
        self._source = source
        # Runs of kept rows: the number of the first here, and in the source.
        self._here, self._there = array("q"), array("q")

    def took(self, kept: np.ndarray) -> None:
        """Of the batch that the source just gave these rows, which count from its first, are the next ones here."""
        rows = kept + self._source.rows
        begins = np.concatenate(([0], np.flatnonzero(np.diff(rows) != 1) + 1)) if len(rows) else np.array([], int)
        for begin in begins.tolist():
            here, there = self.rows + begin, int(rows[begin])
            if not self._here or there - here != self._there[-1] - self._here[-1]:
                self._here.append(here)
                self._there.append(there)
        self.rows += len(rows)

    def settle(self) -> None:
        """Once the source is read: which of its faults are of kept rows."""
        for there, fault in self._source.faults.items():
            run = bisect_right(self._there, there) - 1
            if run < 0:
                continue
            row = self._here[run] + there - self._there[run]
            if row < (self._here[run + 1] if run + 1 < len(self._here) else self.rows):
                self.faults[row] = fault

    def place_of(self, row: int) -> str:
        run = bisect_right(self._here, row) - 1
        return self._source.place_of(self._there[run] + row - self._here[run]) if run >= 0 else super().place_of(row)
