"""Errors as Dagster may show and keep them: a sentence, and never a record's text."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import dagster as dg

from claude_pipeline.errors import ClaudePipelineError, Stopped, UsageError

PACKAGE = Path(__file__).parent.parent
FRAMES = 5  # of ours, the innermost ones


class told_plainly:
    """Turns an error into a Dagster failure with a sentence, and no retry where a person must act.

    One that is not ours is named by its type and place only: Dagster keeps what an error says, and pyarrow, DuckDB
    and pydantic quote the record. CLAUDE_PIPELINE_DEBUG=1 lets it through as it is.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and (told := plain(error)) is not error:
            raise told from None


def plain(error: Exception) -> Exception:
    """What Dagster may keep of an error: itself, where it is Dagster's own."""
    name = type(error).__name__
    if isinstance(error, ClaudePipelineError):
        stopped = isinstance(error, UsageError | Stopped)
        return dg.Failure(str(error), metadata={"error": name}, allow_retries=not stopped)
    if isinstance(error, dg.Failure | dg.RetryRequested | dg.DagsterError) or os.environ.get("CLAUDE_PIPELINE_DEBUG"):
        return error
    at = f", at {' < '.join(places)}" if (places := _places(error)) else ""
    return dg.Failure(
        f"{name}, which is not foreseen{at}; what it says may hold a record's text and is not "
        "kept: with CLAUDE_PIPELINE_DEBUG=1 it is. Nothing is lost: run again",
        metadata={"error": name},
    )


def _places(error: BaseException) -> list[str]:
    """`stage/collect.py:104 in collect`, the innermost first."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(PACKAGE)
    ]
    return [
        f"{Path(frame.filename).relative_to(PACKAGE)}:{frame.lineno} in {frame.name}"
        for frame in reversed(frames[-FRAMES:])
    ]
