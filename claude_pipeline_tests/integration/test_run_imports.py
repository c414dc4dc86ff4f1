"""A run by the command line has its pictures, and imports neither what draws them nor pandas."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from claude_pipeline.cli.dagster_home import open_instance
from claude_pipeline.home import Home
from claude_pipeline.simulator import Options, running
from claude_pipeline_tests.integration.command_case import workload_file

LEFT_OUT = ("matplotlib.figure", "pandas.core")  # modules of theirs: a vain look for a package is listed as well


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def imported(place: Path) -> set[str]:
    """The modules that the process of a run imported; Python lists them on standard error."""
    file = workload_file(place)
    with running(Options(speed=600, batch_seconds=(30, 60))) as simulator:
        done = subprocess.run(
            [sys.executable, "-m", "claude_pipeline.cli", "run", str(file), "--home", str(place), "--quiet"],
            env=os.environ
            | {
                "ANTHROPIC_BASE_URL": simulator.base_url,
                "ANTHROPIC_API_KEY": simulator.api_key,
                "PYTHONPROFILEIMPORTTIME": "1",
            },
            check=True,
            capture_output=True,
            text=True,
            timeout=90,
        )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_what_it_cannot_do_without_is_listed(imported: set[str]) -> None:
    assert {"anthropic", "dagster", "duckdb", "pyarrow", "claude_pipeline.cli.runner"} <= imported


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_it_does_without(imported: set[str], left_out: str) -> None:
    assert left_out not in imported


def test_its_summary_has_pictures(imported: set[str], place: Path) -> None:
    import dagster as dg

    with open_instance(Home(place)) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["notes", "summary"]))
    assert event is not None
    assert event.asset_materialization is not None
    pictures = event.asset_materialization.metadata["pictures"].value
    assert isinstance(pictures, str)
    assert [part.partition("]")[0] for part in pictures.split("![")[1:]] == [
        "throughput",
        "cost_by_day",
        "batch_turnaround",
    ]
