"""The long form: `python -m claude_pipeline_tests.kills --kills 500 --seed 1` prints its figures.

Exit code 1 and the seed where something was wrong; its folder is kept then.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from claude_pipeline_tests.kills.pool import run_pools


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claude_pipeline_tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="processes to kill, at least (500)")
    parser.add_argument("--seed", type=int, default=1, help="the first pool's seed (1)")
    parser.add_argument("--kills-per-pool", type=int, default=20, help="at least, in one pool (20)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    figures = run_pools(folder, arguments.seed, kills=arguments.kills, kills_per_pool=arguments.kills_per_pool)
    print(figures.table())
    if figures.wrong:
        print(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
