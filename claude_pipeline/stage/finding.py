"""A row of what `doctor` tells: a check, what is true, and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from claude_pipeline.errors import ClaudePipelineError

AGAIN = 4  # the exit code of what works when it is tried again


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"  # work goes on; look at it
    WRONG = "wrong"  # something will not work


@dataclass(frozen=True)
class Finding:
    """A row of the table. `exit_code` is that of a command that meets it."""

    check: str
    verdict: Verdict
    fact: str
    way_out: str = ""
    exit_code: int = 0


def exit_code_of(findings: Sequence[Finding]) -> int:
    """That of the first finding that is wrong: the others may follow from it."""
    return next((finding.exit_code for finding in findings if finding.verdict is Verdict.WRONG), 0)


def wrong(check: str, error: ClaudePipelineError, way_out: str) -> Finding:
    """An error of ours ends in its way out, behind a semicolon; `way_out` is for one that does not."""
    fact, found, way = str(error).rpartition("; ")
    return (
        Finding(check, Verdict.WRONG, fact, way, error.exit_code)
        if found
        else Finding(check, Verdict.WRONG, way, way_out, error.exit_code)
    )


def many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
