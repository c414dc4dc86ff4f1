"""`python -m claude_pipeline.simulator`: the simulated API from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from claude_pipeline.simulator.fault import Entry, read_entries, read_rules
from claude_pipeline.simulator.limit import all_tiers, find_tier
from claude_pipeline.simulator.options import Options
from claude_pipeline.simulator.server import serve

DEFAULT_PORT = 8787
_DESCRIPTION = """\
A local Anthropic API for tests, demos and rehearsals: Message Batches, Messages, token counts, models.
It needs no key, costs nothing, has a clock of its own, and keeps an invoice of every request."""
_EPILOG = """\
Point a client at it with the two variables it prints at the start:
  export ANTHROPIC_BASE_URL=http://127.0.0.1:8787 ANTHROPIC_API_KEY=simulator

While it runs:
  curl http://127.0.0.1:8787/_simulator/invoice                               what every request cost
  curl http://127.0.0.1:8787/_simulator/clock -d '{"advance_seconds": 3600}'  an hour later; speed and pause too
  curl http://127.0.0.1:8787/_simulator/faults -d '{"kind": "529", "count": 3}'                three overloaded answers"""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m claude_pipeline.simulator") -> int:
    """Read the arguments and serve until interrupted."""
    try:
        serve(options_of(argv, prog))
    except (ValueError, OSError) as wrong:
        print(f"simulator: {wrong}", file=sys.stderr)
        return 2
    return 0


def options_of(argv: Sequence[str] | None, prog: str | None = None) -> Options:
    given = vars(_parser(prog).parse_args(argv))
    given["faults"] = _faults(given["faults"], given.pop("fault") or [])
    return Options(**given)


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        usage="%(prog)s [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=110),
    )
    place = parser.add_argument_group("where")
    place.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)")
    place.add_argument("--port", type=int, metavar="N", default=DEFAULT_PORT, help="0 takes a free one (%(default)s)")
    place.add_argument("--state", type=Path, metavar="DIR", help="keep batches, invoice and clock here between starts")
    time = parser.add_argument_group("time")
    time.add_argument(
        "--speed", type=float, metavar="X", default=1.0, help="simulated seconds a second; 3600: an hour a second (1)"
    )
    time.add_argument("--paused", action="store_true", help="the clock stands still until it is moved, see below")
    time.add_argument(
        "--batch-seconds",
        type=_bounds,
        metavar="MIN,MAX",
        help="simulated seconds a batch takes (else by model and size: Sonnet 3.5 and Opus 8 times as long as Haiku)",
    )
    time.add_argument(
        "--message-seconds",
        type=float,
        metavar="S",
        default=0.0,
        help="real seconds a Haiku message takes; Sonnet 3.5, Opus 8 times as long (0: as fast as it can)",
    )
    _add_behaviour(parser)
    return parser


def _add_behaviour(parser: argparse.ArgumentParser) -> None:
    limits = parser.add_argument_group("limits")
    limits.add_argument("--tier", type=_tier, default="start", metavar="NAME", help=_tiers())
    limits.add_argument(
        "--ramp-minutes",
        type=float,
        metavar="M",
        default=0.0,
        help="minutes of use until a model gives its whole limit (0: at once; figures assumed)",
    )
    answers = parser.add_argument_group("answers and faults")
    answers.add_argument(
        "--seed", type=int, metavar="N", default=0, help="same seed, same answers, durations and faults (%(default)s)"
    )
    for name, said in (
        ("thinking", "share of answers that begin with a thinking block"),
        ("error", "share of questions overloaded when first asked"),
        ("permanent-error", "share of questions refused each time"),
    ):
        answers.add_argument(f"--{name}-rate", type=float, metavar="R", default=0.0, help=f"{said}, 0 to 1 (0)")
    answers.add_argument(
        "--faults",
        type=Path,
        metavar="FILE",
        help="YAML list of faults; claude_pipeline/simulator/README.md has the kinds",
    )
    answers.add_argument(
        "--fault",
        action="append",
        metavar="RULE",
        help="one fault, as 'lost_after endpoint=create count=1'; repeatable",
    )


def _faults(path: Path | None, lines: list[str]) -> list[Entry]:
    """The rules of the file, then those of the command line; all are read now, so that a wrong one stops the start."""
    entries = [*(read_entries(path) if path else ()), *lines]
    read_rules(entries)
    return entries


def _bounds(text: str) -> tuple[float, float]:
    least, _, most = text.partition(",")
    try:
        return float(least), float(most or least)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN,MAX; give seconds, as 60,600") from None


def _tier(name: str) -> str:
    try:
        return find_tier(name).name
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None


def _tiers() -> str:
    return f"rate limits of a tier: {', '.join(all_tiers())} (%(default)s)"


if __name__ == "__main__":
    sys.exit(main())
