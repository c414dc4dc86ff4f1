"""Errors of ours, as Dagster shows them."""

from __future__ import annotations

import dagster as dg

from claude_pipeline.errors import ClaudePipelineError, Stopped, UsageError


class told_plainly:
    """Turns an error of ours into a Dagster failure with its sentence, and no retry where a person must act."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ClaudePipelineError):
            stopped = isinstance(error, UsageError | Stopped)
            raise dg.Failure(str(error), metadata={"error": type(error).__name__}, allow_retries=not stopped) from None
