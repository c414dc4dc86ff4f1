"""A PostgreSQL of the tests' own on loopback, from Debian's package; it ends with the process that started it."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER = "claude"
PASSWORD = "CANARY-pg-7f3a"  # looked for in everything that is said
START_SECONDS = 20
FOLDER = "claude-pipeline-postgresql"
# Nothing outlives the tests: no fsync. Small, because several run side by side.
SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "32MB",
    "max_connections": "80",
}


class Missing(Exception):
    """There is no PostgreSQL to be started; says why."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What a person at psql would see; each statement is committed at once."""
        import psycopg

        with psycopg.connect(self._address(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, dropped afterwards."""
        name = f"ledger_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self._address("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _address(self, database: str) -> str:
        return self.url(database).replace("postgresql+psycopg", "postgresql")


@contextmanager
def running() -> Iterator[Server]:
    """Start a server with an empty cluster; stop and delete it afterwards.

    Raises:
        Missing: there is no PostgreSQL here.
    """
    programs = _programs()
    as_user = _unprivileged()
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}-{os.getpid()}-"))
    try:
        password = folder / "password"
        password.write_text(PASSWORD)
        if as_user:
            for path in (folder, password):
                shutil.chown(path, "postgres", "postgres")
        initdb = [f"--pgdata={folder / 'data'}", f"--username={USER}", f"--pwfile={password}", "--auth=password"]
        subprocess.run(
            [*as_user, str(programs / "initdb"), *initdb, "--no-sync", "--encoding=UTF8", "--locale=C"],
            check=True, capture_output=True, cwd=folder,
        )  # fmt: skip
        with _serving(programs, as_user, folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _serving(programs: Path, as_user: list[str], folder: Path) -> Iterator[Server]:
    server = Server(_free_port())
    settings = [f"--{name}={value}" for name, value in {**SERVER_SETTINGS, "port": str(server.port)}.items()]
    # The kernel ends the server with its parent, should that be killed before it can.
    starter = [*(as_user or ["setpriv"]), "--pdeathsig=QUIT", "--"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*starter, str(programs / "postgres"), "-D", str(folder / "data"), *settings],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        until = time.monotonic() + START_SECONDS
        while not server.answers():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()}")
            time.sleep(0.05)
        yield server
    finally:
        process.send_signal(signal.SIGINT)  # ends its sessions and stops cleanly
        process.wait(START_SECONDS)


def _programs() -> Path:
    """The folder of the newest server's programs."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise Missing("psycopg is not installed (the extra `postgres`)") from None
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parent.parent.name))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        raise Missing("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    if shutil.which("setpriv") is None:
        raise Missing("setpriv of util-linux is not installed")
    return (found[-1] if found else Path(str(on_path)).resolve()).parent


def _unprivileged() -> list[str]:
    """What makes a command run as another user where we are root, which PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise Missing("PostgreSQL does not run as root, and there is no user postgres") from None
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _sweep() -> None:
    """Delete what tests that were killed left behind; their servers ended with them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}-*-*"):
        pid = folder.name.split("-")[3]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
