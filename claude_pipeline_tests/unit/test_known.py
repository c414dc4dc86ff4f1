"""What an earlier plan knows makes the plan that rendering all records would make."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_pipeline.chunk import ChunkLimit
from claude_pipeline.dataset import Origin, Records
from claude_pipeline.home import sha256_of
from claude_pipeline.request import Rejection, Request, RequestMaker
from claude_pipeline.segment import in_tables
from claude_pipeline.stage.fit import Fit
from claude_pipeline.stage.known import Known
from claude_pipeline.stage.plan_file import write_plan
from claude_pipeline.stage.render import requests_of
from claude_pipeline.stage.spool import Spool
from claude_pipeline.workload import Workload
from claude_pipeline_tests.dataset_factory import write_differential
from claude_pipeline_tests.factory import make_workload

FIT = Fit(1_000_000, {})
GROUP_ROWS = 4
SCHEMA = pa.schema([("record_id", pa.string()), ("text", pa.string()), ("stars", pa.int64()), ("other", pa.string())])
Rows = Sequence[Mapping[str, Any]]


class Counting:
    """A maker that counts what it is asked to make; column by column it makes nothing."""

    def __init__(self, workload: Workload) -> None:
        self._maker = RequestMaker.of(workload, SCHEMA.names)
        self.prompt = self._maker.prompt
        self.rows: list[int] = []

    def make(self, row: int, record_id: str, record: Mapping[str, Any]) -> Request | Rejection:
        self.rows.append(row)
        return self._maker.make(row, record_id, record)


def snapshot(path: Path, rows: Rows, schema: pa.Schema = SCHEMA, full: Path | None = None) -> Path:
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    if full is not None:
        return write_differential(table, path, full)
    pq.write_table(table, path, row_group_size=GROUP_ROWS, write_page_checksum=True)
    return path


def row(number: int, text: str | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "record_id": f"n{number}",
        "text": f"text {number}" if text is None else text,
        "stars": number,
        "other": "-",
    } | changes


def plan(
    folder: Path,
    name: str,
    rows: Rows,
    workload: Workload,
    known: Known | None = None,
    schema: pa.Schema = SCHEMA,
    spool: Spool | None = None,
    full: Path | None = None,
) -> tuple[Path, list[int]]:
    """The plan of these records, and the rows that were rendered for it."""
    maker = Counting(workload)
    path = folder / f"{name}.plan"
    origin = Origin()
    origin.begin("notes.jsonl")
    records = snapshot(folder / f"{name}.parquet", rows, schema, full)
    write_plan(records, maker, path, workload, fit=FIT, origin=origin, known=known, spool=spool)
    return path, maker.rows


def flip(path: Path, group: int) -> None:
    """A bit of the last byte of a row group's texts."""
    texts = pq.read_metadata(path).row_group(group).column(1)
    written = bytearray(path.read_bytes())
    written[(texts.dictionary_page_offset or texts.data_page_offset) + texts.total_compressed_size - 1] ^= 1
    path.write_bytes(written)


@contextmanager
def kept(folder: Path) -> Iterator[Spool]:
    """A place for the params of those that are rendered."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        spool = Spool(Path(place), ChunkLimit(3, 1_000_000), is_of_all=False)
        yield spool
        spool.close()


def lines(spool: Spool, plan: Path, rows: Sequence[int]) -> list[bytes]:
    """The params kept of these rows, but for those that are rejected."""
    table = pq.read_table(plan)
    asked = set(table.filter(table.column("model").is_valid()).column("row").to_pylist())
    chosen = [pa.array(sorted(asked & set(rows)), pa.int64())]
    assert spool.holds(chosen)
    assert not any(spool.holds([pa.array([other])]) for other in asked - set(rows))
    return [line for table in in_tables(spool.requests(plan, chosen)) for line in table.lines()]


def made(records: Path, workload: Workload, rows: Sequence[int]) -> list[bytes]:
    maker = RequestMaker.of(workload, SCHEMA.names)
    return [request.params for request in requests_of(records, maker, [pa.array(rows, pa.int64())])]


def both(
    folder: Path,
    before: Rows,
    after: Rows,
    workload: Workload | None = None,
    later: Workload | None = None,
    schemas: tuple[pa.Schema, pa.Schema] = (SCHEMA, SCHEMA),
    *,
    damaged: int | None = None,
    full: Rows | None = None,
) -> list[int]:
    """The rows that are rendered where the earlier plan is known; the plan is the one that knows nothing, and the params
    of these rows are kept, unless they are all.

    Of the earlier snapshot the texts of a row group may be `damaged` since. Both may rest on a `full` one.
    """
    base = None if full is None else snapshot(folder / "full.parquet", full, schemas[0])
    workload = workload or make_workload(prompt="{{ text }} {{ stars }}")
    earlier, _ = plan(folder, "before", before, workload, schema=schemas[0], full=base)
    alone, _ = plan(folder, "alone", after, later or workload, schema=schemas[1], full=base)
    columns = ["record_id", *RequestMaker.of(workload, SCHEMA.names).prompt.columns]
    if damaged is not None:
        flip(folder / "before.parquet", damaged)
    with Records(folder / "before.parquet") as records:
        known = Known(records, earlier, columns, model=(later or workload).model, most_bytes=FIT.surely_bytes)
        with kept(folder) as spool:
            found, rendered = plan(folder, "after", after, later or workload, known, schemas[1], spool, base)
            if spool.is_whole:
                assert lines(spool, found, rendered) == made(folder / "after.parquet", later or workload, rendered)
            else:
                assert rendered == list(range(len(after)))
    assert pq.read_table(found).equals(pq.read_table(alone))
    assert sha256_of(found) == sha256_of(alone)
    return rendered


def test_records_that_have_not_changed_are_not_rendered_but_for_the_first_ones(tmp_path: Path) -> None:
    rows = [row(n) for n in range(20)]
    assert both(tmp_path, rows, rows) == [0, 1, 2, 3]


def test_a_change_of_what_is_printed_is_rendered_and_another_is_not(tmp_path: Path) -> None:
    rows = [row(n) for n in range(20)]
    after = [row(n, other="changed") if n == 9 else row(n, stars=0) if n == 14 else row(n) for n in range(20)]
    assert both(tmp_path, rows, after) == [0, 1, 2, 3, 14]


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        pytest.param((pa.int64(), pa.float64()), 1, 1.0, id="another-type"),
        pytest.param((pa.timestamp("s"), pa.timestamp("us")), 0, 0, id="another-unit"),
    ],
)
def test_equal_values_that_print_otherwise_have_changed(
    tmp_path: Path, kind: tuple[pa.DataType, pa.DataType], before: Any, after: Any
) -> None:
    old, new = (SCHEMA.set(2, pa.field("stars", each)) for each in kind)
    earlier = [row(n, stars=before) for n in range(12)]
    rendered = both(tmp_path, earlier, [row(n, stars=after) for n in range(12)], schemas=(old, new))
    assert rendered == list(range(12))


def test_a_zero_that_became_negative_has_changed(tmp_path: Path) -> None:
    schema = SCHEMA.set(2, pa.field("stars", pa.float64()))
    after = [row(n, stars=-0.0 if n == 9 else 0.0) for n in range(12)]
    rendered = both(tmp_path, [row(n, stars=0.0) for n in range(12)], after, schemas=(schema, schema))
    assert rendered == [0, 1, 2, 3, 9]


def test_floats_that_have_not_changed_are_known(tmp_path: Path) -> None:
    schema = SCHEMA.set(2, pa.field("stars", pa.float64()))
    rows = [row(n, stars=n / 3, other=str(n)) for n in range(12)]
    changed = [row(n, stars=n / 3) for n in range(12)]
    assert both(tmp_path, rows, changed, schemas=(schema, schema)) == [0, 1, 2, 3]


def test_what_was_rejected_is_looked_at_again(tmp_path: Path) -> None:
    rows = [row(n, text="" if n == 6 else None, stars=None if n == 7 else n) for n in range(12)]
    assert both(tmp_path, rows, rows) == [0, 1, 2, 3, 7]


def test_where_all_is_asked_otherwise_nothing_is_known(tmp_path: Path) -> None:
    rows = [row(n) for n in range(12)]
    other = make_workload(prompt="Now: {{ text }} {{ stars }}")
    assert both(tmp_path, rows, rows, later=other) == list(range(12))


def test_nothing_is_known_before_some_record_was_rendered_to_see(tmp_path: Path) -> None:
    before = [row(n) for n in range(16)]
    after = [row(n, text="another") if n < 6 else row(n) for n in range(16)]
    assert both(tmp_path, before, after) == [0, 1, 2, 3, 4, 5, 6, 7]
    other = make_workload(prompt="Now: {{ text }} {{ stars }}")
    assert both(tmp_path, before, after, later=other) == list(range(16))


STORIES = st.lists(st.sampled_from(["keep", "text", "other", "id", "drop", "insert", "null"]), max_size=30)


@settings(max_examples=120, deadline=None)
@given(story=STORIES, more=st.integers(0, 9), rests=st.none() | st.lists(st.booleans(), min_size=30, max_size=30))
def test_any_change_gives_the_plan_that_knows_nothing(story: list[str], more: int, rests: list[bool] | None) -> None:
    before = [row(number) for number in range(len(story))]
    full = None if rests is None else [row(n) if same else row(n, "of the full one") for n, same in enumerate(rests)]
    after: list[dict[str, Any]] = []
    for number, change in enumerate(story):
        match change:
            case "drop":
                continue
            case "insert":
                after += [row(100 + number), row(number)]
            case "text":
                after.append(row(number, "another"))
            case "id":
                after.append(row(number, record_id=f"m{number}"))
            case "null":
                after.append(row(number, stars=None))
            case "other":
                after.append(row(number, other="another"))
            case _:
                after.append(row(number))
    after += [row(200 + number) for number in range(more)]
    with tempfile.TemporaryDirectory() as folder:
        both(Path(folder), before, after, full=full)


def test_of_records_that_rest_on_one_file_only_the_others_are_read(tmp_path: Path) -> None:
    """The full one is damaged since, and nobody notices, but where a record of it is rendered."""
    full = [row(n) for n in range(20)]
    before = [row(n, "changed before") if n in (2, 9, 13) else row(n) for n in range(20)]
    after = [row(n, "changed before") if n in (2, 9) else row(n, "changed") if n == 17 else row(n) for n in range(20)]
    base = snapshot(tmp_path / "full.parquet", full)
    workload = make_workload(prompt="{{ text }} {{ stars }}")
    earlier, _ = plan(tmp_path, "before", before, workload, full=base)
    with Records(tmp_path / "before.parquet") as records:
        known = Known(records, earlier, ["record_id", "text", "stars"], model=workload.model, most_bytes=10_000)
        snapshot(tmp_path / "after.parquet", after, full=base)
        for group in (1, 2, 4):
            flip(base, group)
        maker, origin = Counting(workload), Origin()
        origin.begin("notes.jsonl")
        path = tmp_path / "after.plan"
        write_plan(tmp_path / "after.parquet", maker, path, workload, fit=FIT, origin=origin, known=known)
    assert maker.rows == [0, 1, 2, 3, 13, 17]
    assert pq.read_table(path).num_rows == 20


def test_a_row_group_is_held_only_where_its_bytes_are(tmp_path: Path) -> None:
    rows = [row(n) for n in range(10)]
    paths = [
        snapshot(tmp_path / "a", rows),
        snapshot(tmp_path / "b", [*rows[:5], row(5, "other"), *rows[6:]]),
        snapshot(tmp_path / "c", rows, SCHEMA.append(pa.field("new", pa.string()))),
        snapshot(tmp_path / "d", rows[:9]),
    ]
    with Records(paths[0]) as own:
        held = []
        for path in paths:
            with Records(path) as other:
                held.append([own.holds(group, other) for group in range(len(own.spans))])
    assert held == [[True, True, True], [True, False, True], [False] * 3, [True, True, False]]


def test_another_model_is_another_question(tmp_path: Path) -> None:
    rows = [row(n) for n in range(12)]
    other = make_workload(prompt="{{ text }} {{ stars }}", model="claude-sonnet-5-5")
    assert both(tmp_path, rows, rows, later=other) == list(range(12))


def test_where_the_earlier_snapshot_is_damaged_its_records_are_rendered(tmp_path: Path) -> None:
    rows = [row(n) for n in range(20)]
    after = [row(n, text="another") if n in (9, 17) else row(n) for n in range(20)]
    assert both(tmp_path, rows, after, damaged=2) == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]
