"""Named points at which a test may kill the process; a no-op in production.

`CLAUDE_PIPELINE_CRASH_AT=<name>` (or `<name>:<n>` for the n-th passing) makes the process die by
SIGKILL when it reaches that point, as power loss would: no handler runs, no buffer is flushed.
Dagster's own daemon has the same hook for the same reason.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "CLAUDE_PIPELINE_CRASH_AT"
_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Die here if the environment asks for it; otherwise do nothing."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    target, _, nth = wanted.partition(":")
    if target == name:
        _passed[name] += 1
        if _passed[name] == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)
