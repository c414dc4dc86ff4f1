"""A few real kills of processes that ask in real time, in every run of the tests; `make kills` has the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pipeline_tests.kills.plan import realtime_points
from claude_pipeline_tests.kills.realtime import IN_FLIGHT, run_storm


@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=pytest.mark.long)])
def test_what_kills_cost_is_bounded_and_told_and_each_record_is_delivered_once(tmp_path: Path, kills: int) -> None:
    figures = run_storm(tmp_path / "storm", seed=3, kills=kills)

    assert figures.wrong == []
    assert figures.killed >= kills
    assert figures.answered == figures.records
    assert figures.records <= figures.billed <= figures.records + figures.killed * IN_FLIGHT
    assert figures.billed - figures.records <= figures.lost <= figures.killed * IN_FLIGHT


def test_the_lane_has_points_to_be_killed_at() -> None:
    assert {
        "ask.after_start",
        "journal.after_mark",
        "journal.before_fsync",
        "journal.after_fsync",
        "close.before_record",
        "close.after_record",
        "chunk_collected.before_commit",
    } <= set(realtime_points())
