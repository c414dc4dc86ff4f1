"""Facts -> HTML. One file with everything in it: no script, no font, no picture from elsewhere.

Autoescape is on and stays on; what templates mark as safe are our own pictures and our own style sheet. A policy
in the page forbids the browser to load or run anything, should a text ever get through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from claude_pipeline.picture import (
    CURRENT_COLOR,
    NARROW,
    WIDE,
    Look,
    Outcome,
    draw_cost,
    draw_lengths,
    draw_outcomes,
    draw_throughput,
    draw_turnarounds,
)
from claude_pipeline.report_page import word
from claude_pipeline.report_page.check import findings
from claude_pipeline.report_page.fact import ANSWERED, Comparison, Confused, FieldChange, SnapshotFacts, WorkloadFacts

MATRIX_MAX = 8  # labels, or answers
NOTHING = "nothing that fits"
TEMPLATES = Path(__file__).parent / "template"
LEVELS = {"bad": ("✕", "Problem"), "look": ("▲", "Look"), "ok": ("✓", "Fine")}  # a shape and a word, beside the colour


def snapshot_page(facts: SnapshotFacts) -> str:
    """The HTML of a snapshot's report."""
    bill, pace, lengths = facts.bill, facts.pace, facts.answers.lengths
    outcomes = [Outcome(kind, count, good=kind == ANSWERED) for kind, count in facts.answers.outcomes]
    pictures = {
        "outcomes": _picture("outcomes", lambda look: draw_outcomes(outcomes, look)),
        "throughput": _picture("throughput", lambda look: draw_throughput(pace.flows, look)),
    }
    if len(bill.days) > 1:
        pictures["cost"] = _picture("cost", lambda look: draw_cost(bill.days, look))
    if pace.batches:
        pictures["turnaround"] = _picture("turnaround", lambda look: draw_turnarounds(pace.hours, look))
    if lengths is not None:
        pictures["lengths"] = _picture(
            "lengths", lambda look: draw_lengths(lengths.bins, look, median=float(lengths.median))
        )
    said = findings(facts)
    good = facts.answers.count(ANSWERED)
    labelled = sum(model.labelled for model in facts.models)
    return _render(
        "snapshot.html",
        facts=facts,
        pictures=pictures,
        findings=said,
        to_look_at=sum(finding.level != "ok" for finding in said),
        good=good,
        labelled=labelled,
        correct=sum(model.correct for model in facts.models),
        slowest=max(pace.hours, default=None),
        usual=median(pace.hours) if pace.hours else None,
        changed=_changed(facts.comparison),
        matrix=matrix_of(facts.confusion),
    )


def workload_page(facts: WorkloadFacts) -> str:
    """The HTML of a workload's report: its snapshots over time."""
    pictures = {
        "cost": _picture("cost", lambda look: draw_cost(facts.days, look)),
        "throughput": _picture("throughput", lambda look: draw_throughput(facts.flows, look)),
        "turnaround": _picture("turnaround", lambda look: draw_turnarounds(facts.hours, look)),
    }
    merged = [line for line in facts.lines if line.merged_at is not None]
    return _render(
        "workload.html",
        facts=facts,
        pictures=pictures,
        newest=merged[0] if merged else None,
        merged=len(merged),
        usd=sum(line.usd for line in facts.lines),
        records=sum(line.records for line in merged),
        good=sum(line.good for line in merged),
        measured=any(line.accuracy is not None for line in facts.lines),
        planned=any(line.planned_usd is not None for line in facts.lines),
    )


def _changed(comparison: Comparison | None) -> FieldChange | None:
    """The property of choice, or where there is none the text, that changed most."""
    if comparison is None:
        return None
    told = [f for f in comparison.fields if f.decisive] or list(comparison.fields)
    return max(told, key=lambda field: field.changed, default=None)


@dataclass(frozen=True)
class Matrix:
    """Labels by answers: for each label the count and whether it is right, in the order of `answered`."""

    answered: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, bool], ...]], ...]


def matrix_of(confusion: Sequence[Confused]) -> Matrix | None:
    """None where there are too many labels or answers for a table that can be read."""
    total: dict[str, int] = {}
    for row in confusion:
        total[row.label] = total.get(row.label, 0) + row.records
    labels = sorted(total, key=lambda label: (-total[label], label))
    words = list(dict.fromkeys(row.answered or NOTHING for row in confusion))
    answered = [label for label in labels if label in words] + [word for word in words if word not in labels]
    if not labels or len(labels) > MATRIX_MAX or len(answered) > MATRIX_MAX:
        return None
    cells = {(row.label, row.answered or NOTHING): (row.records, row.correct) for row in confusion}
    nothing = (0, False)
    return Matrix(
        tuple(answered),
        tuple((label, tuple(cells.get((label, answer), nothing) for answer in answered)) for label in labels),
    )


def _picture(name: str, draw: Callable[[Look], str]) -> Markup:
    """Drawn twice, for a desk and for a phone: text that shrinks with its picture cannot be read."""
    wide = draw(Look(f"{name}-w", WIDE, CURRENT_COLOR))
    narrow = draw(Look(f"{name}-n", NARROW, CURRENT_COLOR))
    # The pictures' own labels are escaped where they are made, by matplotlib's SVG writer and by ElementTree.
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(Markup(wide), Markup(narrow))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=word.clean,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    filters = ("usd", "number", "moment", "span", "hours")
    environment.filters.update({name: getattr(word, name) for name in filters})
    globals_: dict[str, Any] = {name: getattr(word, name) for name in ("share", "rate", "change", "usd_range")}
    environment.globals.update(globals_ | {"LEVELS": LEVELS, "FOLD": word.FOLD_CHARACTERS})
    return environment


def _render(template: str, **facts: Any) -> str:
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    return _environment().get_template(template).render(style=style, **facts)
