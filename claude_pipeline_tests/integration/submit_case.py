"""What the tests of submitting and of reconciling share: what the API saw, and the settle time gone by."""

from __future__ import annotations

from claude_pipeline.lane.reconcile import Reconciliation
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import settle
from claude_pipeline_tests.conftest import SETTLE_SECONDS, MovableClock


def creates(simulator: Simulator) -> dict[str, int]:
    """Calls of create by their answer."""
    found: dict[str, int] = simulator.invoice()["calls"].get("create", {})
    return found


def batches_at(simulator: Simulator) -> int:
    found: int = simulator.invoice()["batches"]
    return found


def after_settling(desk: Desk, clock: MovableClock) -> Reconciliation:
    clock.advance(SETTLE_SECONDS)
    return settle(desk)
