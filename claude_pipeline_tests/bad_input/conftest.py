"""The ground of each test of a bad input: a copy of a home in which another workload was delivered before."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_pipeline.cli import main
from claude_pipeline.home import Home
from claude_pipeline.simulator import Simulator, running
from claude_pipeline_tests.bad_input.ground import EARLIER_RECORDS, KEY, Ground, published, quick_options
from claude_pipeline_tests.integration.command_case import CommandLine, workload_file
from claude_pipeline_tests.integration.realtime_case import TIER, write_catalog


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    """In place of the usual one: this one's clock runs, since the command line reads the machine's."""
    with running(quick_options()) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def delivered_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the workload `earlier` was delivered and published, by the command line."""
    folder = tmp_path_factory.mktemp("earlier")
    file = workload_file(folder, records=EARLIER_RECORDS, name="earlier", lane="realtime")
    with running(quick_options()) as simulator, pytest.MonkeyPatch.context() as patch:
        _environment(patch, simulator, folder / "home", write_catalog(folder))
        patch.setattr(sys, "argv", ["claude-pipeline", "run", str(file), "--quiet"])
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0, said.getvalue()
    return folder / "home"


@pytest.fixture
def ground(
    delivered_home: Path,
    simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Ground:
    home, folder = tmp_path / "home", tmp_path / "work"
    shutil.copytree(delivered_home, home, symlinks=True)
    folder.mkdir()
    _environment(monkeypatch, simulator, home, write_catalog(tmp_path))
    monkeypatch.chdir(folder)
    line = CommandLine(capsys, monkeypatch)
    return Ground(folder, Home(home), line, simulator, monkeypatch, published(Home(home)))


def _environment(patch: pytest.MonkeyPatch, simulator: Simulator, home: Path, catalog: Path) -> None:
    variables = {
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_PIPELINE_HOME": str(home),
        "CLAUDE_PIPELINE_TIER": TIER,
        "CLAUDE_PIPELINE_CATALOG": str(catalog),
    }
    for name, value in variables.items():
        patch.setenv(name, value)
