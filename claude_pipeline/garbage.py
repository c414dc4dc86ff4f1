"""No search for cyclic garbage while a piece of bulk work is done: it costs as much as parsing a line or rendering a record.

Python looks for cycles after every few hundred new containers, and now and then through all that lives. What bulk work
makes are plain values without cycles, which go with their last reference; what else was left behind is found afterwards.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = 50_000  # new containers between two searches; Python's own number is 700
_guard = threading.Lock()
_within = 0  # how many pieces of work are being done, in all threads
_runs = 0  # how many runs last, in all threads
_usual = (0, 0, 0)  # the thresholds before the first of them


@contextmanager
def no_search() -> Iterator[None]:
    """For as long as the `with` lasts; it may stand within another, and beside one in another thread."""
    global _within
    with _guard:
        ours = _within > 0 or gc.isenabled()  # else it is somebody else's choice, and not ours to undo
        if ours:
            _within += 1
            gc.disable()
    try:
        yield
    finally:
        if ours:
            with _guard:
                _within -= 1
                if not _within:
                    gc.enable()


@contextmanager
def seldom_search() -> Iterator[None]:
    """A search now and then, for as long as the `with` lasts: for a run, in which cycles must not pile up.

    What a run imports lives to its end, and a search through it finds nothing. May stand as `no_search` may.
    """
    global _runs, _usual
    with _guard:
        _runs += 1
        if _runs == 1:
            _usual = gc.get_threshold()
            if 0 < _usual[0] < SELDOM:  # 0: somebody else turned it off
                gc.set_threshold(SELDOM, *_usual[1:])
    try:
        yield
    finally:
        with _guard:
            _runs -= 1
            if not _runs:
                gc.set_threshold(*_usual)
