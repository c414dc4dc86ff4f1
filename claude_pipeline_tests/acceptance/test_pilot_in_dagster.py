"""A pilot from the UI: its job asks a sample, the controller brings it in, the first asset asks the rest."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.acceptance.test_flow import PARTITION, Miniature, instance, simulator, workload

__all__ = ["instance", "simulator"]  # fixtures


def test_a_pilot_job_asks_a_sample_and_the_rest_follows(
    tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance
) -> None:
    mini = Miniature([workload(tmp_path, 80)], tmp_path / "home", instance)

    assert mini.run("reviews_pilot", PARTITION)
    assert set(mini.turns(simulator)) == {"reviews_ask"}  # a person waits for it
    piloted = simulator.invoice()["billed_requests"]
    assert mini.materialize("reviews", "requests", PARTITION)
    assert {"reviews_submit", "reviews_collect", "reviews_finalize"} <= set(mini.turns(simulator))

    everything = simulator.invoice()
    assert 0 < piloted < everything["billed_requests"]
    assert everything["billed_twice"] == 0
    ((delivered,),) = mini.rows("SELECT count(*) FROM reviews.results WHERE outcome = 'succeeded'")
    assert delivered == 80
