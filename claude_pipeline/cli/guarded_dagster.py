"""Dagster's webserver, daemon and code location, the webserver behind the guard.

    python -m claude_pipeline.cli.guarded_dagster dev -h 127.0.0.1 -p 3000 -w workspace.yaml [--read-only]

Not `dagster dev`, which starts its webserver as a process of its own and offers no place before it. As
there, the code location is a process that is started again when it dies, and this process ends when the
daemon does; unlike there, it serves the UI itself. `--read-only` starts no daemon: who only looks starts
nothing. Ctrl-C and SIGTERM end all of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click
import uvicorn
import yaml
from dagster import DagsterInstance
from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from claude_pipeline.cli.guard import Guard

LOG_LEVEL = "warning"
POLL_MS = 2000  # how often the UI asks for live data, as under `dagster dev`
LEAVE_SECONDS = 5  # for open connections, when it ends
DAEMON_SECONDS = 25.0  # to end the daemon; then it is killed, which costs nothing
# Of the instance's database, as dagster-webserver has them: time-out of a statement in ms, age in s and number of
# pooled connections. They mean nothing to SQLite.
STATEMENT_MS, RECYCLE_SECONDS, OVERFLOW = 15_000, 3_600, 20


@click.group()
def main() -> None:
    """Dagster behind the guard."""


@main.command()
@click.option("-h", "host", type=click.Choice(["127.0.0.1", "::1"]), default="127.0.0.1")
@click.option("-p", "port", type=click.IntRange(1, 65535), required=True)
@click.option("-w", "workspace", type=click.Path(exists=True, dir_okay=False), required=True)
@click.option("--read-only", is_flag=True)
def dev(host: str, port: int, workspace: str, read_only: bool) -> None:
    """Serve until a signal comes; ends with 1 where the daemon ended by itself."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` would have it ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["DAGSTER_IS_DEV_CLI"] = "1"  # what else lies in defs/ behaves as under `dagster dev`
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        instance = stack.enter_context(DagsterInstance.get())
        instance.optimize_for_webserver(STATEMENT_MS, RECYCLE_SECONDS, OVERFLOW)
        servers = ProxyServerManager(instance, WorkspaceFileTarget(paths=[workspace]), code_server_log_level=LOG_LEVEL)
        stack.enter_context(servers)
        running = stack.enter_context(_as_workspace(servers))
        daemon = None if read_only else stack.enter_context(_daemon(running))
        target = WorkspaceFileTarget(paths=[str(running)])
        context = stack.enter_context(
            WorkspaceProcessContext(instance, target, version=__version__, read_only=read_only)
        )
        app = create_app_from_workspace_process_context(context, live_data_poll_rate=POLL_MS)
        server = uvicorn.Server(
            uvicorn.Config(
                Guard(app, read_only=read_only),
                host,
                port,
                log_level=LOG_LEVEL,
                lifespan="off",
                proxy_headers=False,  # nobody stands before it who could be believed
                server_header=False,
                timeout_graceful_shutdown=LEAVE_SECONDS,
            )
        )
        if daemon is not None:
            threading.Thread(target=_end_with, args=(daemon, server), daemon=True).start()
        server.run()
        if daemon is not None and daemon.poll() is not None:
            sys.exit("Dagster's daemon ended by itself")


@contextmanager
def _as_workspace(servers: ProxyServerManager) -> Iterator[Path]:
    """A workspace file that names the code servers that run, for the daemon and the webserver to share."""
    with tempfile.TemporaryDirectory(prefix="claude_pipeline-") as folder:
        path = Path(folder) / "workspace.yaml"
        path.write_text(yaml.safe_dump({"load_from": list(servers.get_code_server_specs())}), encoding="utf-8")
        yield path


@contextmanager
def _daemon(workspace: Path) -> Iterator[subprocess.Popen[bytes]]:
    command: Sequence[str] = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace)]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DAEMON_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with(daemon: subprocess.Popen[bytes], server: uvicorn.Server) -> None:
    """Without the daemon nothing would go on, and the UI would hide that."""
    daemon.wait()
    server.should_exit = True


if __name__ == "__main__":
    main()
