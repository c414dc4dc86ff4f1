"""What importing the package does to a process: hardly anything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TOLD = "import os, sys, claude_pipeline; print(os.environ['OPENBLAS_THREAD_TIMEOUT'], 'numpy' in sys.modules)"


@pytest.mark.parametrize(("before", "after"), [(None, "4"), ("20", "20")])
def test_threads_of_numpy_sleep_at_once_unless_somebody_says_otherwise(before: str | None, after: str) -> None:
    others = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    environment = others | ({} if before is None else {"OPENBLAS_THREAD_TIMEOUT": before})
    told = subprocess.run([sys.executable, "-c", TOLD], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [after, "False"]
