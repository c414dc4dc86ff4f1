"""How a simulator is set up: one value, used by the command line, the tests and the demo alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of one simulator; every one has a default that suits a test.

    >>> Options(speed=3600, batch_seconds=(60, 600), error_rate=0.02)
    """

    host: str = "127.0.0.1"  # only ever listens here
    port: int = 0  # 0: a free one
    state: Path | None = None  # directory kept between starts; None: a temporary one, removed at the end
    seed: int = 0  # same seed and same calls, same answers, durations and faults
    speed: float = 1.0  # simulated seconds per real second
    paused: bool = False  # the clock moves only by `advance`
    start: datetime | None = None  # where a new clock begins; None: now
    batch_seconds: tuple[float, float] | None = None  # least and most simulated seconds of a batch; None: by model
    message_seconds: float = 0.0  # real seconds that a Haiku message takes at the median; others by pace.py
    ramp_minutes: float = 0.0  # simulated minutes of use until a model pool gives all of its limit; 0: at once
    tier: str = "start"  # start, build, scale, custom, or tier1 to tier4 of the ladder until 2026-06
    error_rate: float = 0.0  # share of questions that come back overloaded the first time they are asked
    permanent_error_rate: float = 0.0  # share of questions that come back invalid each time
    thinking_rate: float = 0.0  # share of answers that begin with a thinking block
    faults: Path | Sequence[Mapping[str, Any] | str] = ()  # rules, see fault.py; or a YAML file of them

    def __post_init__(self) -> None:
        for name in ("error_rate", "permanent_error_rate", "thinking_rate"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it is a share, from 0 to 1")
        for name in ("speed", "message_seconds", "ramp_minutes"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a number, at least 0")
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port is {self.port}; it is a number from 1 to 65535, or 0 for a free one")
        if self.batch_seconds is not None and not 0 <= self.batch_seconds[0] <= self.batch_seconds[1] < math.inf:
            raise ValueError(f"batch_seconds is {self.batch_seconds}; give the least, then the most seconds")
