"""The clock over the admin call, as a person at a shell moves it; and how long messages then take."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from datetime import datetime
from typing import Any

import anthropic
import pytest

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.simulator.case import connected, params, requests


def curl(simulator: Simulator, order: str | None = None) -> Any:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    command = ["curl", "-s", f"{simulator.base_url}/_simulator/clock"]
    done = subprocess.run([*command, *(["-d", order] if order is not None else [])], capture_output=True, check=True)
    return json.loads(done.stdout)


def test_the_clock_is_advanced(simulator: Simulator) -> None:
    before = datetime.fromisoformat(curl(simulator)["now"])
    after = datetime.fromisoformat(curl(simulator, '{"advance_seconds": 3600.5}')["now"])
    assert (after - before).total_seconds() == 3600.5


def test_the_clock_is_paused_and_resumed_and_sped_up() -> None:
    with running(Options()) as simulator:
        still = curl(simulator, '{"pause": true}')
        assert curl(simulator)["now"] == still["now"]
        moving = curl(simulator, '{"pause": false, "speed": 86400}')
        assert (moving["paused"], moving["speed"]) == (False, 86400)
        passed = datetime.fromisoformat(curl(simulator)["now"]) - datetime.fromisoformat(still["now"])
        assert passed.total_seconds() > 60


WRONG = {
    "backwards": '{"advance_seconds": -1}',
    "a-word": '{"speed": "fast"}',
    "a-number-for-pause": '{"pause": 1}',
    "beyond-the-calendar": '{"advance_seconds": 1e300}',
    "unknown-field": '{"hours": 3}',
    "a-list": "[]",
    "no-json": "advance",
    "half-right": '{"advance_seconds": 60, "speed": -1}',
}


@pytest.mark.parametrize("order", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_order_is_named_and_moves_nothing(simulator: Simulator, order: str) -> None:
    before = curl(simulator)
    assert "error" in curl(simulator, order)
    assert curl(simulator) == before


def ended_after(client: anthropic.Anthropic, model: str) -> float:
    """Simulated seconds of a batch."""
    batch = client.messages.batches.create(requests=requests(3, model=model))
    while (batch := client.messages.batches.retrieve(batch.id)).ended_at is None:
        pass
    return (batch.ended_at - batch.created_at).total_seconds()


def test_batches_take_longer_by_the_guides_ratios() -> None:
    seconds = {}
    for model in ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"):
        with running(Options(speed=3600)) as simulator, connected(simulator) as client:
            seconds[model] = ended_after(client, model)
    haiku, sonnet, opus = seconds.values()
    assert 3 <= sonnet / haiku <= 4
    assert opus / haiku == pytest.approx(8, rel=1e-6)


def test_messages_take_longer_by_the_guides_ratios() -> None:
    seconds = {}
    with running(Options(message_seconds=0.15)) as simulator, connected(simulator) as client:
        for model in ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"):
            since = time.perf_counter()
            for number in range(3):
                client.messages.create(**params(f"question {number}", model=model))
            seconds[model] = time.perf_counter() - since
    haiku, sonnet, opus = seconds.values()
    assert haiku < sonnet < opus
    assert 5 < opus / haiku <= 8.5  # the call's own time, the same for each, weighs on Haiku most
