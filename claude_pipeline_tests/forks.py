"""Processes of a test's own, forked from one that has imported everything: a new one costs two seconds of imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext as Forks
from pathlib import Path

from claude_pipeline import cli
from claude_pipeline_tests import drive

# What a run imports late, and each process would anew.
PRELOADED = (
    "anthropic", "anthropic.resources", "anthropic.types.messages", "httpcore2", "jsonschema_rs", "pandas",
    "pyarrow.compute", "pyarrow.parquet", "duckdb",
)  # fmt: skip


def make_forks(*modules: str) -> Forks:
    """`modules` are what the processes run, beside `driven`."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([*PRELOADED, __name__, *modules])
    return forks


def log_of(home: Path) -> Path:
    """Where the processes of a home leave their stderr."""
    return home.with_suffix(".log")


def driven(file: str, home: str, environment: Mapping[str, str]) -> None:
    """What such a process does: bring the workload in a file to its end."""
    os.environ.update(environment)
    with log_of(Path(home)).open("a") as stderr:
        os.dup2(stderr.fileno(), 2)
    drive.main(file, home)


def commanded(words: Sequence[str], home: str, environment: Mapping[str, str]) -> None:
    """What such a process does: the command line with these words."""
    os.environ.update(environment)
    sys.argv = ["claude-pipeline", *words]
    with log_of(Path(home)).open("a") as stderr:
        os.dup2(stderr.fileno(), 2)
    cli.main()


__all__ = ["Forks", "commanded", "driven", "log_of", "make_forks"]
