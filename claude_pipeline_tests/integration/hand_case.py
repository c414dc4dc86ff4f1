"""What the tests of cancel, retry, split and lost results share: calmly to rest, and the money that both sides name."""

from __future__ import annotations

import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, SETTLE_SECONDS, MovableClock
from claude_pipeline_tests.factory import asked


def calmly(desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock) -> None:
    """To rest, with both clocks going on."""

    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(SETTLE_SECONDS)

    assert drive.carry_on(desk, workload, wait).at_rest


def reasons(desk: Desk, name: str = "notes") -> dict[str, int]:
    """Dead letters of the published warehouse by error type."""
    return dict(asked(desk, f"SELECT error_type, count(*) FROM {name}.dead_letters GROUP BY 1"))


def check_costs(desk: Desk, simulator: Simulator) -> None:
    """What the warehouse says was billed is what the invoice says."""
    requests, cost_usd = asked(desk, "SELECT coalesce(sum(requests), 0), coalesce(sum(cost_usd), 0) FROM ops.costs")[0]
    invoice = simulator.invoice()
    assert requests == invoice["billed_requests"]
    assert cost_usd == pytest.approx(float(invoice["total_usd"]), abs=1e-9)
