"""Any table of text, written by Python's own writers, comes back exactly."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_pipeline.dataset.table import folded
from claude_pipeline_tests.dataset_factory import records_in

# What UTF-8 can carry; the awkward ones more often than chance would bring them.
TEXTS = st.lists(
    st.one_of(st.sampled_from(['"', ",", "\n", "\r", "\r\n", "\0", "\ufeff", "\u2028", "'", ";", " ", "\\", "{{ x }}"]),
              st.text(st.characters(codec="utf-8"), max_size=8)),
    max_size=6,
).map("".join)  # fmt: skip
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(
    lambda name: folded(name) != "record_id"
)


@st.composite
def tables(draw: st.DrawFn, cells: st.SearchStrategy[Any]) -> list[dict[str, Any]]:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=folded))
    rows = draw(st.lists(st.lists(cells, min_size=len(names), max_size=len(names)), min_size=1, max_size=8))
    return [dict(zip(names, row, strict=True)) for row in rows]


NO_DELIMITER = str.maketrans("", "", ",;|\t")
SLOW = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(
    table=tables(TEXTS), quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), delimiter=st.sampled_from(",;\t")
)
def test_text_written_as_csv_comes_back_exactly(table: list[dict[str, str]], quoting: Any, delimiter: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            # With this line end the writer quotes both \r and \n.
            writer = csv.DictWriter(file, list(table[0]), quoting=quoting, delimiter=delimiter, lineterminator="\r\n")
            # A header that looks like another delimiter's is refused, and a mark at the start is the file's own.
            names = [f"n{position} {key}" for position, key in enumerate(table[0])]
            writer.writer.writerow(names if len(names) > 1 else [names[0].translate(NO_DELIMITER)])
            writer.writerows(table)
        records = records_in(Path(name), path=str(path), delimiter=delimiter)
    assert [list(record.values()) for record in records] == [list(record.values()) for record in table]


@SLOW
@given(table=tables(st.one_of(TEXTS, st.none())), escaped=st.booleans())
def test_text_written_as_json_lines_comes_back_exactly(table: list[dict[str, Any]], escaped: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.jsonl"
        lines = [json.dumps(record, ensure_ascii=escaped) + "\n" for record in table]
        path.write_text("".join(lines), encoding="utf-8", newline="")
        assert records_in(Path(name), path=str(path)) == table
