"""A plan of a workload: what it would send, the tokens, what that costs and how long it takes.

    plan = plan_workload(desk, workload, "2026-11-22", wait=time.sleep)

Nothing is registered and nothing is spent: the dataset is loaded into a scratch folder, the ledger is read,
and the API is asked at most for token counts, which are free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from claude_pipeline.cache import HIT_RATE, cache_saving
from claude_pipeline.cache import choose as choose_cache
from claude_pipeline.catalog import UNITS_PER_USD, Lane, Tier
from claude_pipeline.chunk import ENTRY_OVERHEAD_BYTES
from claude_pipeline.dataset import columns_of
from claude_pipeline.plan import (
    NOTHING,
    Candidate,
    Counts,
    Estimate,
    Hours,
    Interval,
    Line,
    Method,
    Option,
    Plan,
    Sized,
    Terms,
    Turnaround,
    able,
    money,
    next_rung,
    weigh,
)
from claude_pipeline.request import RequestMaker
from claude_pipeline.stage.check import check_model, deprecations
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.draft import Draft, drafted, waiting
from claude_pipeline.stage.estimate import MEASURED, Estimator
from claude_pipeline.stage.forecast_file import keep_forecast
from claude_pipeline.stage.lane_choice import due_of, lane_now, too_long
from claude_pipeline.stage.past import BatchTimes, Past, read_past
from claude_pipeline.stage.plan_file import template_digest
from claude_pipeline.stage.prepare import Prepared
from claude_pipeline.stage.sample import Wait
from claude_pipeline.stage.submit import walls
from claude_pipeline.workload import Workload


@dataclass(frozen=True)
class _ToReserve:
    """What a wall must have room for."""

    workload: str
    snapshot: str
    reserve_units: int


def plan_workload(
    desk: Desk, workload: Workload, partition: str, *, tier: str | None = None, wait: Wait | None = None
) -> Plan:
    """Plan a partition as it would be prepared now. `wait` paces the calls of count_tokens; None: none are made.

    Raises:
        WorkloadInvalid, DatasetInvalid, PromptInvalid, CatalogMissing: what a run would refuse.
    """
    check_model(desk, workload)
    with drafted(desk, workload, partition) as draft:
        return _plan(desk, workload, draft, partition, tier or desk.settings.tier, wait, workload.deadline_hours)


def plan_prepared(desk: Desk, workload: Workload, prepared: Prepared) -> Plan:
    """Plan what of a prepared snapshot waits to be sent, without asking the API; the figures are kept for its report."""
    left_hours = (due_of(workload, prepared.snapshot) - desk.clock()) / timedelta(hours=1)
    with waiting(desk, workload, prepared) as draft:
        plan = _plan(desk, workload, draft, prepared.snapshot.partition, desk.settings.tier, None, left_hours)
    keep_forecast(desk, prepared.snapshot, plan)
    return plan


def _plan(
    desk: Desk, workload: Workload, draft: Draft, partition: str, tier_name: str, wait: Wait | None, left_hours: float
) -> Plan:
    """`left_hours` are those until the answers are wanted."""
    tier = desk.catalog.tier(tier_name)
    sizes = draft.duck.execute("SELECT count(*), sum(size_bytes)::BIGINT FROM wanted").fetchone()
    requests, size_bytes = sizes[0], sizes[1] or 0
    chunks = _chunks(workload, requests, size_bytes)
    estimators, sized = [], []
    past = read_past(desk, workload, template_digest(workload)) if requests else Past()
    for variant in workload.variants:
        known = draft.duck.execute("SELECT count(*) FROM wanted WHERE model = ?", [variant.model]).fetchone()
        if known[0]:
            maker = RequestMaker.of(variant, columns_of(draft.records))
            per_minute = tier.count_tokens_requests_per_minute
            estimators.append(Estimator(desk, variant, draft.duck, draft.records, maker, past, per_minute, wait))
            sized.append(estimators[-1].size())
    tiers = _tiers(desk, tier)
    per_batch = math.ceil(requests / chunks) if chunks else workload.chunk.requests
    times = BatchTimes(desk)
    candidates = _candidates(desk, workload, sized, estimators, times, per_batch)
    turnaround = candidates[0].turnaround if candidates else Turnaround(0.0, 0.0, True, "nothing to send")
    most = max((e.workload.max_tokens for e in estimators), default=0)
    geo, short = workload.params.get("inference_geo"), not too_long(desk, most)
    terms = Terms(workload.deadline_hours, per_batch, desk.settings.batches_in_flight, geo, short)
    options = weigh(candidates, tiers, terms) if sized else ()
    hours: dict[Lane, Hours] = {o.lane: o.hours for o in options if o.own and o.tier == tier.name}
    lane = lane_now(
        desk, workload, left_hours=left_hours, max_tokens=most, again=False,
        batch=hours.get("batch", NOTHING), turnaround=turnaround, realtime=lambda: hours["realtime"],
        wall=lambda: _wall(desk, workload, draft.snapshot, _worst(workload, sized, "realtime") / chunks),
    )  # fmt: skip
    return Plan(
        workload=workload.name,
        partition=partition,
        snapshot=draft.snapshot,
        model=name_of(workload),
        tier=tier.name,
        counts=_counts(draft, requests, size_bytes, chunks),
        tokens_in=_sum([s.tokens_in for s in sized]),
        tokens_out=_sum([s.tokens_out for s in sized]),
        turnaround=turnaround,
        options=options,
        next_tier=next_rung(options, tier, desk.catalog.tiers) if sized else None,
        deadline_hours=workload.deadline_hours,
        budget_usd=workload.budget_usd,
        reserve_usd=_worst(workload, sized, lane.lane),
        warnings=tuple(_warnings(desk, workload, tier, options, estimators, sized, lane.lane, asked=wait is not None)),
        count_tokens_calls=sum(e.calls for e in estimators),
        cache="; ".join(_cache(e.workload, s) for e, s in zip(estimators, sized, strict=True)),
        wanted_lane=workload.lane,
        lane=lane.lane,
        lane_why=lane.why,
    )


def _counts(draft: Draft, requests: int, size_bytes: int, chunks: int) -> Counts:
    return Counts(
        records=draft.total,
        requests=requests,
        asked=draft.counts.asked - requests,
        reused=draft.counts.reused,
        duplicates=draft.counts.duplicates,
        awaited=draft.counts.awaited,
        rejected=draft.counts.rejected,
        size_bytes=size_bytes,
        chunks=chunks,
    )


def _wall(desk: Desk, workload: Workload, snapshot: str | None, usd: float) -> str | None:
    """The sentence of the budget that stands before so many USD; of one chunk, as it is looked at before each."""
    wanted = _ToReserve(workload.name, snapshot or "", round(usd * UNITS_PER_USD))
    return desk.ledger.wall_before(wanted, walls(desk, workload), at=desk.clock())


def name_of(workload: Workload) -> str:
    """What stands for the workload's choice of models."""
    if workload.model:
        return workload.model
    return f"{'route' if workload.route else 'cascade'} of {', '.join(workload.models)}"


def _chunks(workload: Workload, requests: int, size_bytes: int) -> int:
    """As many as cutting would make, when requests are about equally long."""
    whole = size_bytes + requests * ENTRY_OVERHEAD_BYTES
    return max(math.ceil(requests / workload.chunk.requests), math.ceil(whole / workload.chunk.bytes))


def _tiers(desk: Desk, tier: Tier) -> list[Tier]:
    """The rungs of the tier's ladder whose limits are published, and the tier itself."""
    ladder = [t for t in desk.catalog.tiers if t.ladder == tier.ladder and t.batch.queued_requests is not None]
    return ladder if tier in ladder else [*ladder, tier]


def _candidates(
    desk: Desk, workload: Workload, sized: Sequence[Sized], estimators: Sequence[Estimator], times: BatchTimes, per_batch: int
) -> list[Candidate]:  # fmt: skip
    """The workload's own choice, then each other current model that could do all of it."""
    if not sized:
        return []
    first, today = sized[0].model, desk.clock().date()
    slowest = max((times.of(s.model, per_batch, first) for s in sized), key=lambda t: t.median_hours)
    note = (
        "" if not workload.cascade else "of a cascade only the first model is planned; what it passes on comes on top"
    )
    found = [Candidate(name_of(workload), True, tuple(sized), slowest, note)]
    most = max(s.tokens_in.line.total(1, s.load.largest_bytes) for s in sized)
    for model in desk.catalog.models:
        if [s.model.id for s in sized] == [model.id] or not able(
            desk.catalog, model, today, max_tokens=workload.max_tokens, most_input_tokens=most,
            structured=workload.output is not None, params=workload.params,
        ):  # fmt: skip
            continue
        instead = tuple(e.instead(s, model) for e, s in zip(estimators, sized, strict=True))
        note = "other models' answers are assumed to be about as long as the workload's model's"
        found.append(Candidate(model.id, False, instead, times.of(model, per_batch, first), note))
    return found


def _sum(estimates: Sequence[Estimate]) -> Estimate | None:
    """Of several models: all tokens, told by the least certain method."""
    if not estimates:
        return None
    if len(estimates) == 1:
        return estimates[0]
    tokens = Interval.exact(0.0)
    for estimate in estimates:
        tokens = tokens.plus(estimate.tokens)
    least = max(estimates, key=lambda e: list(Method).index(e.method))
    return Estimate(tokens, Line(0.0, 0.0, 0.0), least.method, "; ".join(dict.fromkeys(e.basis for e in estimates)))


def _cache(workload: Workload, s: Sized) -> str:
    """What the prompt cache does for a model's requests, or would do if it were on."""
    wanted = workload.model_copy(update={"cache": "auto"})
    choice = choose_cache(wanted, s.model, s.load.requests)
    if not choice.on:
        return choice.why
    saving = cache_saving(
        s.price, prefix_tokens=choice.prefix_tokens, requests=s.load.requests, geo=workload.params.get("inference_geo")
    )
    usd = saving.units / UNITS_PER_USD
    amount = f"saves about {money(usd)}" if usd >= 0 else f"costs about {money(-usd)} more"
    share = f"(at {HIT_RATE:.0%} hits, assumed; it pays from {saving.break_even_hit_rate:.0%} on)"
    if workload.cache == "auto":
        return f"{choice.why}; {amount} {share}"
    return f"off: cache: auto {amount} {share}, one request goes first"


def _worst(workload: Workload, sized: Sequence[Sized], lane: Lane) -> float:
    """USD that the wall would reserve: the bound of each size of request."""
    plain = workload.output is None and not workload.params
    units = sum(
        b.requests
        * s.price.upper_bound_units(
            size_bytes=math.ceil(b.size_bytes / b.requests),
            max_tokens=workload.max_tokens,
            lane=lane,
            geo=workload.params.get("inference_geo"),
            cached="cache_control" in str(workload.params) or workload.cache == "auto",
            plain=plain,
        )
        for s in sized
        for b in s.load.bins
    )
    return units / UNITS_PER_USD


def _warnings(
    desk: Desk, workload: Workload, tier: Tier, options: Sequence[Option], estimators: Sequence[Estimator],
    sized: Sequence[Sized], lane: Lane, *, asked: bool,
) -> list[str]:  # fmt: skip
    said = deprecations(desk, workload)
    own = next((o for o in options if o.own and o.lane == lane), None)
    cap = tier.monthly_spend_cap_usd
    if own is not None and cap is not None and own.usd.high > float(cap):
        said.append(f"tier {tier.name} may spend {money(float(cap))} a month; this may cost {money(own.usd.high)}")
    too_large = [
        s.load.largest_bytes for s in sized if s.load.largest_bytes + ENTRY_OVERHEAD_BYTES > workload.chunk.bytes
    ]
    if too_large:
        said.append(
            f"one request is {max(too_large):,} bytes, a chunk takes {workload.chunk.bytes:,}: a run would refuse it"
        )
    for s in sized:
        if s.price.assumed:
            said.append(f"the price of {s.model.id} is assumed in part ({', '.join(sorted(s.price.assumed))})")
    for estimator, s in zip(estimators, sized, strict=True):
        if asked and estimator.problem and s.tokens_in.method not in MEASURED:
            said.append(f"token counts could not be had ({estimator.problem}); the input is estimated without them")
    return list(dict.fromkeys(said))
