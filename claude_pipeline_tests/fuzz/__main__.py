"""The long form: every claim searched in turn, for so many minutes; then the guided search of the result parser.

python -m claude_pipeline_tests.fuzz --minutes 10 [--first SEED] [--only WORD]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import pkgutil
import subprocess
import sys
import time
import traceback
from collections import Counter

import pytest

from claude_pipeline_tests import fuzz
from claude_pipeline_tests.fuzz.claim import CLAIMS, EXAMPLES_A_ROUND, Claim

GUIDED_SHARE = 0.2  # of the time


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claude_pipeline_tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long in all (10)")
    parser.add_argument("--first", type=int, default=int(time.time()), help="seed of the first round (the time)")
    parser.add_argument("--only", default="", help="claims with this word in their name; without the guided search")
    asked = parser.parse_args()
    for module in pkgutil.iter_modules(fuzz.__path__, f"{fuzz.__name__}."):
        if module.name.rpartition(".")[2].startswith("test_"):
            with contextlib.suppress(pytest.skip.Exception):
                importlib.import_module(module.name)
    chosen = [claim for claim in CLAIMS if asked.only in claim.name]
    seconds = asked.minutes * 60
    guided = 0.0 if asked.only else seconds * GUIDED_SHARE
    rounds, failed = search(chosen, asked.first, time.monotonic() + seconds - guided)
    for claim in chosen:
        print(f"{rounds[claim.name] * EXAMPLES_A_ROUND:>9,} examples at most  {claim.name}")
    code = subprocess.run(guided_command(guided), check=False).returncode if guided else 0
    print(f"seeds from {asked.first}; claims that failed: {', '.join(failed) or 'none'}")
    return 1 if failed or code else 0


def search(claims: list[Claim], first: int, until: float) -> tuple[Counter[str], list[str]]:
    """Rounds by claim, and the claims that failed (each is searched until it fails once)."""
    rounds: Counter[str] = Counter()
    failed: list[str] = []
    number = first
    while time.monotonic() < until and len(failed) < len(claims):
        for claim in claims:
            if claim.name in failed or time.monotonic() >= until:
                continue
            try:
                claim.search(number)
            except BaseException as broken:
                if isinstance(broken, KeyboardInterrupt):
                    raise
                failed.append(claim.name)
                print(f"FAILED {claim.name}, seed {number}", flush=True)
                traceback.print_exception(broken)
            rounds[claim.name] += 1
        number += 1
    return rounds, failed


def guided_command(seconds: float) -> list[str]:
    return [sys.executable, "-m", "claude_pipeline_tests.fuzz.guided", f"{seconds:.0f}"]


if __name__ == "__main__":
    sys.exit(main())
