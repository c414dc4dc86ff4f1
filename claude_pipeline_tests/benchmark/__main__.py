"""The benchmark suite: `make bench`, or

    python -m claude_pipeline_tests.benchmark [--sizes 10000 50000] [--rounds 3] [--only journey fixed ledger warehouse]

prints a table of ratios and writes it as JSON. CPU seconds are what counts: a shared machine changes the others.
What is measured and how stands in the README.md beside it, with figures, the machine and the date.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from claude_pipeline_tests.benchmark import fixed, many_chunks, many_ticks, warehouse
from claude_pipeline_tests.benchmark.compare import AGAIN, SPREAD, WORKS, Comparison, compare

JSON = Path("data/home/benchmark.json")
PARTS = ("journey", "fixed", "ledger", "warehouse")
BOUNDS = {"script": 0.6, "floor": 3.5}  # of the CPU of a record more
BOUND_AT = {1_000_000: 0.25}  # of the CPU of the whole, against the script


@dataclass(frozen=True)
class Line:
    """One figure, what it is measured against, and what it may be at most."""

    what: str
    value: float
    unit: str
    bound: float | None = None

    def __str__(self) -> str:
        bound = "" if self.bound is None else f"{self.bound:10,.2f}  {'held' if self.value <= self.bound else 'MISSED'}"
        return f"{self.what:62}{self.value:11,.2f} {self.unit:10}{bound}".rstrip()


def of_journey(found: Comparison) -> list[Line]:
    """Totals by size, ratios, then the stages."""
    sizes = found.sizes("journey")
    return [*_totals(found, sizes), *_ratios(found, sizes), *_stages(found, sizes)]


def _totals(found: Comparison, sizes: Sequence[int]) -> Iterator[Line]:
    for size in sizes:
        for work in [name for name in (*WORKS, AGAIN, SPREAD) if found.figures.get((name, size))]:
            yield Line(f"{work}, {size:,} records: CPU", found.cpu(work, size), "s")
            yield Line(f"{work}, {size:,} records: wall", found.wall(work, size), "s")
            yield Line(f"{work}, {size:,} records: peak memory", found.peak_mb(work, size), "MB")


def _ratios(found: Comparison, sizes: Sequence[int]) -> Iterator[Line]:
    largest = sizes[-1]
    for size in sizes:
        if found.figures.get(("script", size)):
            yield Line(f"journey / script, {size:,} records: CPU", found.ratio(size), "x", BOUND_AT.get(size))
    if len(sizes) > 1:
        extra = {work: found.extra_us(work) for work in WORKS if len(found.sizes(work)) > 1}
        yield from (Line(f"{work}: CPU a record more", value, "us") for work, value in extra.items())
        for other, bound in BOUNDS.items():
            if other in extra:
                yield Line(f"journey / {other}: CPU a record more", extra["journey"] / extra[other], "x", bound)
        smaller = sizes[-2]
        growth = found.cpu("journey", largest) / largest / (found.cpu("journey", smaller) / smaller)
        yield Line(f"journey, CPU a record: {largest:,} / {smaller:,}", growth, "x", 1.1)
        peaks = found.peak_mb("journey", largest) / found.peak_mb("journey", smaller)
        yield Line(f"journey, peak memory: {largest:,} / {smaller:,}", peaks, "x", 1.2)
    for name, what in ((AGAIN, "second snapshot"), (SPREAD, "one with as many changes all over the table")):
        if found.figures.get((name, largest)):
            yield Line(f"{what} / first: CPU", found.ratio(largest, name, "journey"), "x", 0.35)


def _stages(found: Comparison, sizes: Sequence[int]) -> Iterator[Line]:
    """Of a record more between the smallest and the largest size; with one size, of its records."""
    low, high = sizes[0], sizes[-1]
    for work in [name for name in WORKS if found.figures.get((name, high))]:
        for stage in found.figures[work, high][0].stages:
            seconds, records = found.stage(work, high, stage), high
            if low < high:
                seconds, records = seconds - found.stage(work, low, stage), high - low
            what = "a record more" if low < high else "a record"
            yield Line(f"{work}, stage {stage}: CPU {what}", seconds / records * 1e6, "us")


def as_lines(rows: Sequence[tuple[str, float, str, float | None]]) -> list[Line]:
    return [Line(*row) for row in rows]


def machine() -> dict[str, object]:
    """What the figures hold for."""
    model = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        names = [
            line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"), "load": os.getloadavg()[0]}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000], help="records")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=10_000, help="requests in a batch")
    parser.add_argument("--chunks", type=int, default=10_000, help="of the snapshot in part `ledger`")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path, default=JSON)
    chosen = parser.parse_args(arguments)
    about = machine()
    parts: dict[str, Callable[[], list[Line]]] = {
        "journey": lambda: of_journey(
            compare(chosen.sizes, rounds=chosen.rounds, chunk=chosen.chunk, works=chosen.works)
        ),
        "fixed": lambda: as_lines(fixed.rows(rounds=chosen.rounds)),
        "ledger": lambda: as_lines([*many_chunks.rows(chosen.chunks), *many_ticks.rows(chosen.chunks)]),
        "warehouse": lambda: _warehouse(max(chosen.sizes)),
    }
    document: dict[str, object] = {"machine": about}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for name in chosen.only:
        lines = parts[name]()
        document[name] = [asdict(line) for line in lines]
        print(f"\n{name:62}{'':>11} {'':10}{'at most':>10}")
        for line in lines:
            print(line)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {chosen.json}")


def _warehouse(rows: int) -> list[Line]:
    with tempfile.TemporaryDirectory() as folder:
        found = warehouse.measure(rows, Path(folder), copies=False)
    return [Line(f"{what}, {rows:,} rows", seconds, "s") for what, seconds in found.items()]


if __name__ == "__main__":
    main()
