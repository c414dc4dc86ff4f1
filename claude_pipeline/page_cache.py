"""What is written now and read hours later need not stay in memory meanwhile.

The kernel keeps each page that passes through a file until something else wants its place. A run writes several
times the size of its records, which pushes out what other programs have there; and on a virtual machine that takes memory from its
host as it grows, each new page costs ten times what a page costs that is used again. Databases let go likewise
(PostgreSQL's `backend_flush_after`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

STRIDE_BYTES = 1 << 24  # who walks through a large file lets go of so much at once: whole, aligned blocks of the kernel


def let_go(file: int | Path, *, first: int = 0, count: int = 0) -> None:
    """Say of a file (or of `count` bytes of it; 0: to its end) that nobody here reads it soon.

    What of it is on the disk leaves memory, what is not goes on its way there; nothing waits, nothing is lost, and it
    can be read as ever. Does nothing where the system has no such call, or there is no such file.
    """
    if not hasattr(os, "posix_fadvise"):  # macOS
        return
    with suppress(OSError):  # advice: a file system need not take it
        if isinstance(file, int):
            os.posix_fadvise(file, first, count, os.POSIX_FADV_DONTNEED)
            return
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, first, count, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
