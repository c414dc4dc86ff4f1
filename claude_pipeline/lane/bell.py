"""What one task waits for: that somebody rings, or that some time is over."""

from __future__ import annotations

import asyncio


class Bell:
    """For one task that waits, in one loop; ringing while nobody waits is forgotten."""

    def __init__(self) -> None:
        self._waits: asyncio.Future[None] | None = None

    async def wait(self, seconds: float | None = None) -> None:
        """Until it rings, or at most so long."""
        loop = asyncio.get_running_loop()
        self._waits = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self.ring)
        try:
            await self._waits
        finally:
            self._waits = None
            if timer is not None:
                timer.cancel()

    def ring(self) -> None:
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(None)
