"""While a run waits for the API, no process of its own waits with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from claude_pipeline.picture.beside import MODULE
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.acceptance.scenario import until
from claude_pipeline_tests.integration.command_case import workload_file

DAY = 86_400


def any_child_draws(parent: int) -> bool:
    """Whether a process that draws runs for this one."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if MODULE in (folder / "cmdline").read_text().split("\0"):
                above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if above == parent:
                    return True
        except OSError:  # it ended while we looked
            continue
    return False


def batches(simulator: Simulator) -> int:
    found: int = simulator.invoice()["batches"]
    return found


def test_the_process_that_draws_is_there_while_results_are_collected_and_not_while_a_second_round_is_waited_for(
    tmp_path: Path,
) -> None:
    file = workload_file(tmp_path, chunk=100)
    with running(Options(paused=True)) as simulator:
        simulator.faults.add(kind="line_error", share=0.5, attempts=1)
        environment = {"ANTHROPIC_BASE_URL": simulator.base_url, "ANTHROPIC_API_KEY": simulator.api_key}
        command = [sys.executable, "-m", "claude_pipeline.cli", "run", str(file), "--home", str(tmp_path / "home")]
        with subprocess.Popen(
            [*command, "--quiet", "--poll-seconds", "0.2"], env=os.environ | environment, stdout=subprocess.DEVNULL
        ) as process:
            try:
                until(lambda: batches(simulator) == 1, "the first round is sent", pause=0.02)
                assert not any_child_draws(process.pid)
                simulator.clock.advance(DAY)
                until(lambda: any_child_draws(process.pid), "it draws", pause=0.005)
                until(lambda: batches(simulator) == 2, "the second round is sent", pause=0.02)
                until(lambda: not any_child_draws(process.pid), "it draws no more", pause=0.02)
                assert process.poll() is None
                simulator.clock.advance(DAY)
                assert process.wait(90) == 0
            finally:
                process.kill()
