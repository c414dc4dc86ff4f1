"""Fixtures of all tests: a clock that is moved by hand, a home, a ledger, a simulator on a socket, a desk."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from anthropic import AsyncAnthropic
from sqlalchemy import Connection, create_engine

from claude_pipeline.catalog import load
from claude_pipeline.home import Home
from claude_pipeline.lane.access import connect, connect_async
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import Ledger
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.stage.desk import Desk
from claude_pipeline_tests import postgresql

NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
BATCH_SECONDS = 60  # simulated seconds that each batch takes
SETTLE_SECONDS = 10.0  # by the product's clock
TIER = "scale"  # of the API and the desk: real time starts ten times as fast as in `start`
OURS = ("ANTHROPIC_", "CLAUDE_PIPELINE_")
DATABASES = ("sqlite", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `both_databases` run once on each, where a ledger is part of them."""
    given = [name for mark in metafunc.definition.iter_markers("parametrize") for name in str(mark.args[0]).split(",")]
    chosen = metafunc.definition.get_closest_marker("both_databases") and "ledger_url" not in given
    if chosen and "ledger_url" in metafunc.fixturenames:
        metafunc.parametrize("ledger_url", DATABASES, indirect=True)


def pytest_collection_finish() -> None:
    """What imports left is there until the end: the collector, which would walk it again and again, need not look."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


class MovableClock:
    """The product's clock: stands still until a test moves it."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture(scope="session", autouse=True)
def _no_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody is asked over https, so nobody is trusted: each client would read some hundred certificates, for 80 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("no-authorities")))
        yield


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, address or setting of the machine reaches a test."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    return home


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    """One server for each worker's tests. Where there is none the tests say so, but in CI it must be there."""
    try:
        with postgresql.running() as server:
            yield server
    except postgresql.Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """None: SQLite in the home. Else a database of its own on PostgreSQL."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield None
        return
    server: postgresql.Server = request.getfixturevalue("postgresql_server")
    with server.database() as url:
        yield url


@pytest.fixture(scope="session")
def new_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite ledger as it is made: to make its tables takes six times what it takes to open a copy."""
    path = tmp_path_factory.mktemp("new-ledger") / "ledger.db"
    with Ledger.open(None, path=path):
        return path


@pytest.fixture
def ledger(home: Home, ledger_url: str | None, new_ledger: Path) -> Iterator[Ledger]:
    if ledger_url is None:
        shutil.copy(new_ledger, home.ledger)
    with Ledger.open(ledger_url, path=home.ledger) as ledger:
        yield ledger


@pytest.fixture
def ledger_sql(ledger: Ledger, ledger_url: str | None, home: Home) -> Iterator[Connection]:
    """What a person has who goes around the product."""
    engine = create_engine(ledger_url or f"sqlite:///{home.ledger}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    """One server for a module's tests; its clock is moved by hand and only goes on."""
    options = Options(batch_seconds=(BATCH_SECONDS, BATCH_SECONDS), paused=True, start=NOW, seed=7, tier=TIER)
    with running(options) as simulator:
        yield simulator


@pytest.fixture
def simulator(simulator_server: Simulator) -> Simulator:
    """Without batches, invoice and faults."""
    simulator_server.reset()
    return simulator_server


@pytest.fixture(scope="module")
def simulator_client(simulator_server: Simulator) -> Iterator[BatchClient]:
    """One client for a module, as a process of the product has one."""
    client = client_of(simulator_server)
    yield client
    client.sdk.close()


@pytest.fixture
def client(simulator: Simulator, simulator_client: BatchClient) -> BatchClient:
    """The product's client, over the real SDK, pointing at the simulator."""
    return simulator_client


def client_of(simulator: Simulator, key: str | None = None) -> BatchClient:
    """Each key has a workspace of its own."""
    environment = {"ANTHROPIC_BASE_URL": simulator.base_url, "ANTHROPIC_API_KEY": key or simulator.api_key}
    return BatchClient(connect=lambda: connect(environment))


def messages_of(simulator: Simulator, key: str | None = None) -> Callable[[], AsyncAnthropic]:
    """What makes the client of the real-time lane."""
    environment = {"ANTHROPIC_BASE_URL": simulator.base_url, "ANTHROPIC_API_KEY": key or simulator.api_key}
    return lambda: connect_async(environment)


@pytest.fixture
def desk(
    home: Home, ledger: Ledger, ledger_url: str | None, client: BatchClient, clock: MovableClock, simulator: Simulator
) -> Desk:
    settings = Settings(home, ledger_url=ledger_url, settle_seconds=SETTLE_SECONDS, tier=TIER)
    return Desk(settings, ledger, load(), client, clock, messages_of(simulator))
