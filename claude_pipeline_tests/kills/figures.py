"""What a number of pools showed, added up and printed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from claude_pipeline_tests.kills.plan import AT_RANDOM, points


@dataclass
class Figures:
    """Of one pool, or of several added together."""

    pools: int = 0
    kills: Counter[str] = field(default_factory=Counter)  # by crash point, or AT_RANDOM
    pauses: int = 0
    processes: int = 0
    faults: int = 0  # that struck
    posts: int = 0  # calls of create, by us and by others in the workspace
    foreign: int = 0  # batches of others in the workspace
    batches: int = 0  # ours
    adopted: int = 0  # of those, found again after their answer was lost
    rows: int = 0  # records
    asked: int = 0  # questions: records without those that ask what another one asks
    errored: int = 0  # lines that came back errored, and were asked again
    twice: int = 0  # questions billed more than once
    lost: int = 0  # records without their answer in the warehouse
    swept: int = 0  # temporary files that kills left behind
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)  # what must not be, one sentence each

    def add(self, other: Figures) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def killed(self) -> int:
        return self.kills.total()

    def table(self) -> str:
        """For people."""
        by_point = [(name, self.kills[name]) for name in (AT_RANDOM, *points())]
        totals = [
            ("pools", self.pools),
            ("processes", self.processes),
            ("kills", self.killed),
            ("pauses", self.pauses),
            ("faults of the API", self.faults),
            ("POSTs", self.posts),
            ("foreign batches", self.foreign),
            ("batches", self.batches),
            ("adopted", self.adopted),
            ("rows", self.rows),
            ("questions", self.asked),
            ("errored once", self.errored),
            ("billed twice", self.twice),
            ("lost", self.lost),
            ("swept files", self.swept),
            ("seconds", round(self.seconds)),
        ]
        lines = ["killed", *(f"  {name:<32}{count:>8,}" for name, count in by_point)]
        lines += ["in all", *(f"  {name:<32}{count:>8,}" for name, count in totals)]
        return "\n".join([*lines, *(f"WRONG  {sentence}" for sentence in self.wrong)])
