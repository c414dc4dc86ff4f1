"""A plan: the figures, the alternatives, and one sentence of advice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claude_pipeline.catalog import Lane, Tier
from claude_pipeline.plan.hours import Hours, Turnaround
from claude_pipeline.plan.option import NOT_YET, Option
from claude_pipeline.plan.tokens import Estimate

CHEAPER_SHARE = 0.7  # of the workload's cost, under which another model is worth a word


@dataclass(frozen=True)
class Counts:
    """How a snapshot's records come to requests, and requests to chunks."""

    records: int
    requests: int  # to be sent
    asked: int  # sent by this snapshot before: on their way, or answered
    reused: int
    duplicates: int
    awaited: int
    rejected: int
    size_bytes: int  # of the requests to be sent
    chunks: int


@dataclass(frozen=True)
class NextTier:
    """What the next rung of the ladder would change, in hours; None where one of the two is not known."""

    name: str
    batch_hours: float | None
    batch_hours_saved: float | None
    realtime_hours: float | None
    realtime_hours_saved: float | None
    qualify: str


@dataclass(frozen=True)
class Plan:
    """What a snapshot would cost and how long it would take, before anything is spent."""

    workload: str
    partition: str
    snapshot: str | None  # None: these records were never prepared
    model: str
    tier: str
    counts: Counts
    tokens_in: Estimate | None  # None: nothing to send
    tokens_out: Estimate | None
    turnaround: Turnaround
    options: tuple[Option, ...]
    next_tier: NextTier | None
    deadline_hours: float
    budget_usd: float | None
    reserve_usd: float  # the worst case, which the wall counts
    warnings: tuple[str, ...]
    count_tokens_calls: int
    cache: str = ""  # what the prompt cache does, or would save

    def option(self, lane: Lane, *, tier: str | None = None) -> Option:
        """The workload's own model in a lane."""
        wanted = tier or self.tier
        return next(o for o in self.options if o.own and o.lane == lane and o.tier == wanted)

    @property
    def recommendation(self) -> str:
        return recommend(self)


def recommend(plan: Plan) -> str:
    """One sentence: what to do, what it costs, whether the deadline holds, and what would help."""
    if not plan.counts.requests:
        return "Nothing to send: every record is answered, on its way or rejected."
    batch, realtime = plan.option("batch"), plan.option("realtime")
    cost = f"about {money(batch.usd.expected)} ({money(batch.usd.low)} to {money(batch.usd.high)})"
    deadline = f"the deadline of {spelled(plan.deadline_hours)}"
    match batch.verdict:
        case "met":
            said = f"Send it in the batch lane: {cost} with {batch.model}, in about {spelled(batch.hours.expected)}, and {deadline} is met"
        case "likely":
            said = (
                f"Send it in the batch lane: {cost} with {batch.model}, usually in about {spelled(batch.hours.expected)}, but "
                f"{spelled(batch.hours.cautious)} are possible and would pass {deadline}{_faster(plan, realtime)}"
            )
        case "missed":
            said = (
                f"The batch lane would take about {spelled(batch.hours.expected)} ({batch.hours.binding}) and miss {deadline}, for "
                f"{cost} with {batch.model}{_faster(plan, realtime)}"
            )
        case _:
            said = f"Send it in the batch lane: {cost} with {batch.model}; how long it takes on tier {plan.tier} is not known"
    return f"{said}{_money_matters(plan, batch)}."


def _faster(plan: Plan, realtime: Option) -> str:
    """What would meet the deadline: another tier, else the other lane."""
    better = [o for o in plan.options if o.own and o.lane == "batch" and o.verdict == "met"]
    if better:
        return f"; tier {better[0].tier} would need {spelled(better[0].hours.expected)}"
    if realtime.verdict in ("met", "likely"):
        return (
            f"; real time would need {spelled(realtime.hours.expected)} for {money(realtime.usd.expected)} ({NOT_YET})"
        )
    return "; split the dataset or allow more time"


def _money_matters(plan: Plan, batch: Option) -> str:
    wall = plan.budget_usd
    cheaper = min(
        (
            o
            for o in plan.options
            if not o.own and o.lane == "batch" and o.tier == plan.tier and o.verdict == batch.verdict
        ),
        key=lambda o: o.usd.expected,
        default=None,
    )
    said = ""
    if wall is not None and batch.usd.expected > wall:
        said += f"; budget_usd {money(wall)} would stop it on the way"
    elif wall is not None and batch.usd.high > wall:
        said += f"; it may pass budget_usd {money(wall)}, which would stop it on the way"
    if cheaper is not None and cheaper.usd.expected < CHEAPER_SHARE * batch.usd.expected:
        said += f"; {cheaper.model} would do it for {money(cheaper.usd.expected)}, if its answers are good enough"
    return said


def next_rung(options: Sequence[Option], tier: Tier, tiers: Sequence[Tier]) -> NextTier | None:
    """The rung above `tier` on its ladder; None on the top one. `tiers` is in the order of the ladders."""
    ladder = [t for t in tiers if t.ladder == tier.ladder and t.name != "evaluation"]
    names = [t.name for t in ladder]
    if tier.name not in names:
        return None
    place = names.index(tier.name) + 1
    if place >= len(ladder):
        return None
    above = ladder[place]

    def of(lane: Lane, name: str) -> Hours | None:
        return next((o.hours for o in options if o.own and o.lane == lane and o.tier == name), None)

    def saved(lane: Lane) -> tuple[float | None, float | None]:
        now, then = of(lane, tier.name), of(lane, above.name)
        if now is None or then is None or now.expected is None or then.expected is None:
            return None, None
        return then.expected, now.expected - then.expected

    return NextTier(above.name, *saved("batch"), *saved("realtime"), above.qualify + _half_of(tier))


def _half_of(tier: Tier) -> str:
    """In figures what an increase asks for: half of a limit used (the ladder in force)."""
    queued, calls = tier.batch.queued_requests, tier.batch.requests_per_minute
    if tier.ladder != "current" or queued is None or calls is None:
        return ""
    return f": {queued // 2:,} requests queued, or {calls // 2:,} batch calls a minute, on tier {tier.name}"


def money(usd: float) -> str:
    """`$12.40`, `$0.0031`: two decimals, or two digits that count."""
    if usd >= 1 or usd == 0:
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if usd >= 0.001 else f"${usd:.2g}" if usd >= 0.0001 else f"${usd:.6f}"


def spelled(hours: float | None) -> str:
    """As people say it: `1 h`, `2 h 30 min`, `4 min`, `20 s`."""
    if hours is None:
        return "an unknown time"
    seconds = round(hours * 3600)
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes >= 48 * 60:
        return f"{minutes / 60 / 24:.1f} days"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
