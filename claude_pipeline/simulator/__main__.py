"""`python -m claude_pipeline.simulator`: the simulated API from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from claude_pipeline.simulator.limit import all_tiers
from claude_pipeline.simulator.options import Options
from claude_pipeline.simulator.server import serve

DEFAULT_PORT = 8787


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m claude_pipeline.simulator") -> int:
    """Read the arguments and serve until interrupted."""
    try:
        serve(options_of(argv, prog))
    except (ValueError, OSError) as wrong:
        print(f"simulator: {wrong}", file=sys.stderr)
        return 2
    return 0


def options_of(argv: Sequence[str] | None, prog: str | None = None) -> Options:
    parser = argparse.ArgumentParser(prog=prog, description="A local Anthropic API: no key, no cost, its own clock.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 for a free one (default %(default)s)")
    parser.add_argument("--state", type=Path, metavar="DIR", help="keep batches and invoice between starts")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same answers and faults (default %(default)s)")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds per second; 3600: an hour a second")
    parser.add_argument("--batch-seconds", type=_bounds, metavar="MIN,MAX", help="simulated seconds that a batch takes")
    parser.add_argument("--message-seconds", type=float, default=0.0, help="real seconds that a message takes")
    parser.add_argument(
        "--tier", default="start", choices=sorted(all_tiers()), help="rate limits (default %(default)s)"
    )
    parser.add_argument("--error-rate", type=float, default=0.0, help="share of questions overloaded at first")
    parser.add_argument("--permanent-error-rate", type=float, default=0.0, help="share of questions never accepted")
    parser.add_argument("--thinking-rate", type=float, default=0.0, help="share of answers that begin with thinking")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="YAML list of faults; see README.md")
    given = vars(parser.parse_args(argv))
    given["faults"] = given["faults"] or ()
    return Options(**given)


def _bounds(text: str) -> tuple[float, float]:
    least, _, most = text.partition(",")
    return float(least), float(most or least)


if __name__ == "__main__":
    sys.exit(main())
