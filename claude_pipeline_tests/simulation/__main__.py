"""Play many seeds, or one again.

python -m claude_pipeline_tests.simulation --seeds 10000 [--first N]
python -m claude_pipeline_tests.simulation --seed N --trace
"""

from __future__ import annotations

import argparse
import sys

from claude_pipeline_tests.simulation.seeds import Played, Total, theatre


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claude_pipeline_tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many (200)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print every step of it")
    asked = parser.parse_args()
    with theatre() as stage:
        if asked.seed is not None:
            return _show(stage.play(asked.seed), trace=asked.trace)
        total = stage.play_all(range(asked.first, asked.first + asked.seeds), _progress)
    print(summary(total))
    return 1 if total.failed else 0


def _show(played: Played, *, trace: bool) -> int:
    if trace:
        print("\n".join(played.trace))
    print(played.report() if played.broken else f"seed {played.seed}: all invariants hold")
    print(f"trace {played.digest}")
    return 1 if played.broken else 0


def _progress(total: Total) -> None:
    if total.failed and total.failed[-1].seed == total.last:
        print(total.failed[-1].report(), flush=True)
    if total.seeds % 500 == 0:
        print(f"{total.seeds:,} seeds, {total.seeds / total.seconds:.1f} a second", file=sys.stderr, flush=True)


def summary(total: Total) -> str:
    """The figures of many seeds, for people."""
    counts, figures = total.figures.counts, total.figures
    lines = [
        f"{total.seeds:,} seeds, {total.rows:,} rows, {counts['points']:,} points; {total.seeds / total.seconds:.1f} seeds a second, "
        f"{total.seeds / total.cpu_seconds:.1f} per second of CPU",
        f"{counts['crashes']:,} crashes, {counts['restarts']:,} restarts, {counts['pauses']:,} pauses, "
        f"{figures.faults.total():,} faults, {counts['failed runs']:,} runs ended by an error",
        f"{counts['foreign batches']:,} foreign batches, {counts['foreign batches deleted']:,} of them deleted; by hand: "
        f"{counts['settled by hand']:,} doubts, {counts['sent again by hand']:,} refused chunks",
        "rows twice {}, lost {}; cost wrong {}, stories wrong {}, unfinished {}, errors {}".format(
            *(total.broken_rows(name) for name in ("twice", "lost", "cost", "story", "unfinished", "error"))
        ),
        f"seeds that failed: {[played.seed for played in total.failed] or 'none'}",
        "crashes by place (passed): "
        + ", ".join(f"{n} {c} ({figures.passed[n]})" if n in figures.passed else f"{n} {c}" for n, c in sorted(figures.died_at.items())),
        "faults: " + ", ".join(f"{name} {times}" for name, times in sorted(figures.faults.items())),
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
