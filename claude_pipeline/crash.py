"""Named points at which a test may kill or pause the process; a no-op in production.

`CLAUDE_PIPELINE_CRASH_AT=<name>` (or `<name>:<n>` for the n-th passing) makes the process die by
SIGKILL when it reaches that point, as power loss would: no handler runs, no buffer is flushed.
`CLAUDE_PIPELINE_PAUSE_AT` stops it there (SIGSTOP) until somebody lets it go on, as a suspended
machine would. Dagster's own daemon has the same hook for the same reason. A test in the same
process is told of each point instead, by `told`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

VARIABLE = "CLAUDE_PIPELINE_CRASH_AT"
PAUSE_VARIABLE = "CLAUDE_PIPELINE_PAUSE_AT"
_passed: Counter[tuple[str, str]] = Counter()
_counting = threading.Lock()
_listener: Callable[[str], None] | None = None


def crash_point(name: str) -> None:
    """Die or stop here if the environment asks for it; otherwise do nothing."""
    if _listener is not None:
        _listener(name)
    for variable, fate in ((VARIABLE, signal.SIGKILL), (PAUSE_VARIABLE, signal.SIGSTOP)):
        wanted = os.environ.get(variable)
        if not wanted:
            continue
        target, _, nth = wanted.partition(":")
        if target == name:
            with _counting:  # batches are collected in several threads: none passes between counting and dying
                _passed[variable, name] += 1
                if _passed[variable, name] == int(nth or 1):
                    os.kill(os.getpid(), fate)


@contextmanager
def told(listener: Callable[[str], None]) -> Iterator[None]:
    """Call `listener` with the name of each point that is passed meanwhile; what it raises goes on."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
