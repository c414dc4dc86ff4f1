"""A dozen real kills in every run of the tests; `make kills` is the long form."""

from __future__ import annotations

from pathlib import Path

from claude_pipeline_tests.kills.plan import points
from claude_pipeline_tests.kills.pool import run_pools

KILLS = 12


def test_processes_killed_at_points_and_at_random_bill_and_deliver_each_record_once(tmp_path: Path) -> None:
    figures = run_pools(tmp_path, seed=1, kills=KILLS, kills_per_pool=KILLS)

    assert figures.wrong == []
    assert (figures.twice, figures.lost) == (0, 0)
    assert figures.killed >= KILLS
    assert figures.batches > 0


def test_every_stage_has_points_to_be_killed_at() -> None:
    stages = {name.partition(".")[0] for name in points()}
    assert stages >= {"prepare", "submit", "reconcile", "poll", "collect", "finalize", "publish"}
