"""Records are compressed where that halves them, and what is made of them goes the same way; they are read by pieces."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.parquet_file import (
    NONE,
    PIECE_ROWS,
    SAMPLE_BYTES,
    SNAPPY,
    begun,
    compression_for,
    compression_of,
    footer_sha256,
    in_pieces,
    only_value,
    open_parquet,
    options_for,
    repeating,
)

CHANCE = random.Random(5)
JSON = [
    f'{{"state":"open","city":"Berlin","number":{n},"state_before":"open","city_before":"Berlin"}}' for n in range(900)
]
HEX = [CHANCE.randbytes(60).hex() for _ in range(900)]


@pytest.mark.parametrize(
    ("values", "compression"),
    [
        pytest.param(JSON, SNAPPY, id="json"),
        pytest.param(HEX, NONE, id="hex"),
        pytest.param([[word] * 9 for word in JSON], SNAPPY, id="nested"),
        pytest.param([{"a": word, "b": word[::-1]} for word in HEX], NONE, id="nested, of noise"),
        pytest.param([CHANCE.random() for _ in range(900)], NONE, id="numbers"),
        pytest.param(["same"] * 900, NONE, id="a dictionary has halved it by then"),
        pytest.param([None] * 900, NONE, id="nulls"),
        pytest.param([], SNAPPY, id="no records"),
    ],
)
def test_records_are_compressed_where_that_halves_them(values: list[object], compression: str, tmp_path: Path) -> None:
    records = pa.table({"value": pa.array(values) if values else pa.array([], pa.string())})
    assert compression_for(records) == compression
    path = tmp_path / "records.parquet"
    pq.write_table(records, path, compression=compression)
    assert compression_of(pq.read_metadata(path)) == compression


def test_it_is_the_whole_table_that_counts() -> None:
    # Some noise beside twice as much that is worth it.
    assert (
        compression_for(pa.table({"json": [text * 2 for text in JSON], "noise": [text[:40] for text in HEX]})) == SNAPPY
    )
    assert compression_for(pa.table({"json": [text[:40] for text in JSON], "noise": HEX})) == NONE


def test_the_sample_is_of_all_of_it_and_always_the_same() -> None:
    records = pa.table({"text": HEX[:200] + JSON * 10})
    assert compression_for(records) == SNAPPY
    assert {compression_for(records) for _ in range(3)} == {SNAPPY}


def test_of_wide_records_a_few_are_tried() -> None:
    wide = pa.table({"text": [CHANCE.randbytes(100_000).hex() for _ in range(300)]})
    usual = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counting)
    try:
        assert compression_for(wide) == NONE
    finally:
        pa.set_memory_pool(usual)
    assert 0 < (counting.max_memory() or 0) < 5 * SAMPLE_BYTES < wide.nbytes


@pytest.mark.parametrize("sizes", [[2_500], [PIECE_ROWS, PIECE_ROWS, 500], [1, 999, 1_400, 100], [700] * 3 + [400]])
def test_pieces_depend_on_the_rows_alone(sizes: list[int], tmp_path: Path) -> None:
    """However the rows came together: the same bytes of a file."""
    rows = pa.table({"number": range(2_500), "text": [f"{number:04d}" * 40 for number in range(2_500)]})
    ends = [0, *itertools.accumulate(sizes)]
    came = pa.concat_tables(
        [rows.slice(begin, end - begin).combine_chunks() for begin, end in itertools.pairwise(ends)]
    )
    pieces = in_pieces(came)
    assert pieces.equals(rows)
    assert [len(chunk) for chunk in pieces.column("text").chunks] == [PIECE_ROWS, PIECE_ROWS, 500]
    files = [tmp_path / "came.parquet", tmp_path / "rows.parquet"]
    for table, file in zip((pieces, in_pieces(rows)), files, strict=True):
        pq.write_table(table, file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_no_rows_are_no_pieces() -> None:
    nothing = pa.table({"number": pa.array([], pa.int64())})
    assert in_pieces(nothing).equals(nothing)


def test_a_page_that_is_damaged_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    pq.write_table(pa.table({"text": HEX}), path, compression=NONE, use_dictionary=False, write_page_checksum=True)
    whole = path.read_bytes()
    with open_parquet(path) as file:
        assert file.read().column("text").to_pylist() == HEX
    at = whole.index(HEX[450].encode())
    path.write_bytes(whole[:at] + b"x" + whole[at + 1 :])
    with open_parquet(path) as file, pytest.raises(OSError, match="CRC checksum verification failed"):
        file.read()


def test_a_footer_tells_files_of_other_rows_apart(tmp_path: Path) -> None:
    texts = [HEX, HEX[:-1], [*HEX[:-1], HEX[-1] + "."], [*reversed(HEX)], ["zz", *HEX[1:]], HEX]
    paths = [tmp_path / f"{number}.parquet" for number in range(len(texts))]
    for path, values in zip(paths, texts, strict=True):
        pq.write_table(pa.table({"text": values}), path, row_group_size=100, write_page_checksum=True)
    *others, again = [footer_sha256(path) for path in paths]
    assert again == others[0]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("text", [b"", b"PAR1", b"\xff\xff\xff\xffPAR1", b"id,text\n1,a\n"])
def test_what_is_no_parquet_file_has_no_footer(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "records.parquet"
    path.write_bytes(text)
    with pytest.raises(OSError, match="is no Parquet file"):
        footer_sha256(path)


WORDS = [["open", "closed"][number % 2] for number in range(900)]


@pytest.mark.parametrize(
    ("values", "kind", "paths"),
    [
        pytest.param(WORDS, pa.string(), ["value"], id="words"),
        pytest.param(HEX, pa.string(), [], id="all different"),
        pytest.param(HEX[:450] * 2, pa.string(), ["value"], id="each twice"),
        pytest.param([*HEX[:451], *HEX[:449]], pa.string(), [], id="nearly each twice"),
        pytest.param([None, *[5] * 899], pa.int64(), ["value"], id="nulls count"),
        pytest.param([*range(900)], pa.int64(), [], id="numbers"),
        pytest.param([None] * 900, pa.null(), ["value"], id="of no type"),
        pytest.param([[word, word] for word in WORDS], pa.list_(pa.string()), ["value.list.element"], id="lists"),
        pytest.param([[word, word[::-1]] for word in HEX], pa.list_(pa.string()), [], id="lists of noise"),
        pytest.param([[word] * 2 for word in WORDS], pa.list_(pa.string(), 2), ["value.list.element"], id="pairs"),
        pytest.param(
            [{"a": noise, "b": [word]} for noise, word in zip(HEX, WORDS, strict=True)],
            pa.struct({"a": pa.string(), "b": pa.list_(pa.string())}),
            ["value.b.list.element"],
            id="structs",
        ),
        pytest.param(
            [[("key", noise)] for noise in HEX], pa.map_(pa.string(), pa.string()), ["value.key_value.key"], id="maps"
        ),
    ],
)
def test_what_repeats_has_a_dictionary(
    values: list[object], kind: pa.DataType, paths: list[str], tmp_path: Path
) -> None:
    rows = pa.table({"value": pa.array(values, kind)})
    assert repeating(rows) == paths
    path = tmp_path / "rows.parquet"
    pq.write_table(rows, path, **options_for(rows, NONE))
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert [column.path_in_schema for column in columns if column.has_dictionary_page] == paths
    with open_parquet(path) as file:
        assert file.read().column("value").to_pylist() == rows.column("value").to_pylist()


def test_what_arrow_cannot_count_is_left_as_arrow_writes_it() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    encoded = pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["a"]))
    assert repeating(pa.table({"union": union, "encoded": encoded})) == ["union", "encoded"]


def test_the_first_thousand_are_asked() -> None:
    assert repeating(pa.table({"value": [*range(1_000), *[7] * 9_000]})) == []
    assert repeating(pa.table({"value": [*[7] * 1_000, *range(9_000)]})) == ["value"]
    assert repeating(pa.table({"value": pa.chunked_array([HEX[:9], WORDS[:9], WORDS])})) == ["value"]


def test_what_is_written_so_is_smaller(tmp_path: Path) -> None:
    """Than with dictionaries of all columns, which is what Arrow does unasked."""
    rows = pa.table({"id": HEX, "word": WORDS, "number": [*range(900)]})
    ours, theirs = tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    pq.write_table(rows, ours, **options_for(rows, NONE))
    pq.write_table(rows, theirs, compression=NONE, write_page_checksum=True)
    assert ours.stat().st_size < theirs.stat().st_size


def test_a_bit_that_flips_in_what_is_written_so_is_seen(tmp_path: Path) -> None:
    rows = pa.table({"id": HEX})
    path = tmp_path / "rows.parquet"
    pq.write_table(rows, path, **options_for(rows, NONE))
    written = bytearray(path.read_bytes())
    written[written.index(HEX[500].encode())] ^= 1
    path.write_bytes(written)
    with open_parquet(path) as file, pytest.raises(OSError, match="CRC"):
        file.read()


def test_row_groups_that_have_begun_are_all_there() -> None:
    groups = [pa.table({"number": [number]}) for number in range(3)]
    first, every = begun(iter(groups), groups[0].schema)
    assert first is groups[0]
    assert [*every] == groups
    first, every = begun(iter(()), groups[0].schema)
    assert (len(first), first.schema, [*every]) == (0, groups[0].schema, [])


@pytest.mark.parametrize(
    ("values", "only"),
    [
        pytest.param(["a"] * 6, "a", id="one"),
        pytest.param([""] * 6, "", id="an empty one"),
        pytest.param([7] * 6, 7, id="a number"),
        pytest.param(["a"] * 5 + ["b"], None, id="another one in the last row"),
        pytest.param(["a", "a", "b", "b", "c", "c"], None, id="one in each row group"),
        pytest.param(["a"] * 5 + [None], None, id="a null"),
        pytest.param([None] * 2 + ["a"] * 4, None, id="a row group of nulls"),
        pytest.param([None] * 6, None, id="nulls"),
        pytest.param([["a"]] * 6, None, id="nested"),
    ],
)
def test_the_footer_tells_the_only_value_of_a_column(values: list[object], only: object, tmp_path: Path) -> None:
    column = pa.array(values, pa.string()) if values[-1] is None else pa.array(values)
    table = pa.table({"before": range(6), "value": column, "after": range(6)})
    for statistics, told in ((True, only), (False, None)):
        pq.write_table(table, tmp_path / "some", row_group_size=2, write_statistics=statistics)
        assert only_value(pq.read_metadata(tmp_path / "some"), "value") == told
    pq.write_table(table.slice(0, 0), tmp_path / "empty")
    assert only_value(pq.read_metadata(tmp_path / "empty"), "value") is None
    assert only_value(pq.read_metadata(tmp_path / "some"), "none of that name") is None
