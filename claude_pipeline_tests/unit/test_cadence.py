"""Which cron lines name moments that exist: what Dagster would refuse is refused before it sees it."""

from __future__ import annotations

import dagster as dg
import pytest

from claude_pipeline.cadence import cadence_of

GOOD = [
    "0 2 * * *",
    "*/15 * * * *",
    "0 2 1 * *",
    "0 2 29 2 *",
    "0 2 * * MON-FRI",
    "5,35 8-18/2 * JAN,JUL *",
    "0 0 * * 7",
]
BAD = ["99 2 * * *", "0 2 31 2 *", "0 25 * * *", "0 2 * 13 *", "0 2 * * FOO", "a b c d e", "0 2 * *", "*/0 * * * *"]


@pytest.mark.parametrize("cron", GOOD)
def test_a_good_line_has_a_cadence_and_dagster_takes_it(cron: str) -> None:
    assert cadence_of(cron) is not None
    dg.ScheduleDefinition(name="x", job_name="y", cron_schedule=cron)


@pytest.mark.parametrize("cron", BAD)
def test_a_bad_line_has_none(cron: str) -> None:
    # Such a line once took the whole code location down.
    assert cadence_of(cron) is None
