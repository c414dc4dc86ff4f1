"""A plan: the figures, the alternatives, and one sentence of advice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from claude_pipeline.catalog import Lane, Tier
from claude_pipeline.plan.hours import Hours, Turnaround
from claude_pipeline.plan.option import Option
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
    reserve_usd: float  # the worst case, which the wall counts, in the lane that is used
    warnings: tuple[str, ...]
    count_tokens_calls: int
    cache: str = ""  # what the prompt cache does, or would save
    wanted_lane: Literal["batch", "realtime", "auto"] = "auto"  # the workload's word
    lane: Lane = "batch"  # what that means now
    lane_why: str = ""  # a clause for people

    @property
    def chosen(self) -> Option:
        """The workload's own model in the lane that will be used."""
        return self.option(self.lane)

    @property
    def rescued(self) -> bool:
        """Whether what a slow batch has not answered is moved to real time before the deadline."""
        realtime = self.option("realtime")
        return self.wanted_lane == "auto" and realtime.available and realtime.hours.expected is not None

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
    said = _by_batch(plan) if plan.lane == "batch" else _in_real_time(plan)
    return f"{said}{_money_matters(plan)}."


def _by_batch(plan: Plan) -> str:
    batch = plan.chosen
    cost, deadline = _cost(batch), f"the deadline of {spelled(plan.deadline_hours)}"
    usual = spelled(batch.hours.expected)
    match batch.verdict:
        case "met":
            return f"Send it in the batch lane: {cost}, in about {usual}, and {deadline} is met"
        case "likely":
            said = f"Send it in the batch lane: {cost}, usually in about {usual}, but {spelled(batch.hours.cautious)} are possible"
            if plan.rescued:
                return f"{said}: what is not answered near {deadline} moves to real time, at twice the price"
            return f"{said} and would pass {deadline}{_faster(plan)}"
        case "missed":
            return f"The batch lane would take about {usual} ({batch.hours.binding}) and miss {deadline}, for {cost}{_faster(plan)}"
    return f"Send it in the batch lane: {cost}; how long it takes on tier {plan.tier} is not known"


def _in_real_time(plan: Plan) -> str:
    realtime, batch = plan.chosen, plan.option("batch")
    cost, deadline = _cost(realtime), f"the deadline of {spelled(plan.deadline_hours)}"
    instead = f"as batches it would cost {money(batch.usd.expected)} and take {_about(batch.hours)}"
    match realtime.verdict:
        case "met" | "likely":
            usually = "" if realtime.verdict == "met" else "usually "
            return (
                f"Ask it in real time: {cost}, in {_about(realtime.hours)}, and {deadline} is {usually}met; {instead}"
            )
        case "missed":
            how_long = f"{_about(realtime.hours)} ({realtime.hours.binding})"
            return f"Real time would take {how_long} and miss {deadline}, for {cost}; {instead}"
    return f"Ask it in real time: {cost}; how long it takes on tier {plan.tier} is not known; {instead}"


def _cost(option: Option) -> str:
    usd = option.usd
    return f"about {money(usd.expected)} ({money(usd.low)} to {money(usd.high)}) with {option.model}"


def _about(hours: Hours) -> str:
    return "an unknown time" if hours.expected is None else f"about {spelled(hours.expected)}"


def _faster(plan: Plan) -> str:
    """What would meet the deadline: another tier, else the other lane."""
    better = [o for o in plan.options if o.own and o.lane == "batch" and o.verdict == "met"]
    if better:
        return f"; tier {better[0].tier} would need {spelled(better[0].hours.expected)}"
    realtime = plan.option("realtime")
    if realtime.available and realtime.verdict in ("met", "likely"):
        # Under `auto` it was looked at and not chosen: the reason says why not.
        way = plan.lane_why if plan.wanted_lane == "auto" else "lane: auto or lane: realtime"
        return f"; real time would need {spelled(realtime.hours.expected)} for {money(realtime.usd.expected)} ({way})"
    return "; split the dataset or allow more time"


def _money_matters(plan: Plan) -> str:
    wall, chosen = plan.budget_usd, plan.chosen
    cheaper = min(
        (
            o
            for o in plan.options
            if not o.own and o.lane == chosen.lane and o.tier == plan.tier and o.verdict == chosen.verdict
        ),
        key=lambda o: o.usd.expected,
        default=None,
    )
    said = ""
    if wall is not None and chosen.usd.expected > wall:
        said += f"; budget_usd {money(wall)} would stop it on the way"
    elif wall is not None and chosen.usd.high > wall:
        said += f"; it may pass budget_usd {money(wall)}, which would stop it on the way"
    if cheaper is not None and cheaper.usd.expected < CHEAPER_SHARE * chosen.usd.expected:
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
