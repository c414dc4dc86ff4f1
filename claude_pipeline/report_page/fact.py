"""What a page says, as plain facts; read elsewhere, shown elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from claude_pipeline.picture import CostDay, Flow, LengthBin
from claude_pipeline.stage.quality import ModelQuality

ANSWERED, REFUSED, CUT, UNFIT = "answered", "refused", "cut at max_tokens", "outside the schema"


@dataclass(frozen=True)
class Asked:
    """The question. Texts as the workload has them today; `changed` where the snapshot was asked something else."""

    dataset: str
    models: tuple[str, ...]
    choice: str | None  # how a model is chosen, where there are several
    lane: str
    template: str
    system: str | None
    settings: tuple[tuple[str, str], ...]  # name and value, as JSON where it is no plain text
    output: str | None  # JSON Schema
    changed: bool


@dataclass(frozen=True)
class Planned:
    """A plan and what its requests cost in the end."""

    requests: int
    usd: float
    usd_low: float
    usd_high: float
    asked_requests: int
    paid_usd: float
    hours: float | None = None  # in the batch lane


@dataclass(frozen=True)
class Bill:
    """What was paid; tokens are the API's."""

    usd: float
    realtime_usd: float  # the same tokens at the real-time price
    planned: Planned | None
    input_tokens: int  # all input, cache writes and reads included
    output_tokens: int
    cache_read_tokens: int
    days: tuple[CostDay, ...]


@dataclass(frozen=True)
class Pace:
    """How fast it went, by the API's clock."""

    started_at: datetime | None
    ended_at: datetime | None
    requests: int
    batches: int
    rounds: int
    hours: tuple[float, ...]  # of each batch that ended
    expired: int  # requests that ran into the 24 h
    flows: tuple[Flow, ...]

    @property
    def minutes(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return max((self.ended_at - self.started_at).total_seconds() / 60, 1 / 60)


@dataclass(frozen=True)
class Failure:
    """Records without an answer for one reason, and answers that do not fit."""

    outcome: str
    kind: str
    message: str
    records: int


@dataclass(frozen=True)
class Rejected:
    """A record that was never sent; `why` names its place in the dataset, and what is wrong there."""

    record_id: str
    kind: str
    why: str


@dataclass(frozen=True)
class Lengths:
    """Answers' lengths in characters."""

    answers: int
    empty: int
    low: float
    median: float
    high: float
    short: int  # far below the middle half
    long: int  # far above it
    short_below: float
    long_above: float
    bins: tuple[LengthBin, ...]


@dataclass(frozen=True)
class EnumUse:
    """How often each allowed value of a property was given."""

    name: str
    counts: tuple[tuple[str, int], ...]  # most frequent first; values that were never given count 0

    @property
    def total(self) -> int:
        return sum(count for _, count in self.counts)


@dataclass(frozen=True)
class Answers:
    """What the answers are like. Outcomes add up to the snapshot's records."""

    outcomes: tuple[tuple[str, int], ...]
    failures: tuple[Failure, ...]
    lengths: Lengths | None
    enums: tuple[EnumUse, ...]
    same: tuple[int, str] | None  # how many answers are word for word the most frequent one; that one
    rejected: tuple[Rejected, ...] = ()  # the first of them

    def count(self, outcome: str) -> int:
        return dict(self.outcomes).get(outcome, 0)


@dataclass(frozen=True)
class Cell:
    """A text, shortened to what is shown; `characters` is its whole length."""

    name: str
    text: str | None
    characters: int


@dataclass(frozen=True)
class Sample:
    """A record beside its answer."""

    record_id: str
    kind: str
    model: str | None
    usd: float
    record: tuple[Cell, ...]
    answer: tuple[Cell, ...]
    error: str | None

    @property
    def answered(self) -> bool:
        return any(cell.text is not None for cell in self.answer)


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    name: str
    model: str
    records: int
    answered: int
    usd: float


@dataclass(frozen=True)
class FieldChange:
    """A column of the answers over records that both sides answered."""

    name: str
    compared: int
    changed: int
    decisive: bool  # a choice or a number, not free text


@dataclass(frozen=True)
class Changed:
    """A record whose answer is another one."""

    record_id: str
    before: tuple[Cell, ...]
    after: tuple[Cell, ...]

    @property
    def pairs(self) -> list[tuple[Cell, Cell]]:
        """What differs, there and here."""
        return [(b, a) for b, a in zip(self.before, self.after, strict=True) if b != a]


@dataclass(frozen=True)
class Comparison:
    """This snapshot against another one, or against what another model answered."""

    ours: Side
    theirs: Side
    common: int  # records on both sides
    only_ours: int
    only_theirs: int
    moves: tuple[tuple[str, str, int], ...]  # outcome there, outcome here, records; only where they differ
    fields: tuple[FieldChange, ...]
    enums: tuple[tuple[EnumUse, EnumUse], ...]  # there, here
    examples: tuple[Changed, ...]


@dataclass(frozen=True)
class Confused:
    """A label, what was answered, how often."""

    label: str
    answered: str | None
    correct: bool
    records: int


@dataclass(frozen=True)
class SnapshotFacts:
    """All that the page of a snapshot says."""

    workload: str
    snapshot: str
    made_at: datetime
    merged_at: datetime
    records: int
    dead: int
    rejected: int
    reused: int
    duplicates: int
    asked: Asked
    bill: Bill
    pace: Pace
    answers: Answers
    models: tuple[ModelQuality, ...]
    confusion: tuple[Confused, ...]
    samples: tuple[Sample, ...]
    comparison: Comparison | None
    index: bool = False  # whether the workload's page lies beside it
    rests_on: str | None = None  # the snapshot that holds the older records; None: this one holds all of them


@dataclass(frozen=True)
class SnapshotLine:
    """One snapshot among others."""

    snapshot: str
    merged_at: datetime | None
    state: str
    records: int
    good: int
    unfit: int  # answered, but refused, cut or outside the schema
    dead: int
    rejected: int
    usd: float
    planned_usd: float | None
    minutes: float | None
    accuracy: float | None
    page: bool  # whether its own page lies beside


@dataclass(frozen=True)
class WorkloadFacts:
    """All that the page of a workload says."""

    workload: str
    made_at: datetime
    asked: Asked
    lines: tuple[SnapshotLine, ...]  # newest first
    days: tuple[CostDay, ...]
    hours: tuple[float, ...]
    flows: tuple[Flow, ...]
    realtime_usd: float
