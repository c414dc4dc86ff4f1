"""A plan as rows for a terminal, as Markdown for Dagster, as JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from claude_pipeline.markdown import plain
from claude_pipeline.plan.decision import Plan, money, spelled
from claude_pipeline.plan.hours import Hours
from claude_pipeline.plan.interval import Interval
from claude_pipeline.plan.option import Option
from claude_pipeline.plan.tokens import Estimate


def rows(plan: Plan) -> list[tuple[str, str]]:
    """Label and value, for a table that people read."""
    c = plan.counts
    pairs = [
        ("snapshot", f"{plan.workload} {plan.snapshot or plan.partition + ' (not prepared yet)'}"),
        ("records", f"{c.records:,}"),
        ("requests to send", f"{c.requests:,} in {c.chunks:,} chunk{'s' * (c.chunks != 1)}, {c.size_bytes:,} bytes"),
        ("not asked", f"{c.asked:,} sent before, {c.reused:,} reused, {c.duplicates:,} duplicates, {c.awaited:,} awaited, "
                      f"{c.rejected:,} rejected"),
    ]  # fmt: skip
    if plan.tokens_in is None or plan.tokens_out is None:
        return [*pairs, ("advice", plan.recommendation)]
    batch, realtime = plan.option("batch"), plan.option("realtime")
    pairs += [
        ("input tokens", f"{plan.tokens_in.tokens}: {plan.tokens_in.basis}"),
        ("output tokens", f"{plan.tokens_out.tokens}: {plan.tokens_out.basis}"),
        ("cost, batch lane", _cost(batch.usd)),
        ("cost, real time", _cost(realtime.usd)),
        *([("prompt cache", plan.cache)] if plan.cache else []),
        ("at most", f"{money(plan.reserve_usd)}, the worst case that the wall counts ({LANE_NAMES[plan.lane]})"),
        ("time, batch lane", f"{_time(batch.hours)}; {plan.turnaround.basis}"),
        ("time, real time", _time(realtime.hours) if realtime.available else TOO_LONG),
        ("lane", f"{'batch' if plan.lane == 'batch' else 'real time'} (lane: {plan.wanted_lane}): {plan.lane_why}"),
    ]
    if plan.next_tier is not None:
        pairs.append((f"tier {plan.next_tier.name} instead of {plan.tier}", _next_tier(plan)))
    pairs.append(("deadline", f"{spelled(plan.deadline_hours)}: {_verdict(plan)}"))
    if plan.budget_usd is not None:
        pairs.append(("budget_usd", money(plan.budget_usd)))
    return [*pairs, ("advice", plan.recommendation)]


LANE_NAMES = {"batch": "batch lane", "realtime": "real time"}
TOO_LONG = "not possible: max_tokens is too much for one answer in real time"


def _verdict(plan: Plan) -> str:
    """Whether the deadline is met in the lane that is used."""
    match plan.chosen.verdict:
        case "met":
            return "met"
        case "likely" if plan.lane == "realtime":
            return "usually met, not when answers are much longer than expected"
        case "likely" if plan.rescued:
            return "met: what a slow batch has not answered by then moves to real time, if the budget allows"
        case "likely":
            return "usually met, not when a batch is slow"
        case "missed":
            return f"missed in {'the batch lane' if plan.lane == 'batch' else 'real time'}"
    return "not known"


def table(plan: Plan) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the alternatives: one row for each model and lane, hours for each tier."""
    tiers = list(dict.fromkeys(o.tier for o in plan.options))
    columns = ["model", "lane", "cost", "9 in 10 between", *(f"time, {tier}" for tier in tiers), "binds", "deadline"]
    lines: dict[tuple[str, str], list[Option]] = {}
    for option in plan.options:
        lines.setdefault((option.model, option.lane), []).append(option)
    found = []
    for (model, lane), options in lines.items():
        own = next((o for o in options if o.tier == plan.tier), options[0])
        found.append([
            f"{model}{' *' if own.own else ''}",
            "batch" if lane == "batch" else "real time",
            money(own.usd.expected),
            f"{money(own.usd.low)} to {money(own.usd.high)}",
            *(_short(next(o.hours for o in options if o.tier == tier)) for tier in tiers),
            own.hours.binding,
            own.verdict,
        ])  # fmt: skip
    return columns, found


def notes(plan: Plan) -> list[str]:
    """What must be known to read the table, one sentence each."""
    said = dict.fromkeys(o.note for o in plan.options if o.note)
    return [
        "* the workload's model; binds and deadline are those of tier " + plan.tier,
        *said,
    ]


def markdown(plan: Plan) -> str:
    """Figures and alternatives."""
    figures = _markdown(["", ""], rows(plan))
    if not plan.options:
        return figures
    columns, lines = table(plan)
    return "\n\n".join(
        [*(f"**{plain(warning)}**" for warning in plan.warnings), figures, _markdown(columns, lines), *notes(plan)]
    )


def numbers(plan: Plan) -> dict[str, float | int]:
    """What plots over time; only what is known."""
    if plan.tokens_in is None or plan.tokens_out is None:
        return {"planned_requests": 0, "planned_cost_usd": 0.0}
    chosen = plan.chosen
    found: dict[str, float | int | None] = {
        "planned_requests": plan.counts.requests,
        "planned_input_tokens": round(plan.tokens_in.tokens.expected),
        "planned_output_tokens": round(plan.tokens_out.tokens.expected),
        "planned_cost_usd": chosen.usd.expected,
        "planned_cost_low_usd": chosen.usd.low,
        "planned_cost_high_usd": chosen.usd.high,
        "planned_hours": chosen.hours.expected,
    }
    return {name: value for name, value in found.items() if value is not None}


def document(plan: Plan) -> dict[str, Any]:
    """Everything, under names that stay."""
    c = plan.counts
    return {
        "workload": plan.workload,
        "partition": plan.partition,
        "snapshot": plan.snapshot,
        "model": plan.model,
        "lane": plan.lane,
        "lane_wanted": plan.wanted_lane,
        "lane_why": plan.lane_why,
        "tier": plan.tier,
        "records": c.records,
        "requests": c.requests,
        "sent_before": c.asked,
        "reused": c.reused,
        "duplicates": c.duplicates,
        "awaited": c.awaited,
        "rejected": c.rejected,
        "size_bytes": c.size_bytes,
        "chunks": c.chunks,
        "input_tokens": _estimate(plan.tokens_in),
        "output_tokens": _estimate(plan.tokens_out),
        "cost_usd": _interval(plan.chosen.usd) if plan.options else None,
        "batch_cost_usd": _interval(plan.option("batch").usd) if plan.options else None,
        "realtime_cost_usd": _interval(plan.option("realtime").usd) if plan.options else None,
        "cache": plan.cache or None,
        "reserve_usd": plan.reserve_usd,
        "budget_usd": plan.budget_usd,
        "turnaround": {
            "median_hours": plan.turnaround.median_hours,
            "p90_hours": plan.turnaround.p90_hours,
            "assumed": plan.turnaround.assumed,
            "basis": plan.turnaround.basis,
        },
        "deadline_hours": plan.deadline_hours,
        "deadline": plan.chosen.verdict if plan.options else "met",
        "next_tier": None if plan.next_tier is None else vars(plan.next_tier),
        "recommendation": plan.recommendation,
        "warnings": list(plan.warnings),
        "count_tokens_calls": plan.count_tokens_calls,
        "alternatives": [_option(o) for o in plan.options],
        "notes": notes(plan),
    }


def _option(o: Option) -> dict[str, Any]:
    return {
        "model": o.model,
        "lane": o.lane,
        "tier": o.tier,
        "cost_usd": _interval(o.usd),
        "hours": o.hours.expected,
        "cautious_hours": o.hours.cautious,
        "binding": o.hours.binding,
        "deadline": o.verdict,
        "own": o.own,
        "available": o.available,
        "note": o.note or None,
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {**_interval(estimate.tokens), "method": estimate.method.value, "basis": estimate.basis}


def _interval(interval: Interval) -> dict[str, float]:
    return {"expected": interval.expected, "low": interval.low, "high": interval.high}


def _cost(usd: Interval) -> str:
    return f"{money(usd.expected)} ({money(usd.low)} to {money(usd.high)})"


def _time(hours: Hours) -> str:
    if hours.expected is None:
        return hours.binding
    slow = f", {spelled(hours.cautious)} if it is slow" if hours.cautious != hours.expected else ""
    return f"{spelled(hours.expected)}{slow}; {hours.binding} decides"


def _short(hours: Hours) -> str:
    return "?" if hours.expected is None else spelled(hours.expected)


def _next_tier(plan: Plan) -> str:
    above = plan.next_tier
    assert above is not None
    if above.batch_hours is None or above.batch_hours_saved is None:
        return f"its limits are not published; {above.qualify}"
    said = f"batch lane {spelled(above.batch_hours)}, {_saved(above.batch_hours_saved)}"
    if above.realtime_hours is not None and above.realtime_hours_saved is not None:
        said += f"; real time {spelled(above.realtime_hours)}, {_saved(above.realtime_hours_saved)}"
    return f"{said}; {above.qualify}"


def _saved(hours: float) -> str:
    return f"{spelled(hours)} less" if hours * 3600 >= 1 else "no change"


def _markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    made = [columns, ["---"] * len(columns), *lines]
    return "\n".join("| " + " | ".join(plain(cell) for cell in line) + " |" for line in made)
