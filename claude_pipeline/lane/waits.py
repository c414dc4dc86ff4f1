"""How long the real-time lane waits for what: its habits in one place, so that whoever runs it elsewhere may have others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waits:
    """All in seconds."""

    connect: float = 30.0  # to a connection, names and TLS included
    backoff: float = 0.5  # of a retry, doubled with each try
    backoff_most: float = 60.0
    storm: float = 5.0  # of the first pause while nothing but failures come, doubled with each
    storm_most: float = 60.0
    growth: float = 2.0  # between two growths of what may be in flight
    calm: float = 5.0  # from a cut of that to its next growth
    answer_least: float = 60.0  # an answer is waited for so long at the least, once some have come
    answer_most: float = 600.0  # and so long at the most: the SDK's own time-out
    drain: float = 30.0  # a person who stops it waits so long for what is in flight
    beat: float = 2.0  # between two heartbeats of a process that shares the limits
    progress: float = 10.0  # between two lines about it in a run's log


USUAL = Waits()
