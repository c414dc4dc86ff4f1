"""Take each guard of the protocol out, one mutant at a time, and name the test that fails.

    python -m claude_pipeline_tests.mutants [--only WORD]

Exit code 1 where a mutant survives. The edits are made in a copy; the checkout is not touched.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from claude_pipeline_tests.mutants.guard import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent
COPIED = ("claude_pipeline", "claude_pipeline_tests", "data/sample", "pyproject.toml", "workspace.yaml")
PATIENCE_SECONDS = 900  # of one mutant's tests: one that never ends is caught as well


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claude_pipeline_tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name holds this word")
    asked = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if asked.only in mutant.name]
    survivors = 0
    for mutant in chosen:
        began = time.monotonic()
        test = killer(mutant)
        survivors += test is None
        print(
            f"{'caught' if test else 'SURVIVED':<9}{mutant.name}\n         {test or '-'}  ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
    print(f"{len(chosen)} mutants, {len(chosen) - survivors} caught")
    return 1 if survivors else 0


def killer(mutant: Mutant) -> str | None:
    """The first test that fails on the mutant; None where all pass."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source, target = ROOT / name, copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        apply(mutant, copy)
        for test in mutant.tests:
            failed = first_failure(copy, test)
            if failed is not None:
                return failed
    return None


def apply(mutant: Mutant, root: Path) -> None:
    """Make its edits under `root`; raises ValueError where a text does not stand there exactly once."""
    for edit in mutant.edits:
        path = root / edit.file
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise ValueError(f"{edit.file}: the text of {mutant.name!r} stands there {text.count(edit.old)} times")
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def first_failure(root: Path, test: str) -> str | None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-k",
        "not postgresql",
        test,
    ]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{test} (never ended)"
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{test} could not be run: {(done.stdout + done.stderr)[-2000:]}")
    return found.group(1)


if __name__ == "__main__":
    sys.exit(main())
