"""Dagster as a child process: webserver (behind the guard), daemon and code location on one home."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from claude_pipeline.cli.dagster_home import dagster_home
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.home import PRIVATE_UMASK, Home, make_file, written

LOCATION = "claude_pipeline"
WORKSPACE = """\
load_from:
  - python_module: {module_name: claude_pipeline.definitions, location_name: claude_pipeline}
"""
START_SECONDS = 120.0
STOP_SECONDS = 40.0


class DagsterFailed(ClaudePipelineError):
    """Dagster did not start."""


class DagsterDev:
    """Starts on entering, stops on leaving (by SIGINT: its children go with it)."""

    def __init__(
        self,
        home: Home,
        *,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        read_only: bool = False,
    ) -> None:
        self._home, self.port, self._read_only = home, port or free_port(), read_only
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self._home.dagster / ("dagster-read-only.log" if self._read_only else "dagster-dev.log")

    def __enter__(self) -> Self:
        folder = dagster_home(self._home)
        workspace = self._home.dagster / "workspace.yaml"
        with written(workspace) as temporary:
            temporary.write_text(WORKSPACE, encoding="utf-8")
        self._log = make_file(self.log_path).open("wb")
        program = [sys.executable, "-m", "claude_pipeline.cli.guarded_dagster", "dev"]
        arguments = ["-h", "127.0.0.1", "-p", str(self.port), "-w", str(workspace)]
        self._process = subprocess.Popen(
            [*program, *arguments, *(["--read-only"] if self._read_only else [])],
            env={
                **self._environment,
                "DAGSTER_HOME": str(folder),
                "CLAUDE_PIPELINE_HOME": str(self._home.root),
                "PYTHONWARNINGS": "ignore",
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=PRIVATE_UMASK,  # Dagster's databases and logs say what the records are about
        )
        return self

    def wait_until_ready(self) -> None:
        """Return when the webserver answers and the code location is loaded.

        Raises:
            DagsterFailed: it ended, or is not ready in time; names its log.
        """
        from dagster_graphql import DagsterGraphQLClientError

        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                if listens(self.port) and self.jobs():
                    return
            except (DagsterGraphQLClientError, OSError, KeyError, TypeError):
                pass
            time.sleep(0.5)
        raise DagsterFailed(f"Dagster did not start; its log: {self.log_path}")

    def jobs(self) -> list[str]:
        """Jobs of the code location."""
        query = """query($s: RepositorySelector!) { repositoryOrError(repositorySelector: $s) {
            ... on Repository { jobs { name } } } }"""
        selector = {"repositoryLocationName": LOCATION, "repositoryName": "__repository__"}
        data = self.ask(query, {"s": selector})
        return [job["name"] for job in data["repositoryOrError"].get("jobs", [])]

    def ask(self, query: str, variables: Mapping[str, object]) -> dict:  # type: ignore[type-arg]
        """One GraphQL request; its data."""
        import json
        from urllib.request import Request, urlopen

        body = json.dumps({"query": query, "variables": variables}).encode()
        request = Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as response:
            answer = json.load(response)
        if answer.get("errors"):
            raise DagsterFailed(f"Dagster refused a request: {answer['errors'][0].get('message')}")
        data: dict = answer["data"]  # type: ignore[type-arg]
        return data

    def launch(self, job: str, partition: str) -> str:
        """Launch a job on a partition, as the UI does; returns the run's id."""
        from dagster_graphql import DagsterGraphQLClient

        client = DagsterGraphQLClient("127.0.0.1", port_number=self.port)
        run_id: str = client.submit_job_execution(
            job,
            repository_location_name=LOCATION,
            repository_name="__repository__",
            tags={"dagster/partition": partition},
        )
        return run_id

    def wait(self) -> int:
        """Until it ends by itself or by a signal."""
        assert self._process is not None
        return self._process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        if self._log is not None:
            self._log.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
