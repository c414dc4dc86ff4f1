"""Raw lines made small, and brought back."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pyarrow as pa
import pytest

from claude_pipeline.stage.raw import PackBroken, pack, packed, packed_before, unpack

LINES = b'{"custom_id":"a"}\n' * 1_000


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "r1-0001.jsonl"
    path.write_bytes(LINES)
    return path


def test_what_is_packed_is_small_and_comes_back_as_it_was(raw: Path) -> None:
    pack(raw)
    assert [path.name for path in raw.parent.iterdir()] == [packed(raw).name]
    assert packed(raw).stat().st_size < len(LINES) / 10
    unpack(raw)
    assert raw.read_bytes() == LINES


def test_what_an_older_version_packed_comes_back(raw: Path) -> None:
    packed_before(raw).write_bytes(gzip.compress(LINES))
    raw.unlink()
    unpack(raw)
    assert raw.read_bytes() == LINES


@pytest.mark.parametrize("left", [0, 5, -60, -13, -12, -1])
def test_a_cut_file_is_no_shorter_text(raw: Path, left: int) -> None:
    pack(raw)
    packed(raw).write_bytes(packed(raw).read_bytes()[:left])
    with pytest.raises(PackBroken):
        unpack(raw)
    assert not raw.exists()


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    raw = tmp_path / "r1-0001.jsonl"
    raw.write_bytes(random.Random(1).randbytes(2_000))  # nothing to make smaller: the bytes lie there as they are
    pack(raw)
    whole = packed(raw).read_bytes()
    for place in range(0, len(whole), 97):
        packed(raw).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(PackBroken):
            unpack(raw)


def test_every_reader_of_zstd_takes_it(raw: Path) -> None:
    pack(raw)
    with pa.input_stream(str(packed(raw)), compression="zstd") as file:
        assert file.read() == LINES


def test_a_damaged_file_of_an_older_version_is_noticed(raw: Path) -> None:
    packed_before(raw).write_bytes(gzip.compress(LINES)[:-9])
    raw.unlink()
    with pytest.raises(PackBroken):
        unpack(raw)


def test_the_plain_file_counts_before_the_packed_one(raw: Path) -> None:
    packed(raw).write_bytes(b"")
    unpack(raw)
    assert raw.read_bytes() == LINES
