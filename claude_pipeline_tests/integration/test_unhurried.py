"""Dagster's notes of runs in this process are not waited for at the disk; the ledger's are, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from claude_pipeline.cli.dagster_home import open_instance
from claude_pipeline.home import Home
from claude_pipeline.ledger import Ledger
from claude_pipeline.ledger.connection import KEPT_OPEN, unhurried

NORMAL, FULL = 1, 2


@contextmanager
def database(path: Path, *, journal: str = "wal") -> Iterator[Engine]:
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA journal_mode={journal}")
    yield engine
    engine.dispose()


def sync_of(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())


@pytest.mark.parametrize(
    ("place", "journal", "sync"),
    [
        pytest.param("history/runs.db", "wal", NORMAL, id="inside"),
        pytest.param("history/runs.db", "delete", FULL, id="without-a-log"),
        pytest.param("other/runs.db", "wal", FULL, id="elsewhere"),
    ],
)
def test_it_is_for_databases_with_a_log_in_that_folder(tmp_path: Path, place: str, journal: str, sync: int) -> None:
    with database(tmp_path / place, journal=journal) as engine:
        with unhurried(tmp_path / "history"):
            assert sync_of(engine) == sync
        assert sync_of(engine) == FULL


def test_a_log_is_written_back_at_the_end_and_not_whenever_somebody_closes(tmp_path: Path) -> None:
    with database(tmp_path / "runs.db") as engine:
        log = tmp_path / "runs.db-wal"
        with unhurried(tmp_path):
            with engine.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE run (id TEXT)")
            assert log.stat().st_size > 0
        assert not log.exists()
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM run").scalar_one() == 0


def test_of_very_many_databases_only_the_last_are_kept_open(tmp_path: Path) -> None:
    logs = [tmp_path / f"{number}.db-wal" for number in range(KEPT_OPEN + 3)]
    with unhurried(tmp_path):
        for log in logs:
            with database(log.with_suffix(".db")) as engine, engine.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE run (id TEXT)")
        assert [log.exists() for log in logs] == [False] * 3 + [True] * KEPT_OPEN


def test_a_ledger_is_synced_in_full_wherever_it_lies(tmp_path: Path) -> None:
    with unhurried(tmp_path), Ledger.open(None, path=tmp_path / "ledger.db") as ledger:
        assert sync_of(ledger._engine) == FULL


def test_dagsters_databases_have_a_log(tmp_path: Path) -> None:
    """Without one they would be synced in full, and a run on this machine would wait for the disk again."""
    with open_instance(Home(tmp_path)) as instance:
        storage = instance.event_log_storage
        with storage.index_connection() as connection:  # type: ignore[attr-defined]
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == NORMAL


def test_an_instance_reads_its_revisions_once_and_leaves_alembic_as_it_was(tmp_path: Path) -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "dagster:_core/storage/alembic")
    usual = ScriptDirectory.from_config
    with open_instance(Home(tmp_path)):
        assert ScriptDirectory.from_config(config) is ScriptDirectory.from_config(config)
    assert ScriptDirectory.from_config == usual
    assert ScriptDirectory.from_config(config) is not ScriptDirectory.from_config(config)
