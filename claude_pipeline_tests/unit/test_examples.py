"""The examples are short, can be read, and their data comes from the scripts beside them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from claude_pipeline.workload_file import read_workload

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_a_workload_in_under_thirty_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) < 30
    assert read_workload(file).budget_usd is not None


def test_no_two_examples_share_a_name() -> None:
    names = [read_workload(file).name for file in FILES]
    assert len(names) == len(set(names)) == 5


@pytest.mark.parametrize("script", ["make_invoices.py", "make_claims.py"])
def test_a_script_writes_the_same_bytes_each_time(tmp_path: Path, script: str) -> None:
    shutil.copy(EXAMPLES / script, tmp_path)
    subprocess.run([sys.executable, str(tmp_path / script)], check=True)
    (made,) = tmp_path.glob("*.jsonl")
    assert made.read_bytes() == (EXAMPLES / made.name).read_bytes()
