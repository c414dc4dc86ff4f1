"""Seven interruptions of 1,000 records through `claude-pipeline run`: billed once, delivered, nobody had to act.

Real processes and real HTTP. The simulator's clock stands still until the process is dead, so that
no batch ends before the kill.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from claude_pipeline.home import Home
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.acceptance.scenario import (
    CHUNKS,
    PATIENCE_SECONDS,
    RECORDS,
    SCENARIOS,
    Moment,
    Scenario,
    check_delivered,
    struck,
    wait_for,
    write_workload,
)

NAME = "notes"


def start(simulator: Simulator, file: Path, home: Home, log: Path) -> subprocess.Popen[bytes]:
    """The command a person types, in a process of its own."""
    environment = {
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": simulator.api_key,
        "CLAUDE_PIPELINE_SETTLE_SECONDS": "1",
    }
    command = [sys.executable, "-m", "claude_pipeline.cli", "run", str(file), "--home", str(home.root)]
    with log.open("ab") as out:
        return subprocess.Popen(
            [*command, "--poll-seconds", "0.2"], env=os.environ | environment, stdout=out, stderr=subprocess.STDOUT
        )


def kill_at(moment: Moment, process: subprocess.Popen[bytes], simulator: Simulator, log: Path) -> None:
    try:
        what = f"{moment}: {log.read_text(encoding='utf-8')}"
        wait_for(moment, simulator, what, ended=lambda: process.poll() is not None)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL, log.read_text(encoding="utf-8")


USUAL = [
    # Those without a kill are met in every run through the daemon, all in one course.
    pytest.param(
        scenario,
        id=scenario.name,
        marks=[] if scenario.killed is not Moment.NEVER or scenario.lines_fail else [pytest.mark.long],
    )
    for scenario in SCENARIOS
]


@pytest.mark.parametrize("scenario", USUAL)
def test_interrupted_a_run_ends_with_each_record_billed_and_delivered_once(tmp_path: Path, scenario: Scenario) -> None:
    home, log = Home(tmp_path / "home"), tmp_path / "run.log"
    file = write_workload(tmp_path, NAME)
    options = Options(speed=600, batch_seconds=(60, 120), seed=11, paused=scenario.killed is not Moment.NEVER)
    with running(options) as simulator:
        for fault in scenario.faults:
            simulator.faults.add(**fault)
        process = start(simulator, file, home, log)
        if scenario.killed is not Moment.NEVER:
            kill_at(scenario.killed, process, simulator, log)
            for fault in scenario.faults_again:
                simulator.faults.add(**fault)
            simulator.clock.resume()
            process = start(simulator, file, home, log)
        code = process.wait(PATIENCE_SECONDS)
        invoice, rules = simulator.invoice(), struck(simulator)

    assert code == 0, log.read_text(encoding="utf-8")
    assert [rule for rule in rules if rule[2] is not None and rule[1] != rule[2]] == []
    errored = sum(batch["errored"] for batch in invoice["by_batch"])
    assert (errored > 0) == scenario.lines_fail
    assert (invoice["billed_requests"], invoice["billed_twice"]) == (RECORDS, 0)
    assert invoice["accepted_requests"] == RECORDS + errored
    assert invoice["batches"] == CHUNKS + (1 if errored else 0)
    check_delivered(home, NAME)
