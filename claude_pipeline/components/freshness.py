"""When `<w>/merged` counts as fresh: a scheduled workload is merged anew within each tick's deadline."""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from datetime import timedelta

import dagster as dg

from claude_pipeline.cadence import FINENESS, longest_gap
from claude_pipeline.workload import Workload

LENGTH = {cadence: timedelta(hours=hours) for cadence, hours in zip(FINENESS, (1, 24, 7 * 24, 31 * 24), strict=True)}


def freshness_of(workload: Workload) -> dg.FreshnessPolicy | None:
    """Fails once the newest merge is older than the longest time between two ticks and `deadline_hours`; warns
    where the deadline's `sla_warn_share` is over. None without a schedule: nothing says when the next one is due."""
    if workload.schedule is None:
        return None
    # A tick within the partition of the one before merges nothing where no record changed.
    gap = max(longest_gap(workload.schedule), LENGTH[workload.cadence])
    deadline = timedelta(hours=workload.deadline_hours)
    return dg.FreshnessPolicy.time_window(
        fail_window=gap + deadline, warn_window=gap + workload.sla_warn_share * deadline
    )
