"""Lint, types, floors, and what may not change by accident."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import dagster as dg
import pytest

import claude_pipeline

ROOT = Path(__file__).parent.parent
LINES_MAX = 400


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "check", "."], id="ruff"),
        pytest.param(["ruff", "format", "--check", "."], id="ruff-format"),
        pytest.param(["mypy"], id="mypy-strict"),
        pytest.param(["lint-imports", "--no-cache"], id="floors"),
    ],
)
def test_the_code_passes(command: list[str]) -> None:
    tool = Path(sys.executable).parent / command[0]
    found = subprocess.run([str(tool), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_assets_jobs_and_sensors_are_the_agreed_ones() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from claude_pipeline.definitions import defs

        found = defs()
        dg.Definitions.validate_loadable(found)
        keys = {key.to_user_string() for key in found.resolve_all_asset_keys()}
        jobs = {job.name for job in found.resolve_all_job_defs()}

    assert {f"tickets/{leaf}" for leaf in ("requests", "batches", "results", "merged", "summary")} | {
        "warehouse"
    } <= keys
    assert {f"tickets_{kind}" for kind in ("requests", "submit", "collect", "finalize", "flag")} <= jobs
    assert [sensor.name for sensor in found.sensors or ()] == ["controller"]


def test_the_public_names_are_sorted_and_there() -> None:
    names = claude_pipeline.__all__
    assert names == sorted(names)
    assert all(getattr(claude_pipeline, name) is not None for name in names)
    assert dir(claude_pipeline) == names


@pytest.mark.parametrize("heavy", ["anthropic", "pandas", "plotly", "matplotlib", "sqlalchemy.dialects.postgresql"])
def test_loading_the_code_location_does_not_import(heavy: str) -> None:
    code = f"import sys, claude_pipeline.definitions as d; d.defs(); sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_code_location_is_imported_without_a_search_for_garbage() -> None:
    code = """
import gc
import dagster
searches = []
gc.callbacks.append(lambda phase, info: searches.append(phase))
import claude_pipeline.definitions
print(len(searches), gc.isenabled())
"""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # The start and the stop of the one that was due when searching began again.
    assert found.stdout.split() in (["0", "True"], ["2", "True"])


@pytest.mark.parametrize(
    "heavy", ["dagster", "pydantic", "rich.console", "anthropic", "duckdb", "pyarrow", "matplotlib", "jinja2"]
)
def test_help_does_not_import(heavy: str) -> None:
    code = (
        "import sys, atexit; sys.argv = ['claude-pipeline', '--help']\n"
        f"atexit.register(lambda: __import__('os')._exit({heavy!r} in sys.modules))\n"
        "from claude_pipeline.cli import main; main()"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert found.returncode == 0
    assert b"Run a workload to its end" in found.stdout


def test_no_file_passes_four_hundred_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / "claude_pipeline").rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert long == {}


def test_nothing_pickles() -> None:
    """Whoever could write a pickle that we read would run code; and an SDK's error would carry the key into one."""
    ways = re.compile(r"(import|from) (pickle|cloudpickle|dill|shelve|marshal|joblib)\b|read_pickle|to_pickle")
    users = [p for p in (ROOT / "claude_pipeline").rglob("*.py") if ways.search(p.read_text(encoding="utf-8"))]
    assert users == []


def test_no_resource_of_ours_takes_anything_from_a_runs_config() -> None:
    """Else a forged run could name another home, whose ledger knows of no budget spent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from claude_pipeline.definitions import defs

        resources = defs().resources or {}

    assert set(resources) >= {"desk", "warehouse", "io_manager"}
    taken = {name: sorted(resource.config_schema.config_type.fields) for name, resource in resources.items()}
    assert taken == {name: [] for name in resources}


def test_dg_configuration_is_not_in_pyproject() -> None:
    # A [tool.dg] or [tool.dagster] table there makes Dagster ignore workspace.yaml without a word.
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "[tool.dg" not in text
    assert "[tool.dagster" not in text
