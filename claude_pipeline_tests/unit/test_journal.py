"""A journal keeps what was sent and answered through kills and power loss, and trusts no spoiled line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_pipeline.crash import told
from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.lane.group_sync import GROUP_LINES
from claude_pipeline.lane.journal import Journal, results
from claude_pipeline.lane.reply import Fate, Reply
from claude_pipeline_tests.conftest import NOW

ROOT = Path(__file__).parents[2]
KEY = "r1-0001"
BODY = b'{"type": "message", "content": [{"type": "text", "text": "h\xc3\xa9"}],\t"n": 1.10}'


def answer(body: bytes = BODY) -> Reply:
    return Reply(Fate.ANSWERED, NOW, 200, body, request_id="req_1")


def refusal(kind: str = "invalid_request_error", message: str = "no", code: str | None = None) -> Reply:
    return Reply(Fate.REFUSED, NOW, 400, error_type=kind, error_message=message, error_code=code)


LOST = Reply(Fate.LOST, NOW, error_type="connection_lost", error_message="no answer")


def settle(journal: Journal, *ends: tuple[int, Reply]) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(journal.settled(position, reply) for position, reply in ends))

    asyncio.run(all_of_them())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journals" / "notes" / f"{KEY}.journal"


def reopened(path: Path, requests: int = 10) -> Journal:
    journal = Journal.open(path, KEY, requests)
    journal.close()
    return journal


def documents(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in results(path)]


def test_an_answer_is_kept_as_a_batchs_result_line(path: Path) -> None:
    journal = Journal.open(path, KEY, 10)
    journal.sending(3)
    settle(journal, (3, answer()))
    journal.close()
    assert list(results(path)) == [
        b'{"custom_id":"r1-0001-3","result":{"type":"succeeded","message":' + BODY + b"},"
        b'"answered_at":"2026-11-22T14:30:00.000000Z","request_id":"req_1"}\n'
    ]
    again = reopened(path)
    assert (list(again.waiting()), again.counts, again.unrecorded) == (
        [0, 1, 2, 4, 5, 6, 7, 8, 9],
        Counter(succeeded=1),
        0,
    )


def test_an_error_is_doubly_nested_as_the_api_has_it(path: Path) -> None:
    journal = Journal.open(path, KEY, 10)
    settle(journal, (0, refusal("rate_limit_error", "sp\ud800end", "enforced_spend_limit_reached")), (1, LOST))
    journal.close()
    first, second = (document["result"] for document in documents(path))
    error = {
        "details": {"error_code": "enforced_spend_limit_reached"},
        "type": "rate_limit_error",
        "message": "sp?end",
    }
    assert first == {"type": "errored", "error": {"type": "error", "error": error, "request_id": None}}
    assert second["error"]["error"] == {"details": None, "type": "connection_lost", "message": "no answer"}


def test_a_chunk_closed_early_cancels_what_has_no_end(path: Path) -> None:
    journal = Journal.open(path, KEY, 3)
    settle(journal, (1, answer()))
    assert journal.canceled(NOW) == 2
    journal.close()
    assert [(d["custom_id"], d["result"]["type"]) for d in documents(path)] == [
        (f"{KEY}-1", "succeeded"), (f"{KEY}-0", "canceled"), (f"{KEY}-2", "canceled"),
    ]  # fmt: skip
    assert reopened(path, 3).counts == Counter(succeeded=1, canceled=2)


ODD_BODIES: list[Any] = [
    pytest.param(b'{\n  "type": "message",\n  "text": "a\\nb"\n}\n', {"type": "message", "text": "a\nb"}, id="lines"),
    pytest.param(b'{"text": "a\xe2\x80\xa8b\xc2\x85c"}', {"text": "a\u2028b\x85c"}, id="u2028"),
    pytest.param(b'{"text": "\\ud800"}', {"text": "\ud800"}, id="lone-surrogate"),
    pytest.param('{"text": "é"}'.encode("utf-16"), {"text": "é"}, id="utf-16"),
    pytest.param(b'\xef\xbb\xbf{"text": "x"}', {"text": "x"}, id="bom"),
]


@pytest.mark.parametrize(("body", "message"), ODD_BODIES)
def test_an_odd_message_is_still_one_line(path: Path, body: bytes, message: Any) -> None:
    journal = Journal.open(path, KEY, 1)
    settle(journal, (0, answer(body)))
    journal.close()
    lines = list(results(path))
    assert [json.loads(line)["result"]["message"] for line in lines] == [message]
    assert reopened(path, 1).counts == Counter(succeeded=1)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"a": ', b"[1]", b'"x"', b"{" * 100_000], ids=lambda b: b[:9].decode()
)
def test_what_is_no_message_is_never_spliced_in(path: Path, body: bytes) -> None:
    journal = Journal.open(path, KEY, 1)
    settle(journal, (0, answer(body)))
    journal.close()
    assert documents(path)[0]["result"]["error"]["error"]["type"] == "unreadable_result"


def test_posts_without_an_end_are_counted_each_once(path: Path) -> None:
    journal = Journal.open(path, KEY, 10)
    for _ in range(3):
        journal.sending(0)  # lost, lost, then answered
    settle(journal, (0, answer()))
    journal.sending(1)  # refused, then killed in flight
    journal.unbilled(1)
    journal.unbilled(1)
    journal.sending(1)
    journal.sending(2)  # refused for good
    settle(journal, (2, refusal()))
    journal.sending(3)  # lost for good
    settle(journal, (3, LOST))
    journal.close()
    again = Journal.open(path, KEY, 10)
    again.unbilled(1)  # of the process before nobody knows any more
    assert [again.unrecorded_of(n) for n in range(5)] == [2, 1, 0, 1, 0]
    assert again.unrecorded == journal.unrecorded == 4
    again.sending(1)
    settle(again, (1, answer()))
    again.close()
    assert reopened(path).unrecorded == 4


def test_only_the_first_end_of_a_request_counts(path: Path) -> None:
    journal = Journal.open(path, KEY, 2)
    settle(journal, (0, answer()), (0, refusal()), (0, answer()))
    journal.close()
    again = reopened(path, 2)
    assert (journal.counts, again.counts, list(again.waiting())) == (Counter(succeeded=1), Counter(succeeded=1), [1])


@pytest.mark.parametrize(("key", "requests"), [("r1-0002", 10), (KEY, 3), ("r1-00", 10)])
def test_the_journal_of_another_chunk_is_refused(path: Path, key: str, requests: int) -> None:
    journal = Journal.open(path, KEY, 10)
    settle(journal, (5, answer()))
    journal.close()
    with pytest.raises(LedgerDamaged, match="another chunk"):
        Journal.open(path, key, requests)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A journal of five requests: answered, refused, answered at the second POST, lost for good, in flight."""
    path = tmp_path_factory.mktemp("whole") / "whole.journal"
    journal = Journal.open(path, KEY, 5)
    for position, reply in ((0, answer()), (1, refusal()), (2, answer()), (3, LOST)):
        journal.sending(position)
        if position == 2:
            journal.unbilled(2)
            journal.sending(2)
        settle(journal, (position, reply))
    journal.sending(4)
    journal.close()
    return path.read_bytes()


def ends_in(data: bytes) -> dict[int, bytes]:
    """Position -> the line that ends it, of an unspoiled journal."""
    lines = [line.rpartition(b"\t")[0] + b"\n" for line in data.splitlines(keepends=True) if line.startswith(b"{")]
    return {int(orjson.loads(line)["custom_id"].rpartition("-")[2]): line for line in lines}


def test_a_tail_torn_at_any_byte_loses_the_torn_line_only(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "torn.journal"
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        kept = whole[: whole.rfind(b"\n", 0, size) + 1]
        journal = Journal.open(path, KEY, 5)
        assert path.read_bytes() == kept
        assert journal.torn_bytes == size - len(kept)
        assert journal.dropped == 0
        waiting = sorted(set(range(5)) - ends_in(kept).keys())
        assert list(journal.waiting()) == waiting
        journal.sending(waiting[0])
        journal.close()
        assert reopened(path, 5).dropped == 0
        assert list(results(path)) == list(ends_in(kept).values())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_spoiled_line_is_dropped_and_never_trusted(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """Flipped bits, holes of zeros, lines told twice: what is read is a part of what was written."""
    spoiled = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(spoiled) - 1))
        match data.draw(st.sampled_from(["flip", "zeros", "twice"])):
            case "flip":
                spoiled[place] ^= 1 << data.draw(st.integers(0, 7))
            case "zeros":
                size = data.draw(st.integers(1, 200))
                spoiled[place : place + size] = bytes(len(spoiled[place : place + size]))
            case "twice":
                start = spoiled.rfind(b"\n", 0, place) + 1
                end = spoiled.find(b"\n", place) + 1
                spoiled[start:start] = spoiled[start:end]
    path = tmp_path / "spoiled.journal"
    path.write_bytes(spoiled)
    journal = reopened(path, 5)
    written = ends_in(whole)
    assert set(results(path)) <= set(written.values())
    assert {n for n in range(5) if journal.ended(n)} <= written.keys()
    assert sum(journal.counts.values()) == sum(journal.ended(n) for n in range(5))
    assert (journal.dropped > 0) or set(results(path)) == set(written.values()) or journal.torn_bytes > 0


def test_a_hole_without_end_is_no_line(path: Path) -> None:
    journal = Journal.open(path, KEY, 3)
    settle(journal, (0, answer()))
    journal.close()
    good = path.read_bytes()
    path.write_bytes(good + bytes(5000) + b"\n" + good.replace(b"-0", b"-1") + bytes(5000))
    again = Journal.open(path, KEY, 3, line_bytes_max=1000)
    again.close()
    assert (again.dropped, again.torn_bytes, list(again.waiting())) == (2, 5000, [1, 2])


def test_waiters_share_one_fsync_and_a_full_group_does_not_wait(path: Path) -> None:
    journal = Journal.open(path, KEY, 2 * GROUP_LINES)
    points: list[str] = []
    with told(points.append):
        settle(journal, *((n, answer()) for n in range(10)))
        assert points == ["journal.before_fsync", "journal.after_fsync"]
        settle(journal, *((n, answer()) for n in range(10, 10 + GROUP_LINES + 5)))
        assert points == ["journal.before_fsync", "journal.after_fsync"] * 3
        journal.close()


def test_nothing_counts_before_it_is_on_the_disk(path: Path) -> None:
    """The fsync is held up: the answer is written, and not yet settled."""
    journal = Journal.open(path, KEY, 1)
    reached, go_on = threading.Event(), threading.Event()

    def hold(point: str) -> None:
        if point == "journal.before_fsync":
            reached.set()
            assert go_on.wait(10)

    async def scene() -> None:
        task = asyncio.create_task(journal.settled(0, answer()))
        assert await asyncio.to_thread(reached.wait, 10)
        assert not task.done()
        go_on.set()
        await task

    with told(hold):
        asyncio.run(scene())
    journal.close()


def test_a_disk_that_fails_ends_the_journal_and_nobody_is_told_otherwise(path: Path) -> None:
    journal = Journal.open(path, KEY, 3)

    def fail(point: str) -> None:
        if point == "journal.before_fsync":
            raise OSError(5, "Input/output error")

    with told(fail), pytest.raises(OSError, match="Input/output"):
        settle(journal, (0, answer()))
    journal.close()
    with pytest.raises(OSError, match="closed"):
        journal.sending(1)


def test_a_full_disk_leaves_no_half_line(path: Path) -> None:
    """`ulimit -f` stands for the disk: the second answer fits in part only."""
    code = f"""
import resource
from claude_pipeline_tests.unit.test_journal import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal.open(Path({str(path)!r}), KEY, 3)
settle(journal, (0, answer()))
resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
for line in ((1, answer()), (2, refusal("a", "b"))):
    try:
        settle(journal, line)
    except OSError as error:
        print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == [
        "No space left on device",
        "nothing more is written to it: No space left on device",
    ]
    again = reopened(path, 3)
    assert (again.torn_bytes, again.dropped, list(again.waiting())) == (0, 0, [1, 2])


def test_closing_twice_and_from_another_thread_is_safe(path: Path) -> None:
    journal = Journal.open(path, KEY, 1)

    async def scene() -> None:
        task = asyncio.create_task(journal.settled(0, answer()))
        await asyncio.sleep(0)
        await asyncio.to_thread(journal.close)
        await task

    asyncio.run(scene())
    journal.close()
    assert reopened(path, 1).counts == Counter(succeeded=1)


KILLED = """
import sys
from claude_pipeline_tests.unit.test_journal import *

async def one(journal, position):
    journal.sending(position)
    if position % 3 == 0:
        journal.unbilled(position)
        journal.sending(position)
    await asyncio.sleep(position % 7 / 1000)
    await journal.settled(position, answer())
    print(position, flush=True)

async def main():
    journal = Journal.open(Path(sys.argv[1]), KEY, 2000)
    async with asyncio.TaskGroup() as tasks:
        for position in range(2000):
            tasks.create_task(one(journal, position))
            if position % 50 == 0:
                await asyncio.sleep(0.001)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "point", ["journal.after_mark:700", "journal.before_fsync:2", "journal.after_fsync:1", "journal.after_fsync:3"]
)
def test_sigkill_loses_at_most_what_was_in_flight(path: Path, point: str) -> None:
    environment = os.environ | {"CLAUDE_PIPELINE_CRASH_AT": point}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], capture_output=True, env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == -signal.SIGKILL
    settled = {int(line) for line in done.stdout.split()}
    marked = len({line for line in path.read_bytes().splitlines() if line.startswith(b"s")})
    journal = Journal.open(path, KEY, 2000)
    ended = {n for n in range(2000) if journal.ended(n)}
    assert settled <= ended
    assert (journal.dropped, journal.torn_bytes) == (0, 0)
    # One may have died between a refusal and its next POST.
    assert marked - len(ended) - 1 <= journal.unrecorded <= marked - len(ended)
    journal.close()
    assert len(documents(path)) == len(ended)


def test_the_moment_of_an_answer_is_told_in_utc(path: Path) -> None:
    journal = Journal.open(path, KEY, 1)
    at = datetime(2026, 11, 22, 14, 30, 1, 250, tzinfo=UTC)
    settle(journal, (0, Reply(Fate.ANSWERED, at, 200, BODY)))
    journal.close()
    assert documents(path)[0]["answered_at"] == "2026-11-22T14:30:01.000250Z"
