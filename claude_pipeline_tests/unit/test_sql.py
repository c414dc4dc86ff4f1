"""Quoting: whatever a name or a value holds, it stays one."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pipeline.sql import file_literal, identifier, literal

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
_connection = duckdb.connect()


@given(TEXTS)
def test_a_literal_is_its_value(text: str) -> None:
    assert _connection.sql(f"SELECT {literal(text)}").fetchall() == [(text,)]


@given(TEXTS.filter(bool))
def test_an_identifier_is_its_name(name: str) -> None:
    assert _connection.sql(f"SELECT 1 AS {identifier(name)}").columns == [name]


@pytest.mark.parametrize(
    "name", ["x.csv", "it's.csv", "[1].csv", "a*b?.csv", "{a,b}.csv", "a b.csv", "k=v.csv", "a\\b.csv"]
)
def test_a_file_literal_is_exactly_that_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("found\n")
    for other in ("1.csv", "aXbY.csv", "a.csv", "b.csv"):
        (tmp_path / other).write_text("other\n")
    query = f"SELECT content FROM read_text({file_literal(tmp_path / name)})"
    assert _connection.sql(query).fetchall() == [("found\n",)]


@pytest.mark.parametrize("refused", [lambda: identifier(""), lambda: identifier("a\0"), lambda: literal("a\0")])
def test_what_sql_text_cannot_carry_is_refused(refused: object) -> None:
    assert callable(refused)
    with pytest.raises(ValueError, match="NUL"):
        refused()
