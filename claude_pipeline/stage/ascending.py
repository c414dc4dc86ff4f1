"""Ascending row numbers that arrive in pieces, taken up to a bound."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Rows = npt.NDArray[np.int64]


class Ascending:
    """Walks along a snapshot beside its batches."""

    def __init__(self, pieces: Iterable[pa.Array]) -> None:
        self._pieces = iter(pieces)
        self._held: Rows = np.empty(0, np.int64)
        self.over = False

    def below(self, bound: int) -> Rows:
        """Those below `bound` that were not taken yet; `over` once there are no more."""
        taken = []
        while not self.over:
            if not len(self._held):
                piece = next(self._pieces, None)
                if piece is None:
                    self.over = True
                    break
                self._held = np.asarray(piece, np.int64)
                continue
            end = int(np.searchsorted(self._held, bound))
            taken.append(self._held[:end])
            self._held = self._held[end:]
            if len(self._held):
                break
        return np.concatenate(taken) if taken else self._held[:0]
