"""The ground of each test of a bad input: a copy of a home in which another workload was delivered before."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from claude_pipeline.catalog import load
from claude_pipeline.cli import main
from claude_pipeline.home import Home
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import Ledger
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.stage.desk import Desk
from claude_pipeline_tests.bad_input.flow import Flow
from claude_pipeline_tests.bad_input.ground import EARLIER_RECORDS, KEY, Ground, published, quick_options
from claude_pipeline_tests.conftest import BATCH_SECONDS, NOW, SETTLE_SECONDS, MovableClock, client_of
from claude_pipeline_tests.integration.command_case import CommandLine, Said, workload_file
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
    with running(quick_options()) as simulator:
        line = _Line(_environment(simulator, folder / "home", write_catalog(folder)), folder)
        said = line("run", str(file), "--quiet")
        assert said.code == 0, said.err
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
    for name, value in _environment(simulator, home, write_catalog(tmp_path)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    line = CommandLine(capsys, monkeypatch)
    return Ground(folder, Home(home), line, simulator, monkeypatch, published(Home(home)))


@dataclass(frozen=True)
class _Line:
    """The command line, for a fixture that several tests look at: with an environment and a folder of its own."""

    variables: Mapping[str, str]
    folder: Path

    def __call__(self, *words: str) -> Said:
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            for name, value in self.variables.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["claude-pipeline", *words])
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def standing(
    delivered_home: Path, simulator_server: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    """A ground for what is run once and looked at by several tests; the simulator's counts may be gone by then."""
    root = tmp_path_factory.mktemp("standing")
    home, folder = root / "home", root / "work"
    shutil.copytree(delivered_home, home, symlinks=True)
    folder.mkdir()
    line = _Line(_environment(simulator_server, home, write_catalog(root)), folder)
    with pytest.MonkeyPatch.context() as patch:
        yield Ground(folder, Home(home), line, simulator_server, patch, published(Home(home)))


# In virtual time, for answers of the API that are not what they should be.


@pytest.fixture(scope="module")
def paused_server() -> Iterator[Simulator]:
    """A simulator whose clock stands still until a test moves it."""
    options = Options(batch_seconds=(BATCH_SECONDS, BATCH_SECONDS), paused=True, start=NOW, seed=7)
    with running(options) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def paused_client(paused_server: Simulator) -> Iterator[BatchClient]:
    client = client_of(paused_server, KEY)
    yield client
    client.close()


@pytest.fixture
def flow(
    delivered_home: Path,
    paused_server: Simulator,
    paused_client: BatchClient,
    tmp_path: Path,
    clock: MovableClock,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Flow]:
    """Sound at its end, or the test fails."""
    paused_server.reset()
    clock.at = paused_server.clock.now()  # it only goes on, from test to test
    home = Home(tmp_path / "home")
    shutil.copytree(delivered_home, home.root, symlinks=True)
    settings = Settings(home, settle_seconds=SETTLE_SECONDS)
    with Ledger.open(None, path=home.ledger) as ledger:
        desk = Desk(settings, ledger, load(), paused_client, clock)
        flow = Flow(desk, paused_server, clock, tmp_path, published(home), caplog)
        yield flow
        flow.sound()


def _environment(simulator: Simulator, home: Path, catalog: Path) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_PIPELINE_HOME": str(home),
        "CLAUDE_PIPELINE_TIER": TIER,
        "CLAUDE_PIPELINE_CATALOG": str(catalog),
    }
