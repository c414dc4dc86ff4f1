"""The simulator's own clock: it runs at any speed, stands still, or is moved by hand.

Every time in the API's answers is read from here. Moments are whole microseconds since 1970 (UTC),
because that is what the API's timestamps carry and what SQLite stores without loss.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """The aware datetime as microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def datetime_of(moment_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=moment_us)


def rfc3339(moment_us: int) -> str:
    """As the API writes times: `2024-09-24T18:37:24.100435Z`."""
    moment = _EPOCH + timedelta(microseconds=moment_us)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def rfc3339_or_none(moment_us: int | None) -> str | None:
    return None if moment_us is None else rfc3339(moment_us)


class Clock:
    """Simulated time: `start` plus real time passed times `speed` (simulated seconds per real second).

    Safe to use from several threads. Never goes back.
    """

    def __init__(
        self,
        start: datetime,
        speed: float = 1.0,
        real: Callable[[], float] = time.monotonic,
        *,
        paused: bool = False,
    ) -> None:
        if speed < 0:
            raise ValueError(f"speed is {speed}; it is simulated seconds per real second and at least 0")
        self._lock = threading.Lock()
        self._real = real
        self._speed = speed
        self._paused = paused
        self._base_us = microseconds(start)
        self._base_real = real()
        self._lag_us = 0

    def now_us(self) -> int:
        with self._lock:
            return self._now_us()

    def now(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.now_us())

    def limit_us(self) -> int:
        """Time for rate limits: as `now_us`, but never slower than real time, or a clock that is
        moved by hand would hold callers up for ever. Only differences mean anything."""
        with self._lock:
            self._settle()
            return self._base_us + self._lag_us

    @property
    def speed(self) -> float:
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        if speed < 0:
            raise ValueError(f"speed is {speed}; it is simulated seconds per real second and at least 0")
        with self._lock:
            self._settle()
            self._speed = speed

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self) -> None:
        with self._lock:
            self._settle()
            self._paused = True

    def resume(self) -> None:
        with self._lock:
            self._settle()
            self._paused = False

    def advance(self, seconds: float) -> None:
        """Move on by `seconds` of simulated time, at once."""
        if seconds < 0:
            raise ValueError(f"cannot go back by {-seconds} s; the clock only moves forward")
        with self._lock:
            self._settle()
            self._base_us += round(seconds * SECOND_US)

    def _now_us(self) -> int:
        if self._paused:
            return self._base_us
        return self._base_us + int((self._real() - self._base_real) * self._speed * SECOND_US)

    def _settle(self) -> None:
        """Make the present the base, so that a new speed holds from here on only."""
        now_us = self._now_us()
        real = self._real()
        passed_us = int((real - self._base_real) * SECOND_US)
        self._lag_us += max(0, passed_us - (now_us - self._base_us))
        self._base_us = now_us
        self._base_real = real
