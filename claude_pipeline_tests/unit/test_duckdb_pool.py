"""A database in memory is used again, and nothing of who had it before is found in it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from claude_pipeline import duckdb_pool
from claude_pipeline.duckdb_pool import IDLE_MAX, SHORT_SECONDS, leased, threads_within

SETTINGS = (
    "SELECT current_setting('memory_limit'), current_setting('threads'), current_setting('preserve_insertion_order')"
)
# More than 64 MB hold: eight bytes for each of ten million groups.
SPILLS = "SELECT count(*) FROM (SELECT DISTINCT hash(range) FROM range(10_000_000))"


def at_once() -> float:
    """A clock that stands still: however busy the machine, no lease is a long one."""
    return 0.0


def token(duck: duckdb.DuckDBPyConnection) -> int:
    """Which database it is: the number grows with each transaction of one."""
    return int(duck.sql("SELECT txid_current()").fetchall()[0][0])


@pytest.fixture(autouse=True)
def no_idle() -> Iterator[None]:
    """None is left of tests before."""
    duckdb_pool.close_idle()
    yield
    duckdb_pool.close_idle()


def test_one_after_the_other_is_the_same_database(tmp_path: Path) -> None:
    with leased(tmp_path, clock=at_once) as duck:
        first = token(duck)
    with leased(tmp_path / "elsewhere", clock=at_once) as duck:
        assert token(duck) > first


def test_side_by_side_are_two(tmp_path: Path) -> None:
    with leased(tmp_path) as one, leased(tmp_path) as other:
        one.execute("CREATE TABLE here AS SELECT 1 AS a")
        with pytest.raises(duckdb.CatalogException):
            other.sql("FROM here")


def test_nothing_that_was_made_is_left(tmp_path: Path) -> None:
    made = [
        "CREATE TABLE a AS SELECT 1 AS a",
        "CREATE TEMP TABLE b AS SELECT 1 AS a",
        "CREATE TYPE kind AS ENUM ('x')",
        "CREATE SCHEMA staged",
        "CREATE VIEW staged.v AS FROM a",
        "CREATE MACRO twice(x) AS x * 2",
    ]
    for _ in range(2):  # each would fail where it stands already
        with leased(tmp_path, clock=at_once) as duck:
            for statement in made:
                duck.execute(statement)
            assert duck.sql("FROM staged.v").fetchall() == [(1,)]


def test_what_a_session_sets_ends_with_it(tmp_path: Path) -> None:
    names = ("TimeZone", "parquet_metadata_cache")

    def settings(duck: duckdb.DuckDBPyConnection) -> list[object]:
        return [duck.sql(f"SELECT current_setting('{name}')").fetchall()[0][0] for name in names]

    with leased(tmp_path, clock=at_once) as duck:
        before = settings(duck)
        duck.execute("SET TimeZone = 'Asia/Tokyo'")
        duck.execute("SET parquet_metadata_cache = true")
        assert settings(duck) != before
    with leased(tmp_path, clock=at_once) as duck:
        assert settings(duck) == before


def test_each_user_has_the_memory_threads_and_order_that_it_asks_for(tmp_path: Path) -> None:
    with leased(tmp_path, memory_mb=128, threads=1, keeps_order=True) as duck:
        assert duck.sql(SETTINGS).fetchall() == [("122.0 MiB", 1, True)]
    with leased(tmp_path, memory_mb=64_000) as duck:
        assert duck.sql(SETTINGS).fetchall() == [("59.6 GiB", os.cpu_count(), False)]


@pytest.mark.parametrize(("memory_mb", "cores", "threads"), [(256, 2, 2), (256, 96, 4), (2_000, 96, 31), (20, 8, 1)])
def test_a_machine_of_many_cores_gives_no_more_threads_than_there_is_memory_for(
    memory_mb: int, cores: int, threads: int
) -> None:
    assert threads_within(memory_mb, cores=cores) == threads


def test_what_spills_does_so_into_its_own_scratch_and_leaves_nothing_there(tmp_path: Path) -> None:
    for name in ("one", "other"):
        scratch = tmp_path / name
        scratch.mkdir()
        with leased(scratch, memory_mb=64) as duck:
            assert duck.sql(SPILLS).fetchall() == [(10_000_000,)]
            assert [path.name[:7] for path in scratch.iterdir()] == ["duckdb-"]
        assert not list(scratch.iterdir())


def test_a_database_whose_user_failed_is_not_used_again(tmp_path: Path) -> None:
    with leased(tmp_path, clock=at_once) as duck:
        first = token(duck)
    with pytest.raises(duckdb.CatalogException), leased(tmp_path, clock=at_once) as duck:
        duck.sql("FROM nowhere")
    with leased(tmp_path, clock=at_once) as duck:
        assert token(duck) <= first


@pytest.mark.parametrize(("seconds", "kept"), [(SHORT_SECONDS, 1), (SHORT_SECONDS + 0.01, 0)])
def test_a_database_that_worked_for_long_is_not_used_again(tmp_path: Path, seconds: float, kept: int) -> None:
    times = iter([0.0, seconds])
    with leased(tmp_path, clock=lambda: next(times)):
        pass
    assert duckdb_pool.close_idle() == kept


def test_a_database_in_which_another_is_left_attached_is_not_used_again(tmp_path: Path) -> None:
    for _ in range(2):
        with leased(tmp_path, clock=at_once) as duck:
            duck.execute("ATTACH ':memory:' AS other")


def test_no_more_than_a_few_are_kept(tmp_path: Path) -> None:
    gate = threading.Barrier(IDLE_MAX + 2)

    def use() -> None:
        with leased(tmp_path, clock=at_once) as duck:
            duck.sql("SELECT 1").fetchall()
            gate.wait(timeout=60)  # all of them have one

    threads = [threading.Thread(target=use) for _ in range(IDLE_MAX + 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert duckdb_pool.close_idle() == IDLE_MAX


def in_a_child(scratch: Path) -> None:
    with leased(scratch) as duck:  # the parent's would wait for threads that are not here
        assert duck.sql("SELECT count(*) FROM range(1_000_000)").fetchall() == [(1_000_000,)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
def test_a_forked_process_makes_its_own(tmp_path: Path) -> None:
    with leased(tmp_path, clock=at_once) as duck:
        duck.sql("SELECT 1").fetchall()
    child = multiprocessing.get_context("fork").Process(target=in_a_child, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
