"""The real-time lane is light: in CPU beside the bare SDK, in memory at any number of requests, and in what it leaves."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from claude_pipeline.lane.access import connect_async
from claude_pipeline.lane.journal import Journal, results
from claude_pipeline.lane.limiter import Limiter
from claude_pipeline.lane.message_client import MessageClient
from claude_pipeline.lane.queue import RequestQueue
from claude_pipeline.lane.reply import Question, Reply
from claude_pipeline_tests.benchmark import realtime
from claude_pipeline_tests.benchmark.realtime import BUDGET, PARAMS, RATE, Keeper, grown, ratios, stub
from claude_pipeline_tests.forks import make_forks
from claude_pipeline_tests.raw_server import sockets_to

IN_FLIGHT = 50
MEMORY_BYTES = 8_000_000  # what Python's allocator keeps to itself may differ
OBJECTS = 2_000  # of caches that fill


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with stub() as base_url:
        yield base_url


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


Left = tuple[int, int, int, int]  # tasks, sockets, files, objects


def left_behind(base_url: str, folder: str, requests: int) -> tuple[Left, Left, list[int]]:
    """What two sessions leave, and the memory after each 250 requests; in a process that does nothing else."""
    params = orjson.dumps(PARAMS)
    memory: list[int] = []

    async def questions() -> AsyncIterator[Question]:
        for position in range(requests):
            if position % 250 == 0:
                memory.append(resident_bytes())
            yield Question(position, params, 256)

    async def once(name: str) -> Left:
        journal = Journal.open(Path(folder) / name, "r1-0001", requests)
        keeper = Keeper(journal)
        access = {"ANTHROPIC_API_KEY": "stub", "ANTHROPIC_BASE_URL": base_url}
        async with MessageClient(lambda: datetime.now(UTC), connect=lambda: connect_async(access)) as client:

            async def ask(question: Question, timeout_seconds: float) -> Reply:
                return await client.ask(question.params, timeout_seconds)

            queue = RequestQueue(ask, Limiter(RATE), grown(IN_FLIGHT))
            assert (await queue.run(questions(), keeper)).reason == "done"
        journal.close()
        assert sum(1 for _ in results(journal.path)) == keeper.answered == requests
        gc.collect()
        return len(asyncio.all_tasks()), sockets_to(base_url), len(os.listdir("/proc/self/fd")), len(gc.get_objects())

    async def twice() -> tuple[Left, Left]:
        return await once("first"), await once("second")

    return *asyncio.run(twice()), memory


@pytest.mark.parametrize("requests", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_requests_leave_no_task_socket_or_file_and_memory_is_flat(
    base_url: str, tmp_path: Path, requests: int
) -> None:
    with make_forks().Pool(1) as pool:
        first, second, memory = pool.apply(left_behind, (base_url, str(tmp_path), requests))
    (_, _, files_before, objects_before), (tasks, sockets, files, objects) = first, second
    assert (tasks, sockets, files) == (1, 0, files_before)
    assert objects - objects_before < OBJECTS
    # The first pieces warm the process up: a quarter of the first run.
    warm = len(memory) // 8
    assert max(memory[warm:]) - memory[warm] < MEMORY_BYTES


def test_a_request_costs_no_more_than_the_budget_beside_the_bare_sdk(base_url: str) -> None:
    """A small form of the benchmark, with fewer requests and pairs; see there."""
    pairs = ratios(base_url, requests=400, pairs=3, in_flight=IN_FLIGHT)
    assert statistics.median(ours / bare for ours, bare in pairs) <= BUDGET


def test_the_benchmark_runs_as_its_head_says(capsys: pytest.CaptureFixture[str]) -> None:
    medians = realtime.main(["--requests", "20", "--pairs", "1", "--in-flight", "5"])
    assert list(medians) == [5]
    assert "5 in flight: lane" in capsys.readouterr().out
