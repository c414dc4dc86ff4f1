"""What was planned when a snapshot's requests were cut, kept as `plan-<n>.json` beside the plan file, so that a report
can hold the bill against it. The first plan of a number stands: later ones see only what is left to send."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import orjson

from claude_pipeline.home import written
from claude_pipeline.ledger import SnapshotRow
from claude_pipeline.plan import Plan
from claude_pipeline.stage.desk import Desk


@dataclass(frozen=True)
class Forecast:
    """Figures of one plan number; USD with the bounds that hold 9 times in 10, hours where they are known."""

    plan_number: int
    requests: int
    usd: float  # in the batch lane
    usd_low: float
    usd_high: float
    realtime_usd: float
    realtime_usd_low: float
    realtime_usd_high: float
    hours: float | None


def keep_forecast(desk: Desk, snapshot: SnapshotRow, plan: Plan) -> None:
    """Write the figures of a plan that has something to send, unless its number has figures already."""
    path = desk.home.requests(snapshot.workload, snapshot.id, f"plan-{snapshot.plan_number}.json")
    if not plan.options or path.exists():
        return
    batch, realtime = plan.option("batch"), plan.option("realtime")
    found = Forecast(
        plan_number=snapshot.plan_number,
        requests=plan.counts.requests,
        usd=batch.usd.expected,
        usd_low=batch.usd.low,
        usd_high=batch.usd.high,
        realtime_usd=realtime.usd.expected,
        realtime_usd_low=realtime.usd.low,
        realtime_usd_high=realtime.usd.high,
        hours=batch.hours.expected,
    )
    with written(path) as temporary:
        temporary.write_bytes(orjson.dumps(asdict(found)))


def kept_forecasts(desk: Desk, snapshot: SnapshotRow) -> list[Forecast]:
    """In the order of their plans; none where the snapshot was prepared without a plan being made."""
    folder = desk.home.requests(snapshot.workload, snapshot.id, "plan").parent
    found = [Forecast(**orjson.loads(path.read_bytes())) for path in folder.glob("plan-*.json")]
    return sorted(found, key=lambda forecast: forecast.plan_number)
