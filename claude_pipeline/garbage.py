"""No search for cyclic garbage while a piece of bulk work is done: it costs as much as parsing a line or rendering a record.

Python looks for cycles after every few hundred new containers, and now and then through all that lives. What bulk work
makes are plain values without cycles, which go with their last reference; what else was left behind is found afterwards.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_guard = threading.Lock()
_within = 0  # how many pieces of work are being done, in all threads


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
