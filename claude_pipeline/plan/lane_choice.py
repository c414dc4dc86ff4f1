"""Which lane requests go through, and why: pure decisions over hours that are left and hours that are needed.

The batch lane costs half and pays nothing twice, whatever crashes; real time is for what cannot wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from claude_pipeline.catalog import Lane
from claude_pipeline.plan.decision import spelled
from claude_pipeline.plan.hours import Hours

# A pilot is waited for by a person.
PILOT_HOURS = 0.25
# From asking the API to cancel a batch until it has ended (assumed: not documented).
CANCEL_HOURS = 0.25
# How much longer than expected the rest of a batch may take in real time.
RESCUE_MARGIN = 1.5


@dataclass(frozen=True)
class LaneChoice:
    """A lane, and the reason in a clause for people."""

    lane: Lane
    why: str


def choose_lane(
    wanted: Literal["batch", "realtime", "auto"],
    *,
    left_hours: float,
    batch: Hours,
    realtime: Hours,
    wall: str | None,
) -> LaneChoice:
    """The cheapest lane that meets the deadline; where none does, the faster one.

    `left_hours` are left until the deadline (less than nothing: it has passed), `wall` is the sentence of
    the budget that stands before real time. What a batch usually takes decides, not what it may take: the
    rest of one that takes longer is moved to real time before the deadline (`must_rescue`).
    """
    if wanted != "auto":
        return LaneChoice(wanted, f"lane: {wanted} asks for it")
    left = f"{spelled(left_hours)} left" if left_hours > 0 else "it has passed"
    if batch.expected is not None and batch.expected <= left_hours:
        return LaneChoice("batch", f"half the price, and in time: about {spelled(batch.expected)}, {left}")
    if realtime.expected is None:
        return LaneChoice("batch", f"half the price; of real time {realtime.binding}")
    needs = "an unknown time" if batch.expected is None else spelled(batch.expected)
    if batch.expected is not None and realtime.expected >= batch.expected:
        why = f"no lane meets the deadline ({left}), and real time is no faster: {spelled(realtime.expected)}"
        return LaneChoice("batch", f"{why} ({realtime.binding}), a batch {needs}")
    if wall is not None:
        return LaneChoice("batch", f"a batch ({needs}) misses the deadline ({left}), but real time {wall}")
    return LaneChoice(
        "realtime", f"a batch ({needs}) misses the deadline ({left}); real time needs {spelled(realtime.expected)}"
    )


def must_rescue(now: datetime, due: datetime, realtime: Hours, *, usual: datetime) -> bool:
    """Whether a batch that has not ended must be given up now, so that the rest of it is answered by `due`.

    It is left alone until `usual`, when it would usually have ended: where real time needs as long as the deadline
    allows, the way that was chosen would else be given up at once.
    """
    if realtime.expected is None:
        return False
    needed = CANCEL_HOURS + RESCUE_MARGIN * realtime.expected
    return now >= max(due - timedelta(hours=needed), usual)
