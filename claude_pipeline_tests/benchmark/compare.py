"""The whole journey against the plain SDK script and the floor, by size: CPU, peak memory, stages; and once more with few changes."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from claude_pipeline.home import Home
from claude_pipeline.ledger import Ledger
from claude_pipeline_tests.benchmark.batch_api import running
from claude_pipeline_tests.benchmark.process import Figure, measured
from claude_pipeline_tests.benchmark.records import PROMPT, spread, write_records

WORKS = ("journey", "script", "floor")
AGAIN = "journey again"  # the last records have changed
SPREAD = "journey again, spread"  # as many, all over the table
CHANGED = 1_000  # records of a later snapshot that are new
WORKLOAD = """\
type: claude_pipeline.ClaudeWorkload
attributes:
  name: reviews
  dataset: {{path: {records}, id: review_id}}
  model: claude-haiku-5-5
  max_tokens: 64
  lane: batch
  chunk: {{requests: {chunk}}}
  prompt: {prompt}
"""


@dataclass
class Comparison:
    """Figures by work and size, several of each, taken in turn."""

    figures: dict[tuple[str, int], list[Figure]] = field(default_factory=lambda: defaultdict(list))

    def cpu(self, work: str, size: int) -> float:
        """Seconds: the median."""
        return statistics.median(figure.cpu_seconds for figure in self.figures[work, size])

    def wall(self, work: str, size: int) -> float:
        return statistics.median(figure.wall_seconds for figure in self.figures[work, size])

    def peak_mb(self, work: str, size: int) -> float:
        return max(figure.peak_bytes for figure in self.figures[work, size]) / 1e6

    def stage(self, work: str, size: int, stage: str) -> float:
        """CPU seconds: the median."""
        return statistics.median(figure.stages.get(stage, 0.0) for figure in self.figures[work, size])

    def sizes(self, work: str) -> list[int]:
        return sorted(size for name, size in self.figures if name == work)

    def extra_us(self, work: str) -> float:
        """CPU microseconds for a record more, between the smallest and the largest size."""
        sizes = self.sizes(work)
        if len(sizes) < 2:
            return float("nan")
        low, high = sizes[0], sizes[-1]
        return (self.cpu(work, high) - self.cpu(work, low)) / (high - low) * 1e6

    def ratio(self, size: int, work: str = "journey", against: str = "script") -> float:
        """Of CPU: the median over the rounds, each taken in one sitting."""
        pairs = zip(self.figures[work, size], self.figures[against, size], strict=False)
        return statistics.median(ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in pairs)


def compare(
    sizes: Sequence[int],
    *,
    rounds: int,
    chunk: int = 10_000,
    works: Sequence[str] = WORKS,
    again: bool = True,
    folder: Path | None = None,
) -> Comparison:
    """Measure each work at each size so many times, in turn."""
    found = Comparison()
    with tempfile.TemporaryDirectory(dir=folder) as root:
        for size in sizes:
            records = write_records(Path(root) / f"records-{size}.parquet", size)
            for number in range(rounds):
                order = works if number % 2 == 0 else tuple(reversed(works))
                for work in order:
                    for figure in one(work, Path(root), records, size, chunk, again=again and size == max(sizes)):
                        found.figures[figure.work, size].append(figure)
                        print(f"  {figure.work:14} {size:9,} records {figure.cpu_seconds:8.2f} CPU-s "
                              f"{figure.wall_seconds:8.2f} s {figure.peak_bytes / 1e6:7.0f} MB", file=sys.stderr)  # fmt: skip
            records.unlink()
    return found


def one(work: str, root: Path, records: Path, size: int, chunk: int, *, again: bool) -> list[Figure]:
    """A work once, against a server and in a folder of its own; the journey, if wanted, twice more with few changes."""
    with tempfile.TemporaryDirectory(dir=root) as place, running() as base_url:
        if work != "journey":
            return [_right(measured(work, records, place, chunk, base_url=base_url), size)]
        source, workload = Path(place) / "reviews.parquet", Path(place) / "defs.yaml"
        source.symlink_to(records)
        prompt = orjson.dumps(PROMPT.replace("{text}", "{{ text }}")).decode()
        workload.write_text(WORKLOAD.format(records=source, chunk=chunk, prompt=prompt), encoding="utf-8")
        home = Path(place) / "home"
        figures = [_right(measured("journey", workload, home, base_url=base_url), size)]
        last, rows = min(CHANGED, size), spread(size, CHANGED)
        for name, rewritten, sent in [(AGAIN, range(0), last), (SPREAD, rows, len(rows))] if again else []:
            source.unlink()
            write_records(source, size, changed=last, rewritten=rewritten)
            figure = measured("journey", workload, home, base_url=base_url)
            _check_sent(home, sent)
            figures.append(Figure(**{**vars(_right(figure, size)), "work": name}))
        return figures


def _check_sent(home: Path, changed: int) -> None:
    """A later snapshot that asked again what was answered has no figure."""
    with Ledger.open(None, path=Home(home).ledger) as ledger:
        newest = ledger.snapshots("reviews")[-1]
        sent = sum(chunk.requests for chunk in ledger.chunks("reviews", snapshot=newest.id))
    if sent != changed:
        raise RuntimeError(f"the newest snapshot sent {sent:,} requests, and {changed:,} records had changed")


def _right(figure: Figure, size: int) -> Figure:
    """A work that lost records has no figure."""
    if figure.rows != size:
        raise RuntimeError(f"{figure.work} answered {figure.rows:,} of {size:,} records")
    return figure
