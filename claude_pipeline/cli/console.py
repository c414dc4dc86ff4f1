"""The process of the console script: the command line, and then the shortest way out.

With Dagster, the SDK and Arrow imported the interpreter takes a second to take itself apart, module by module (0.9 to 1.2 s
after a run of 1,000 records, 2026-11-27), and frees what the system takes back at once. So the process ends after its last exit function. Threads were joined and exit functions called before: only what is left to
destructors does not happen, and nothing of ours is.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys

from claude_pipeline.cli import main


class LastExit:
    """The exit function that is called last, since it is the first to be registered.

    It ends the process with `code`; with none, or where standard output cannot be flushed, Python ends as ever.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.code is None:
            return
        try:
            logging.shutdown()  # whoever imported it before us has its turn after ours, which never comes
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not stream.closed:
                    stream.flush()
        except OSError:
            return
        os._exit(self.code)


def console() -> None:
    """What `claude-pipeline` is."""
    last = LastExit()
    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            last.code = end.code or 0
        raise
    last.code = 0
