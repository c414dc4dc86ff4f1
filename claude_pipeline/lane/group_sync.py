"""One fsync for many writers: who waits is told once what it wrote is on the disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

GROUP_SECONDS = 0.05  # the longest that a first writer waits for others
GROUP_LINES = 256  # so many need not wait for more


class GroupSync:
    """`await group.synced()` after a write; `sync` runs in another thread, one at a time.

    Who comes while one runs waits for the next. What `sync` raises goes to everyone who waited for it.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._waiting: list[asyncio.Future[None]] = []
        self._since = 0.0  # loop time at which the first of them came
        self._timer: asyncio.TimerHandle | None = None
        self._running = False

    def synced(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        if len(self._waiting) == 1:
            self._since = loop.time()
        if not self._running:
            self._plan(loop)
        return future

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        if len(self._waiting) >= GROUP_LINES:
            self._start(loop)
        elif self._timer is None:
            self._timer = loop.call_at(self._since + GROUP_SECONDS, self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stop_timer()
        group, self._waiting = self._waiting, []
        self._running = True
        ended = loop.run_in_executor(None, self._sync)
        ended.add_done_callback(lambda ended: self._ended(loop, group, ended))

    def _ended(
        self, loop: asyncio.AbstractEventLoop, group: list[asyncio.Future[None]], ended: asyncio.Future[None]
    ) -> None:
        self._running = False
        error = asyncio.CancelledError() if ended.cancelled() else ended.exception()
        for future in group:
            _tell(future, error)
        if self._waiting:
            self._plan(loop)

    def close(self, error: BaseException | None) -> None:
        """Tell everyone who still waits; the owner has synced by itself, or failed with `error`. From any thread."""
        self._stop_timer()
        group, self._waiting = self._waiting, []
        for future in group:
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits
                future.get_loop().call_soon_threadsafe(_tell, future, error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _tell(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():  # its waiter was cancelled
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
