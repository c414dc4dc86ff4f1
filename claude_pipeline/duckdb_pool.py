"""DuckDB databases in memory, lent to one user at a time and used again.

A new one registers thousands of functions before it answers: 20 to 30 ms of CPU (2026-11-27, DuckDB 2.0), which a run of a few
records would pay for each question. A lease is a database attached to one of them, dropped at its end with all
that was made in it.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from claude_pipeline.sql import QUIET, literal

IDLE_MAX = 2  # kept for the next users
KEPT_BYTES = 8_000_000  # of memory that one of them may hold
# Whoever had one for longer asked about many rows: what its threads then keep of the allocator's memory, 100 MB, goes only
# with them, and a new one costs nothing beside such a question.
SHORT_SECONDS = 0.5
MEMORY_MB = 2_000
MB_PER_THREAD = 64  # a thread of a join holds some 30 that cannot be spilled

_LEASE = "lease"
_idle: list[duckdb.DuckDBPyConnection] = []
_numbers = itertools.count(1)
_lock = threading.Lock()
# Of a forked process: neither used nor closed, since their threads are not here.
_parents: list[duckdb.DuckDBPyConnection] = []


def _forked() -> None:
    _parents.extend(_idle)
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
    os.register_at_fork(after_in_child=_forked)


@contextmanager
def leased(
    scratch: Path,
    *,
    memory_mb: int = MEMORY_MB,
    threads: int | None = None,
    keeps_order: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database that spills into `scratch`, installs nothing and never touches the network.

    `threads`: as many as `memory_mb` allows, or fewer where given; `keeps_order`: rows come in the order of their files;
    `clock`: seconds, by which a lease is long or short. What is set with SET must be of this session alone: it ends with the lease.

        >>> with leased(home.scratch(), memory_mb=256) as duck:
        ...     duck.sql("SELECT 1").fetchall()
        [(1,)]
    """
    spill = scratch / f"duckdb-{os.getpid()}-{next(_numbers)}"
    most = threads_within(memory_mb, cores=os.cpu_count() or 1)
    database = _taken()
    since = clock()
    try:
        database.execute(f"SET temp_directory = {literal(str(spill))}")
        database.execute(f"SET memory_limit = '{memory_mb}MB'")
        database.execute(f"SET threads = {most if threads is None else min(threads, most)}")
        database.execute(f"SET preserve_insertion_order = {str(keeps_order).lower()}")
        with database.cursor() as duck:
            duck.execute(QUIET)
            duck.execute(f"ATTACH ':memory:' AS {_LEASE}")
            duck.execute(f"USE {_LEASE}")
            yield duck
        database.execute(f"DETACH {_LEASE}")
    except BaseException:  # who was interrupted may leave anything behind
        database.close()
        raise
    _give_back(database, spill, seconds=clock() - since)


def threads_within(memory_mb: int, *, cores: int) -> int:
    """How many threads a database may have: on a machine of many cores, all of them would want more than it has."""
    return max(1, min(cores, memory_mb // MB_PER_THREAD))


def close_idle() -> int:
    """Close those that nobody uses; how many they were."""
    closed = 0
    with suppress(IndexError):
        while True:
            _idle.pop().close()
            closed += 1
    return closed


def _taken() -> duckdb.DuckDBPyConnection:
    try:
        return _idle.pop()
    except IndexError:
        return duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})


def _give_back(database: duckdb.DuckDBPyConnection, spill: Path, *, seconds: float) -> None:
    """Keep it for the next, unless it has spilled: where to, cannot be changed any more."""
    if seconds <= SHORT_SECONDS and not spill.exists() and _is_as_new(database):
        with _lock:
            if len(_idle) < IDLE_MAX:
                _idle.append(database)
                return
    database.close()


def _is_as_new(database: duckdb.DuckDBPyConnection) -> bool:
    """Whether its user left no database attached, and it keeps no more than a little (footers of Parquet files) in memory."""
    attached, kept = database.execute(
        """SELECT (SELECT count(*) FROM duckdb_databases() WHERE NOT internal),
            (SELECT coalesce(sum(memory_usage_bytes), 0) FROM duckdb_memory())"""
    ).fetchall()[0]
    its_own = 1
    return bool(attached == its_own and kept <= KEPT_BYTES)
