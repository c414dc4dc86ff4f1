"""Fixtures of the simulator's own tests: one server a module, empty for each test, with a paused clock."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

from claude_pipeline.simulator import Simulator, running
from claude_pipeline_tests.integration.simulator.case import OPTIONS, connected


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    with running(OPTIONS) as simulator:
        yield simulator


@pytest.fixture
def simulator(server: Simulator) -> Simulator:
    server.reset()
    return server


@pytest.fixture
def client(simulator: Simulator) -> Iterator[anthropic.Anthropic]:
    with connected(simulator) as client:
        yield client
