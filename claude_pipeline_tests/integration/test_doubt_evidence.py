"""Ways to pay twice, or to wait for ever, that the deterministic simulation found in the evidence of a doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic
import pytest

from claude_pipeline.crash import told
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import send, settle
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.factory import note, prepared_snapshot, sent_chunks, states, workload_over
from claude_pipeline_tests.integration.submit_case import after_settling, batches_at


class Killed(BaseException):
    """As SIGKILL: nothing of the product catches it."""


def die_at(point: str, name: str) -> None:
    if name == point:
        raise Killed


def foreign_batch(simulator: Simulator, requests: int) -> str:
    """Somebody else's batch in the same workspace."""
    with anthropic.Anthropic(base_url=simulator.base_url, api_key=simulator.api_key) as sdk:
        params: Any = {
            "model": "claude-haiku-5-5",
            "max_tokens": 5,
            "messages": [{"role": "user", "content": "theirs"}],
        }
        asked: Any = [{"custom_id": f"theirs-{n}", "params": params} for n in range(requests)]
        return sdk.messages.batches.create(requests=asked).id


def test_a_batch_whose_sender_died_is_taken_over_when_met_while_sending(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    # It was taken for one whose chunk had been sent again, its intent then for absent, and its chunk was sent again.
    workload = workload_over(tmp_path, [note(n) for n in range(20)])
    chunks = prepared_snapshot(desk, workload).chunks
    with told(lambda name: die_at("submit.after_post", name)), pytest.raises(Killed):
        send(desk, workload, chunks)
    simulator.clock.advance(BATCH_SECONDS)

    send(desk, workload, chunks)  # before anybody has looked at the open intent

    assert batches_at(simulator) == 2
    assert len(after_settling(desk, clock).absent) == 0
    simulator.clock.advance(BATCH_SECONDS)
    look(desk)
    collect(desk, workload)
    assert states(desk, workload) == ["done", "done"]


def test_a_candidate_deleted_by_its_owner_does_not_hide_the_batch_that_is_ours(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(10)])
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    sent_chunks(desk, workload)
    theirs = foreign_batch(simulator, requests=10)
    assert len(after_settling(desk, clock).waiting) == 1  # both run: the candidates are frozen
    simulator.clock.advance(BATCH_SECONDS)
    with anthropic.Anthropic(base_url=simulator.base_url, api_key=simulator.api_key) as sdk:
        sdk.messages.batches.delete(theirs)

    found = settle(desk)

    assert (len(found.adopted), found.waiting) == (1, [])
