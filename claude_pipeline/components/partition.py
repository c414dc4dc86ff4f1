"""The two partition levels of a workload: snapshots in time, and chunks by name. They never cross."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import dagster as dg

from claude_pipeline.workload import Workload


def snapshot_partitions(workload: Workload) -> dg.TimeWindowPartitionsDefinition:
    """Partitions at the workload's cadence, the running one included."""
    start, zone = workload.start_date, workload.timezone
    match workload.cadence:
        case "hourly":
            return dg.HourlyPartitionsDefinition(f"{start:%Y-%m-%d}-00:00", end_offset=1, timezone=zone)
        case "daily":
            return dg.DailyPartitionsDefinition(f"{start:%Y-%m-%d}", end_offset=1, timezone=zone)
        case "weekly":
            return dg.WeeklyPartitionsDefinition(f"{start:%Y-%m-%d}", end_offset=1, timezone=zone)
        case "monthly":
            return dg.MonthlyPartitionsDefinition(f"{start:%Y-%m-01}", end_offset=1, timezone=zone)
        case unknown:
            assert_never(unknown)


def add_chunk_partitions(instance: dg.DagsterInstance, workload: Workload, keys: Iterable[str]) -> None:
    """Add what is missing of `keys`, each once; another run may be adding the same."""
    name = f"{workload.name}_chunks"
    missing = list(dict.fromkeys(keys).keys() - set(instance.get_dynamic_partitions(name)))
    try:
        if missing:
            instance.add_dynamic_partitions(name, sorted(missing))
    except Exception:
        # Dagster looks and then inserts: two runs at once may meet in its unique index.
        if set(missing) - set(instance.get_dynamic_partitions(name)):
            raise


def chunk_partitions(workload: Workload) -> dg.DynamicPartitionsDefinition:
    """One partition per chunk, `2026-11-22.1|r1-0007`, added when a snapshot is cut."""
    return dg.DynamicPartitionsDefinition(name=f"{workload.name}_chunks")
