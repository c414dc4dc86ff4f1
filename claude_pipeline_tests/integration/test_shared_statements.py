"""What one ledger's statements became serves the next one in the process, and each still says its own."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, Table, create_engine, select
from sqlalchemy.dialects import postgresql, sqlite

from claude_pipeline.ledger import Ledger
from claude_pipeline.ledger.connection import STATEMENTS_MAX, SharedStatements, shared_statements
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import make_new_chunk, ready_chunks


def test_a_second_ledger_makes_none_anew_and_reads_its_own_rows(tmp_path: Path) -> None:
    counts, made = [], []
    for name, chunks in (("a", 2), ("b", 3), ("c", 0)):
        with Ledger.open(None, path=tmp_path / f"{name}.db") as ledger:
            if chunks:
                ready_chunks(ledger, NOW, *(make_new_chunk(n + 1) for n in range(chunks)))
            counts.append(len(ledger.chunks("notes")))
            made.append(len(shared_statements))
    assert counts == [2, 3, 0]
    assert made[0] == made[1] == made[2] > 0


def test_dialects_of_one_class_share_and_others_do_not() -> None:
    statements = SharedStatements()
    statements[sqlite.dialect(), "SELECT"] = "?"
    statements[postgresql.dialect(), "SELECT"] = "%s"
    assert statements.get((sqlite.dialect(), "SELECT")) == "?"
    assert statements.get((postgresql.dialect(), "SELECT")) == "%s"
    assert statements.get((sqlite.dialect(), "INSERT")) is None


def test_they_are_bounded() -> None:
    statements = SharedStatements()
    for number in range(STATEMENTS_MAX + 3):
        statements[sqlite.dialect(), number] = number
    assert len(statements) == 3
    assert statements.get((sqlite.dialect(), STATEMENTS_MAX)) == STATEMENTS_MAX


def test_sqlalchemy_keeps_and_finds_what_it_made_there() -> None:
    statements, table = SharedStatements(), Table("record", MetaData(), Column("id", Integer))
    for _ in range(2):
        engine = create_engine("sqlite://", execution_options={"compiled_cache": statements})
        table.create(engine)
        with engine.begin() as connection:
            connection.execute(table.insert(), [{"id": 1}, {"id": 2}])
            assert connection.execute(select(table.c.id).where(table.c.id > 1)).scalars().all() == [2]
        engine.dispose()
    assert len(statements) == 2
