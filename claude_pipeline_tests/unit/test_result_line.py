"""Lines are read all at once, and each comes out as if it had been read alone."""

from __future__ import annotations

import pytest

from claude_pipeline.result.line import Line, Unsound, read_line, read_lines

GOOD = b'{"custom_id":"t-%d","result":{"type":"succeeded","message":{"id":"m","usage":{"input_tokens":%d}}}}\n'
LINES = [GOOD % (n, n) for n in range(4)]
ODD = {
    "a count that is none": GOOD.replace(b"%d}}", b'"7"}}') % 9,
    "no JSON": b"<html>\n",
    "no object": b"[1]\n",
    "no id": b'{"result":{"type":"expired"}}\n',
    "no UTF-8": GOOD.replace(b'"m"', b'"\xff"') % (9, 9),
    "half a character": GOOD.replace(b'"m"', rb'"\ud83d"') % (9, 9),
    "two objects on one line": GOOD[:-1] % (9, 9) + GOOD % (8, 8),
    "the first half": GOOD[:30] + b"\n",
    "blanks": b"  \n",
    "cut off": (GOOD % (9, 9))[:-20],
    "deeper than anybody reads": b'{"custom_id":"t-9","result":' + b"[" * 200_000 + b"\n",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_odd_line_changes_no_other(odd: bytes, place: int) -> None:
    lines = [*LINES[:place], odd, *LINES[place:]]
    assert read_lines(lines) == [read_line(line) for line in lines]
    told = [line for line in read_lines(lines) if line is not None]
    assert [line.custom_id for line in told if line.custom_id != "t-9"] == [f"t-{n}" for n in range(4)]


def test_an_object_on_two_lines_is_two_lines_that_say_nothing() -> None:
    whole = GOOD % (9, 9)
    halves = [whole[:18] + b"\n", whole[18:]]
    assert read_lines([*LINES, *halves])[-2:] == [None, None]


def test_no_line_is_no_line() -> None:
    assert read_lines([]) == []


def test_a_line_without_an_end_is_read() -> None:
    (line,) = read_lines([(GOOD % (1, 2))[:-1]])
    assert isinstance(line, Line)
    assert line.result.message is not None


def test_a_usage_of_which_a_part_is_no_count_is_told_apart() -> None:
    (line,) = read_lines([ODD["a count that is none"]])
    assert isinstance(line, Line)
    assert line.result.message is not None
    assert isinstance(line.result.message.usage, Unsound)


def test_two_objects_on_one_line_beside_blanks_are_both_read() -> None:
    lines = read_lines([LINES[0].rstrip() + LINES[1], b"\n"])
    assert [line and line.custom_id for line in lines] == ["t-0", "t-1"]
