"""`claude-pipeline run` of a workload in real time, interrupted by signals: real processes, real HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from claude_pipeline.home import Home
from claude_pipeline.lane.waits import USUAL
from claude_pipeline.ledger import Ledger
from claude_pipeline.simulator import Simulator, running
from claude_pipeline_tests.acceptance.scenario import PATIENCE_SECONDS, until
from claude_pipeline_tests.factory import attributes, note, write_dataset
from claude_pipeline_tests.integration.realtime_case import TIER, fast_options, write_catalog

RECORDS = 60
HANG_SECONDS = 20


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    """Its clock runs; an answer takes a twentieth of a second."""
    with running(fast_options(paused=False, message_seconds=0.05)) as simulator:
        yield simulator


def workload_file(folder: Path) -> Path:
    data = write_dataset(folder / "notes.jsonl", [note(n) for n in range(RECORDS)])
    fields = attributes(dataset={"path": str(data), "id": "id"}, chunk={"requests": 20}, lane="realtime")
    file = folder / "defs.yaml"
    file.write_text(yaml.safe_dump({"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}), encoding="utf-8")
    return file


def start(simulator: Simulator, file: Path, folder: Path) -> subprocess.Popen[str]:
    """The command a person types, in a process of its own."""
    environment = {
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": simulator.api_key,
        "CLAUDE_PIPELINE_TIER": TIER,
        "CLAUDE_PIPELINE_CATALOG": str(write_catalog(folder)),
        "CLAUDE_PIPELINE_REALTIME_IN_FLIGHT": "4",
    }
    command = [sys.executable, "-m", "claude_pipeline.cli", "run", str(file), "--home", str(folder / "home")]
    return subprocess.Popen(
        [*command, "--poll-seconds", "0.2"], env=os.environ | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def lost(folder: Path) -> int:
    with Ledger.open(None, path=Home(folder / "home").ledger) as ledger:
        return sum(chunk.lost for chunk in ledger.chunks("notes"))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, said


def answered(simulator: Simulator) -> int:
    found: int = simulator.invoice()["messages"]["succeeded"]
    return found


def test_interrupted_it_ends_in_good_order_and_pays_nothing_twice(simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.add(kind="hang_after", endpoint="messages", seconds=0.5)
    file = workload_file(tmp_path)
    process = start(simulator, file, tmp_path)
    until(lambda: answered(simulator) >= 6 or process.poll() is not None, "some answers")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)

    assert code == 4, said
    assert time.monotonic() - began < USUAL.drain
    assert "stopping" in said
    assert "interrupted; run it again, it carries on" in said
    assert "Traceback" not in said
    paid = answered(simulator)
    assert 6 <= paid < RECORDS

    simulator.faults.clear()
    code, said = ended(start(simulator, file, tmp_path))
    assert code == 0, said
    assert f"{RECORDS:,} requests" in said
    invoice = simulator.invoice()
    assert (invoice["billed_requests"], invoice["billed_twice"], lost(tmp_path)) == (RECORDS, 0, 0)


def test_interrupted_again_it_ends_at_once(simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.add(kind="hang_after", endpoint="messages", seconds=HANG_SECONDS, after=6, count=4)
    file = workload_file(tmp_path)
    process = start(simulator, file, tmp_path)
    until(lambda: answered(simulator) >= 8 or process.poll() is not None, "some answers")
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)  # a real process has no clock to move
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, said = ended(process)
    assert code == 4, said
    # It waited for no answer; a process takes its time to go down.
    assert time.monotonic() - began < HANG_SECONDS * 3 / 4
    simulator.faults.clear()
    code, said = ended(start(simulator, file, tmp_path))
    assert code == 0, said
    twice = simulator.invoice()["billed_twice"]
    assert simulator.invoice()["billed_requests"] == RECORDS + twice
    assert twice <= lost(tmp_path) <= 4
