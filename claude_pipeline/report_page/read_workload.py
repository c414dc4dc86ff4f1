"""The facts of a workload over its snapshots."""

from __future__ import annotations

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.duckdb_pool import leased
from claude_pipeline.errors import UsageError
from claude_pipeline.ledger import SnapshotRow, Spend
from claude_pipeline.picture import Flow
from claude_pipeline.report_page.answer import KIND
from claude_pipeline.report_page.bill import bill_of, days_of, flows_of, hours_of, pace_of, planned_of
from claude_pipeline.report_page.fact import ANSWERED, CUT, REFUSED, UNFIT, SnapshotLine, WorkloadFacts
from claude_pipeline.report_page.read import asked_of, batches_of, merged_rows
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.forecast_file import kept_forecasts
from claude_pipeline.stage.quality import quality_of
from claude_pipeline.workload import Workload

SNAPSHOTS_MAX = 60  # newest ones that have a line of their own


def read_workload_facts(desk: Desk, workload: Workload) -> WorkloadFacts:
    """All that its page says, about its newest snapshots.

    Raises:
        UsageError: it has never run.
    """
    every = desk.ledger.snapshots(workload.name)
    if not every:
        raise UsageError(f"{workload.name} has no snapshot yet; `claude-pipeline run {workload.name}` makes one")
    newest = every[-SNAPSHOTS_MAX:]
    kinds = _kinds(desk, workload, [s.id for s in newest if s.merged_at is not None and s.records])
    lines: list[SnapshotLine] = []
    days: list[Spend] = []
    hours: list[float] = []
    flows: list[Flow] = []
    realtime_usd = 0.0
    for snapshot in reversed(newest):
        chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
        spent = desk.ledger.spent(workload.name, snapshot=snapshot.id)
        batches = batches_of(desk, chunks)
        planned = planned_of(kept_forecasts(desk, snapshot), chunks)
        pace = pace_of(chunks, batches, spent)
        days += spent
        hours += hours_of(batches.values())
        flows += flows_of(chunks, batches, spent)
        realtime_usd += bill_of(spent, None, float(desk.catalog.limits.batch_price_factor)).realtime_usd
        found = kinds.get(snapshot.id, {})
        lines.append(
            SnapshotLine(
                snapshot=snapshot.id,
                merged_at=snapshot.merged_at,
                state=snapshot.state.value,
                records=snapshot.records,
                good=found.get(ANSWERED, 0),
                unfit=sum(found.get(kind, 0) for kind in (REFUSED, CUT, UNFIT)),
                dead=snapshot.dead or 0,
                rejected=snapshot.rejected or 0,
                usd=sum(s.cost_units for s in spent) / UNITS_PER_USD,
                planned_usd=planned.usd if planned is not None else None,
                minutes=pace.minutes,
                accuracy=_accuracy(desk, workload, snapshot),
                page=desk.home.report(workload.name, snapshot.id).exists(),
            )
        )
    return WorkloadFacts(
        workload=workload.name,
        made_at=desk.clock(),
        asked=asked_of(workload),
        lines=tuple(lines),
        days=days_of(days),
        hours=tuple(hours),
        flows=tuple(flows),
        realtime_usd=realtime_usd,
    )


def _accuracy(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> float | None:
    return quality_of(desk, workload, snapshot).accuracy if snapshot.merged_at is not None else None


def _kinds(desk: Desk, workload: Workload, snapshots: list[str]) -> dict[str, dict[str, int]]:
    """Records by snapshot and kind of outcome, in one pass."""
    if not snapshots:
        return {}
    rows = merged_rows(desk, workload, *snapshots)
    found: dict[str, dict[str, int]] = {}
    with leased(desk.home.scratch()) as duck:
        for snapshot, kind, count in duck.execute(
            f"SELECT snapshot, {KIND}, count(*) FROM {rows} GROUP BY ALL"
        ).fetchall():
            found.setdefault(snapshot, {})[kind] = count
    return found
