"""Dagster's own command line on this project: `dg list`, `dg check`, `dg scaffold`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from claude_pipeline.workload_file import read_workload

ROOT = Path(__file__).parent.parent.parent
PARTS = ("claude_pipeline", "data/sample", "dg.toml", "pyproject.toml", "workspace.yaml")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, so that scaffolding leaves this one alone."""
    for part in PARTS:
        source, target = ROOT / part, tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def dg(project: Path, *arguments: str) -> str:
    tool = Path(sys.executable).parent / "dg"
    environment = {
        **os.environ,
        "PYTHONPATH": str(project),
        "COLUMNS": "200",
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
    }
    found = subprocess.run(
        [str(tool), *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_the_component_is_listed(project: Path) -> None:
    assert "claude_pipeline.ClaudeWorkload" in dg(project, "list", "components")


def test_a_scaffolded_workload_loads_as_it_is(project: Path) -> None:
    dg(project, "scaffold", "defs", "claude_pipeline.ClaudeWorkload", "reviews", "--path", "data/sample/tickets.jsonl")

    assert read_workload(project / "claude_pipeline/defs/reviews").name == "reviews"
    dg(project, "check", "defs")
    assert "reviews/requests" in dg(project, "list", "defs", "--json")


def test_a_wrong_field_is_found_by_check_yaml(project: Path) -> None:
    folder = project / "claude_pipeline/defs/wrong"
    folder.mkdir()
    (folder / "defs.yaml").write_text(
        "type: claude_pipeline.ClaudeWorkload\nattributes: {name: wrong, modle: x, dataset: {path: a.csv}}\n",
        encoding="utf-8",
    )
    with pytest.raises(AssertionError, match=r"attributes\.modle Additional properties are not allowed"):
        dg(project, "check", "yaml", "claude_pipeline/defs/wrong")
