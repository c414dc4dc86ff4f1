"""What sessions of real time leave behind in their process: no thread, no socket, no file, and no memory."""

from __future__ import annotations

import gc
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from claude_pipeline.catalog import load
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import running
from claude_pipeline.stage.desk import open_desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline_tests.factory import PARTITION, note, states, workload_over
from claude_pipeline_tests.integration.realtime_case import TIER, ask_now, fast_options, write_catalog
from claude_pipeline_tests.kills.pool import make_forks
from claude_pipeline_tests.raw_server import sockets_to

SESSIONS = 4
MEMORY_BYTES = 10_000_000  # from the second session to the last


@pytest.mark.parametrize("requests", [400, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_session_leaves_no_thread_socket_or_file_and_memory_is_flat(tmp_path: Path, requests: int) -> None:
    with running(fast_options(paused=False, start=None)) as simulator:
        environment = {"ANTHROPIC_BASE_URL": simulator.base_url, "ANTHROPIC_API_KEY": simulator.api_key}
        child = make_forks().Process(target=asked_often, args=(str(tmp_path), requests, environment))
        child.start()
        child.join(600)
        assert child.exitcode == 0
        assert simulator.invoice()["billed_requests"] == SESSIONS * requests
    first, second, *_, last = json.loads((tmp_path / "left.json").read_text(encoding="utf-8"))
    for name in ("threads", "sockets", "files"):
        assert last[name] == second[name] == first[name], name
    assert (last["threads"], last["sockets"]) == (0, 0)
    assert last["memory"] - second["memory"] < MEMORY_BYTES


def asked_often(folder: str, requests: int, environment: dict[str, str]) -> None:
    """In a process of its own: so many sessions, each over a workload of its own; notes what each left behind."""
    os.environ.update(environment)
    here, found = Path(folder), []
    home = here / "home"
    home.mkdir()
    settings = replace(Settings.from_environment().with_home(home), tier=TIER)
    with open_desk(settings) as opened:
        desk = replace(opened, catalog=load(write_catalog(here)))
        for number in range(SESSIONS):
            name = f"w{number}"
            rows = [note(n, f"{name} {n}") for n in range(requests)]
            chunk = {"requests": max(100, requests // 10)}
            workload = workload_over(here / name, rows, name=name, lane="realtime", chunk=chunk)
            prepare(desk, workload, PARTITION)
            ask_now(desk, workload, seconds=300)
            assert set(states(desk, workload)) == {"done"}
            del rows
            found.append(left_over(environment["ANTHROPIC_BASE_URL"]))
    (here / "left.json").write_text(json.dumps(found), encoding="utf-8")


def left_over(base_url: str) -> dict[str, int]:
    """Threads of the lane, sockets to the API, open files, resident bytes."""
    gc.collect()
    return {
        "threads": sum(thread.name.startswith("asking") for thread in threading.enumerate()),
        "sockets": sockets_to(base_url),
        "files": sum(Path(f"/proc/self/fd/{number}").is_file() for number in os.listdir("/proc/self/fd")),
        "memory": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
    }
