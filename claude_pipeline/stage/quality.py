"""How good the answers of a merged snapshot are, by model, and which labels are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.ledger import SnapshotRow
from claude_pipeline.result import Measure
from claude_pipeline.sql import file_literal, literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

CONFUSIONS_MAX = 3


@dataclass(frozen=True)
class ModelQuality:
    """One model in one snapshot; see the view `<w>.quality`. Shares are None where nothing is counted."""

    model: str
    asked: int
    succeeded: int
    valid: int
    labelled: int
    correct: int
    score: float | None
    cost_usd: float

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.labelled if self.labelled else None

    @property
    def sentence(self) -> str:
        """For people."""
        parts = [f"{self.accuracy:.1%} of {self.labelled:,} right"] if self.accuracy is not None else []
        parts += [f"{self.score:.1%} meet the rule"] if self.score is not None else []
        parts.append(f"{self.valid:,} of {self.succeeded:,} valid")
        parts.append(f"{self.asked:,} asked" + (f" at ${self.cost_usd / self.asked:.7f} each" if self.asked else ""))
        return ", ".join(parts)


@dataclass(frozen=True)
class Confusion:
    """A label, what was answered instead, and how often."""

    label: str
    answered: str | None
    records: int


@dataclass(frozen=True)
class Quality:
    """By model, in the order of their names; and the most frequent confusions."""

    models: tuple[ModelQuality, ...] = ()
    confusions: tuple[Confusion, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """Over all models."""
        labelled = sum(model.labelled for model in self.models)
        return sum(model.correct for model in self.models) / labelled if labelled else None

    def rows(self) -> list[tuple[str, str]]:
        """Label and value, for a table that people read."""
        taken = [(f"{c.records:,} taken wrongly", f"{c.label} for {c.answered or 'nothing'}") for c in self.confusions]
        return [*((model.model, model.sentence) for model in self.models), *taken]

    def numbers(self) -> dict[str, float | None]:
        """What plots over time, by model where there are several."""
        found: dict[str, float | None] = {"accuracy": self.accuracy}
        if len(self.models) > 1:
            found |= {f"accuracy/{model.model}": model.accuracy for model in self.models}
        return found


def quality_of(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> Quality:
    """That of a merged snapshot; empty where there is nothing to measure by and one model only."""
    text = desk.ledger.measures().get(workload.name)
    merged = [p for p in desk.ledger.merged_parts(workload.name) if p.snapshot == snapshot.id]
    if text is None or not merged:
        return Quality()
    measure = Measure.from_json(text)
    results = _relation([desk.path(part.path) for part in merged])
    asked = [desk.path(p.path) for p in desk.ledger.parts(workload.name, kinds=["attempts"], snapshot=snapshot.id)]
    nothing = f"(SELECT {literal(snapshot.id)} AS snapshot, '' AS model, ''::BLOB AS fingerprint, 0.0 AS cost_usd WHERE false)"
    attempts = _relation(asked) if asked else nothing
    confusion = measure.confusion(results)
    with leased(desk.home.scratch()) as duck:
        columns = "model, asked, succeeded, valid, labelled, correct, score, cost_usd"
        models = duck.sql(f"SELECT {columns} FROM ({measure.quality(results, attempts)})").fetchall()
        wrong = f"SELECT label, answered, sum(records)::BIGINT FROM ({confusion}) WHERE NOT correct GROUP BY ALL"
        ordered = f"{wrong} ORDER BY 3 DESC, 1, 2 LIMIT {CONFUSIONS_MAX}"
        confusions = duck.sql(ordered).fetchall() if confusion is not None else []
    return Quality(tuple(ModelQuality(*row) for row in models), tuple(Confusion(*row) for row in confusions))


def _relation(paths: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(file_literal(path) for path in paths)}], union_by_name = true)"
