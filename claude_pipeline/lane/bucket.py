"""A token bucket: what a limit per minute lets through, refilled all the time.

Time is an argument, in seconds of any clock that never goes back.
"""

from __future__ import annotations

TOLERANCE = 1e-9  # of the capacity: what floating point may lack


class Bucket:
    """Refilled at `rate` per second up to `capacity`; it begins full and may go below zero.

    A request that is larger than the bucket waits until the bucket is full and takes it below zero; the next one waits
    until that is paid back. So in any window no more is taken than rate x window + capacity + one request.
    """

    __slots__ = ("_at", "_level", "capacity", "rate")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self.rate, self.capacity = rate, capacity
        self._level, self._at = capacity, now

    def level(self, now: float) -> float:
        if now > self._at:
            self._level += self.rate * (now - self._at)
            self._at = now
        if self._level > self.capacity:
            self._level = self.capacity
        return self._level

    def wait_seconds(self, amount: float, now: float) -> float:
        """How long until `amount` may be taken, if nothing else is."""
        missing = min(amount, self.capacity) - self.level(now)
        return missing / self.rate if missing > TOLERANCE * self.capacity else 0.0

    def take(self, amount: float, now: float) -> None:
        """A negative amount gives back; what the bucket cannot hold is lost."""
        self._level = self.level(now) - amount

    def clamp(self, most: float, now: float) -> None:
        """There is no more than `most` in it, as somebody knows better."""
        self._level = min(self.level(now), most)

    def change(self, rate: float, capacity: float, now: float) -> None:
        """From now on another rate and capacity; a debt stays."""
        self.level(now)
        self.rate, self.capacity = rate, capacity
