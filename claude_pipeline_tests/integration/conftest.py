"""What tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from claude_pipeline.home import Home
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.command_case import CommandLine


@pytest.fixture
def quick(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A simulator in which a batch takes a third of a second, and the environment to reach it."""
    with running(Options(speed=600, batch_seconds=(200, 200), seed=3)) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
        monkeypatch.setenv("CLAUDE_PIPELINE_HOME", str(home.root))
        monkeypatch.setenv("CLAUDE_PIPELINE_SETTLE_SECONDS", "0.2")
        yield simulator


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(capsys, monkeypatch)
