"""The weather of a seed: what goes wrong and how often, and the faults the API may be told to have.

The API's faults are the simulator's own, ordered for exactly the call that they strike. Three are of
the way to it: a connection refused, a process that dies in the middle of a call, and a create that
is taken in only after its client has gone.

Not in the weather, because nobody could know better: results whose lines cannot be read (their cost
is unknown), our own batches deleted at the API, and a list that lies about the first batch ever.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SETTLE_SECONDS = 60.0
LATE_SECONDS = 30.0  # an abandoned create is accepted at most so much later
LAG_SECONDS = 15.0  # a new batch is missing from the list for at most so long
SKEW_SECONDS = 5.0  # two clocks differ by at most twice this: in all less than the settle time

REFUSED = "connection refused"
LATE = "accepted late"
LYING = frozenset({"list empty", "list short"})
OTHER_WORKSPACE = "other workspace"

OFTEN = {"create": 3.0, "retrieve": 3.0, "results": 1.5}  # of what is called seldom
RARE = frozenset({"reconcile.after_absent"})  # points that few storms come to
Order = Mapping[str, Any]
# endpoint -> name of a fault -> (weight, what the simulator is told)
FAULTS: dict[str, dict[str, tuple[int, Order]]] = {
    "create": {
        "lost after accept": (8, {"kind": "lost_after"}),
        "reset before": (4, {"kind": "reset_before"}),
        "500 after accept": (5, {"kind": "500", "accepted": True}),
        "529 after accept": (2, {"kind": "529", "accepted": True}),
        "408 after accept": (1, {"kind": "408", "accepted": True}),
        "503 before": (3, {"kind": "503"}),
        "409 before": (1, {"kind": "409"}),
        "429": (3, {"kind": "429", "retry_after": 7.0}),
        "400": (1, {"kind": "400"}),
        "answer is html": (1, {"kind": "bad_body", "form": "html"}),
        "answer is cut": (2, {"kind": "bad_body", "form": "cut"}),
        "answer has no id": (1, {"kind": "bad_body", "form": "no_id"}),
        LATE: (8, {}),
        REFUSED: (2, {}),
    },
    "list": {
        "list empty": (3, {"kind": "empty_list"}),
        "list short": (3, {"kind": "short_list"}),
        OTHER_WORKSPACE: (2, {"kind": "other_workspace"}),
        "404": (1, {"kind": "404"}),
        "500": (2, {"kind": "500"}),
        "429": (1, {"kind": "429"}),
        "lost answer": (2, {"kind": "lost_after"}),
        "answer is cut": (1, {"kind": "bad_body", "form": "cut"}),
        "answer has no ids": (1, {"kind": "bad_body", "form": "no_id"}),
        REFUSED: (1, {}),
    },
    "retrieve": {
        "404": (3, {"kind": "404"}),
        "500": (2, {"kind": "500"}),
        OTHER_WORKSPACE: (1, {"kind": "other_workspace"}),
        "lost answer": (1, {"kind": "lost_after"}),
        "answer is empty": (1, {"kind": "bad_body", "form": "empty"}),
    },
    "results": {
        "results cut": (3, {"kind": "cut_results", "share": 0.6}),
        "results cut, nobody says so": (3, {"kind": "cut_results", "share": 0.6, "form": "clean"}),
        "results empty": (3, {"kind": "cut_results", "share": 0.0, "form": "clean"}),
        "lines twice": (2, {"kind": "duplicate_lines", "share": 0.5}),
        "foreign lines": (1, {"kind": "foreign_lines", "share": 0.5}),
        "lines missing": (2, {"kind": "missing_lines", "share": 0.5}),
        "404": (1, {"kind": "404"}),
        "500": (1, {"kind": "500"}),
        OTHER_WORKSPACE: (1, {"kind": "other_workspace"}),
        "lost answer": (1, {"kind": "lost_after"}),
    },
    "cancel": {},
}


@dataclass(frozen=True)
class Weather:
    """How often things happen, in a share of all points or calls; all of one seed's dice."""

    crash: float
    crash_named: float
    crash_grudge: float  # at a sixth of the named points, another one in each seed
    grudge: int
    crash_call: float  # in the middle of a call
    kill: float  # of another process, at any instant
    pause: float
    pauses: tuple[float, ...]
    fault: float
    ledger_locked: float
    foreign: float  # at each look at the clock of somebody else: a batch with our counts
    foreign_gone: float  # and the deletion of one
    skew_seconds: float = SKEW_SECONDS

    @classmethod
    def of(cls, chance: random.Random) -> Weather:
        """Most seeds have some of everything; some have much of one thing."""
        rough = [chance.choice((0.5, 1.0, 1.0, 2.0)) for _ in range(5)]
        return cls(
            crash=0.012 * rough[0],
            crash_named=0.05 * rough[0],
            crash_grudge=0.35 * rough[0],
            grudge=chance.randrange(6),
            crash_call=0.06 * rough[0],
            kill=0.004 * rough[0],
            pause=0.02 * rough[1],
            pauses=(5.0, 1.3 * SETTLE_SECONDS, 3 * SETTLE_SECONDS, 20 * SETTLE_SECONDS),
            fault=0.22 * rough[2],
            ledger_locked=0.01 * rough[3],
            foreign=0.25 * rough[4],
            foreign_gone=0.08 * rough[4],
        )


def pick(endpoint: str, weather: Weather, chance: random.Random) -> tuple[str, Order] | None:
    """The fault that strikes a call, if one does."""
    known = FAULTS.get(endpoint, {})
    if not known or chance.random() >= weather.fault * OFTEN.get(endpoint, 1.0):
        return None
    [name] = chance.choices(list(known), [weight for weight, _ in known.values()])
    return name, known[name][1]


def fate_of_batch(chance: random.Random, *, calm: bool) -> list[Order]:
    """How long a new batch takes, when a list shows it, and what becomes of its lines."""
    orders: list[Order] = [{"kind": "take", "seconds": round(chance.uniform(20, 180), 1)}]
    if chance.random() < 0.3:
        orders.append({"kind": "list_lag", "seconds": round(chance.uniform(1, LAG_SECONDS), 1)})
    if calm:
        return orders
    if chance.random() < 0.35:
        kind = chance.choice(("overloaded_error", "api_error", "api_error", "invalid_request_error"))
        orders.append({"kind": "line_error", "share": 0.4, "error_type": kind, "seed": chance.randrange(1_000)})
    if chance.random() < 0.05:
        orders.append({"kind": "expire", "share": 0.5})
    return orders
