"""Chunks asked in real time, by an event loop in a thread of its own.

The caller opens chunks and closes them; here their requests are read, queued by pool of models, asked and
journaled. Nothing here knows the ledger: what needs it is asked of the caller by `may_ask_again`.

    with Asking(pools, connect) as asking:
        asking.feed(chunk)             # any time, from the caller's thread
        asking.finished()              # chunks whose every request has its end, or that were given up
        asking.feed_no_more()
        asking.stop()                  # send nothing more; what is in flight is awaited and journaled
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from claude_pipeline.lane.journal import LOST, Journal
from claude_pipeline.lane.message_client import MessageClient
from claude_pipeline.lane.queue import Ended, RequestQueue, Tally
from claude_pipeline.lane.reply import Fate, Question, Reply
from claude_pipeline.lane.waits import USUAL, Waits

if TYPE_CHECKING:
    import anthropic


@dataclass
class AskedChunk:
    """A chunk that is asked; its journal is the caller's to close."""

    id: int
    pool: str
    params: Path
    journal: Journal
    max_tokens: int
    may_ask_again: Callable[[int], bool]  # by position: its answer was lost, it may have been paid
    withdrawn: bool = False  # nothing more of it is read
    out: int = 0  # questions read and not settled
    read: bool = False  # to its end

    @property
    def finished(self) -> bool:
        return self.read and self.out == 0


@dataclass
class Figures:
    """How far an asking is; rates are over the last seconds."""

    tallies: dict[str, Tally] = field(default_factory=dict)

    def total(self, name: str) -> int:
        return sum(getattr(tally, name) for tally in self.tallies.values())


class Asking:
    """A running asking. `queues` are by pool; all but its construction belongs to the caller's thread."""

    def __init__(
        self,
        queues: Callable[[Callable[[Question, float], object]], Mapping[str, RequestQueue]],
        *,
        connect: Callable[[], anthropic.AsyncAnthropic],
        clock: Callable[[], datetime],
        waits: Waits = USUAL,
    ) -> None:
        self._waits = waits
        self._make_queues, self._connect, self._clock = queues, connect, clock
        self._finished: queue.SimpleQueue[AskedChunk] = queue.SimpleQueue()
        self._chunks: dict[int, AskedChunk] = {}
        self._feeds: dict[str, asyncio.Queue[AskedChunk | None]] = {}
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="asking", daemon=True)
        self.queues: Mapping[str, RequestQueue] = {}
        self.ended: dict[str, Ended] = {}

    def __enter__(self) -> Self:
        """Raises KeyRefused or SettingInvalid where key and address cannot be used."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.wait()
        if self._error is not None and error is None:
            raise self._error

    def wait(self) -> None:
        """Wait until the loop has ended; what is in flight for too long is given up, and counts as lost."""
        self._thread.join(self._waits.drain)
        if self._thread.is_alive():
            self._given_up = True
            self._call(lambda: [task.cancel() for task in asyncio.all_tasks(self._loop)])
            self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def figures(self) -> Figures:
        return Figures({pool: q.tally for pool, q in self.queues.items()})

    def feed(self, chunk: AskedChunk) -> None:
        """Take on a chunk; its requests without an end are asked in order."""
        self._chunks[chunk.id] = chunk
        self._call(partial(self._feeds[chunk.pool].put_nowait, chunk))

    def feed_no_more(self) -> None:
        for feed in self._feeds.values():
            self._call(partial(feed.put_nowait, None))

    def finished(self, *, wait_seconds: float) -> list[AskedChunk]:
        """Chunks with nothing left to ask; waits for the first for so long."""
        found: list[AskedChunk] = []
        try:
            found.append(self._finished.get(timeout=wait_seconds))
            while True:
                found.append(self._finished.get_nowait())
        except queue.Empty:
            return found

    def unread(self, pool: str) -> int:
        """Chunks of a pool that are not read to their end."""
        return sum(not chunk.read for chunk in list(self._chunks.values()) if chunk.pool == pool)

    def withdraw(self, chunk_id: int) -> None:
        """Read nothing more of a chunk; it is finished once what is out has its end."""
        if chunk_id in self._chunks:
            self._chunks[chunk_id].withdrawn = True

    def stop(self) -> None:
        """Send nothing more; what is in flight is awaited and journaled."""
        self.feed_no_more()
        for requests in self.queues.values():
            self._call(requests.stop)

    def tell(self, call: Callable[[], object]) -> None:
        """Run something in the loop's thread, soon: queues and limiters belong to it."""
        self._call(call)

    def _call(self, call: Callable[[], object]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(call)
            except RuntimeError:  # closed in this instant
                return

    # -- in the loop's thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseExceptionGroup as group:  # of the pools' tasks: the first tells
            self._error = group.exceptions[0]
        except asyncio.CancelledError as error:
            self._error = None if self._given_up else error
        except BaseException as error:  # told to the caller, whose thread goes on
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with MessageClient(self._clock, connect=self._connect, waits=self._waits) as client:

            async def ask(question: Question, timeout_seconds: float) -> Reply:
                return await client.ask(question.params, timeout_seconds)

            self.queues = self._make_queues(ask)
            self._feeds = {pool: asyncio.Queue() for pool in self.queues}
            self._ready.set()
            async with asyncio.TaskGroup() as group:
                for pool, requests in self.queues.items():
                    group.create_task(self._ask_pool(pool, requests))

    async def _ask_pool(self, pool: str, requests: RequestQueue) -> None:
        ended = await requests.run(self._questions(pool), _Keeper(self._chunks, self._settle))
        self.ended[pool] = ended
        if ended.reason == "account":  # of all pools
            for other in self.queues.values():
                other.stop()

    async def _questions(self, pool: str) -> AsyncIterator[Question]:
        while (chunk := await self._feeds[pool].get()) is not None:
            with chunk.params.open("rb") as file:
                for position, line in enumerate(file):
                    if chunk.withdrawn:
                        break
                    if not chunk.journal.ended(position):
                        chunk.out += 1
                        yield Question((chunk.id, position), line[:-1], chunk.max_tokens)
            chunk.read = True
            self._settle(chunk, 0)

    def _settle(self, chunk: AskedChunk, ended: int) -> None:
        chunk.out -= ended
        if chunk.finished:
            self._chunks.pop(chunk.id, None)
            self._finished.put(chunk)


class _Keeper:
    """Keeps what happens to questions in their chunks' journals."""

    def __init__(self, chunks: Mapping[int, AskedChunk], settle: Callable[[AskedChunk, int], None]) -> None:
        self._chunks, self._settle = chunks, settle

    def sending(self, question: Question) -> None:
        chunk, position = self._place(question)
        chunk.journal.sending(position)

    def unbilled(self, question: Question) -> None:
        chunk, position = self._place(question)
        chunk.journal.unbilled(position)

    def may_ask_again(self, question: Question) -> bool:
        chunk, position = self._place(question)
        return chunk.may_ask_again(position)

    async def settled(self, question: Question, reply: Reply) -> None:
        chunk, position = self._place(question)
        if reply.fate is Fate.LOST and reply.error_type != "unreadable_result":
            said = reply.error_message or reply.error_type
            reply = replace(reply, error_type=LOST, error_message=f"its answer was lost, it may have been paid: {said}")
        await chunk.journal.settled(position, reply)
        self._settle(chunk, 1)

    def _place(self, question: Question) -> tuple[AskedChunk, int]:
        assert isinstance(question.key, tuple)
        return self._chunks[question.key[0]], question.key[1]
