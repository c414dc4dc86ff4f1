"""What a person should look at: rules over facts, each with its threshold here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from claude_pipeline.picture.outcome import share
from claude_pipeline.report_page.fact import CUT, REFUSED, UNFIT, EnumUse, Lengths, SnapshotFacts

Level = Literal["ok", "look", "bad"]

LOOK_SHARE = 0.001  # of the answers: refused, cut, unfit, empty
BAD_SHARE = 0.02
DOMINATES_SHARE = 0.9  # of a property's values
LEAST_ANSWERS = 30  # fewer say nothing of how values are spread
LEAST_PER_VALUE = 10  # answers for each allowed value, below which an unused one means nothing
OUTLIER_SHARE = 0.01
SAME_SHARE = 0.2  # of free-text answers that are one and the same
SAME_LEAST = 5


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, how it stands, in a sentence."""

    level: Level
    title: str
    sentence: str


def findings(facts: SnapshotFacts) -> list[Finding]:
    """All checks, what needs a look first."""
    found = [*_outcomes(facts), *_shape(facts), *_enums(facts), *_money(facts)]
    order: dict[Level, int] = {"bad": 0, "look": 1, "ok": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def _outcomes(facts: SnapshotFacts) -> Iterator[Finding]:
    answers = facts.answers
    lost = facts.dead + facts.rejected
    if lost:
        level: Level = "bad" if lost > BAD_SHARE * facts.records else "look"
        yield Finding(
            level,
            "Records without an answer",
            f"{facts.dead:,} dead letters and {facts.rejected:,} rejected, {share(lost, facts.records)} of all records.",
        )
    else:
        yield Finding("ok", "Records without an answer", "None: every record has an answer.")
    total = facts.records - lost
    for kind, title, why in (
        (UNFIT, "Outside the output schema", "the answer is not what the schema asks for"),
        (REFUSED, "Refusals", "the model declined"),
        (CUT, "Truncations", "the answer stops at max_tokens; raise it, and only these are asked again"),
    ):
        count = answers.count(kind)
        if count or kind != UNFIT or facts.asked.output is not None:
            said = f"{count:,} of {total:,} answers ({share(count, total)}): {why}." if count else "None."
            yield Finding(_level(count, total), title, said)


def _shape(facts: SnapshotFacts) -> Iterator[Finding]:
    lengths, same = facts.answers.lengths, facts.answers.same
    if lengths is None:
        return
    if lengths.empty:
        yield Finding(
            _level(lengths.empty, lengths.answers), "Empty answers", f"{lengths.empty:,} answers hold no text."
        )
    yield _outliers(lengths)
    if same is not None and same[0] >= SAME_LEAST:
        level: Level = "look" if same[0] >= SAME_SHARE * lengths.answers else "ok"
        yield Finding(
            level,
            "The same words again",
            f"The most frequent answer was given {same[0]:,} times ({share(same[0], lengths.answers)}).",
        )


def _outliers(lengths: Lengths) -> Finding:
    count = lengths.short + lengths.long
    span = f"from {lengths.low:,.0f} to {lengths.high:,.0f} characters, median {lengths.median:,.0f}"
    if not count:
        return Finding("ok", "Length of answers", f"No outliers: {span}.")
    level: Level = "look" if count > OUTLIER_SHARE * lengths.answers else "ok"
    parts = [f"{lengths.short:,} under {lengths.short_below:,.0f}"] if lengths.short else []
    parts += [f"{lengths.long:,} over {lengths.long_above:,.0f}"] if lengths.long else []
    return Finding(level, "Length of answers", f"{' and '.join(parts)} characters stand out ({span}).")


def _enums(facts: SnapshotFacts) -> Iterator[Finding]:
    calm = []
    for use in facts.answers.enums:
        finding = enum_finding(use)
        if finding is None:
            calm.append(use.name)
        else:
            yield finding
    if calm:
        yield Finding("ok", "Spread of choices", f"No value dominates and none is unused: {', '.join(calm)}.")


def enum_finding(use: EnumUse) -> Finding | None:
    """Whether a choice collapsed to one value, or leaves values out; None where it is spread."""
    total = use.total
    if total < LEAST_ANSWERS:
        return None
    value, count = use.counts[0]
    if count >= DOMINATES_SHARE * total:
        said = f"{value!r} was given in {share(count, total)} of {total:,} cases: is the question still open to the others?"
        return Finding("look", f"One value dominates {use.name}", said)
    unused = [name for name, number in use.counts if number == 0]
    if unused and total >= LEAST_PER_VALUE * len(use.counts):
        never = ", ".join(repr(name) for name in unused)
        return Finding("look", f"Values of {use.name} that were never given", f"{never}, in {total:,} cases.")
    return None


def _money(facts: SnapshotFacts) -> Iterator[Finding]:
    planned = facts.bill.planned
    if planned is None:
        return
    inside = planned.paid_usd <= planned.usd_high
    if inside:
        yield Finding("ok", "Cost against the plan", "Not above what the plan held possible.")
    else:
        yield Finding(
            "look", "Cost against the plan", "Above the plan's upper bound: answers were longer, or more was asked."
        )


def _level(count: int, total: int) -> Level:
    if not total or count <= LOOK_SHARE * total:
        return "ok"
    return "bad" if count > BAD_SHARE * total else "look"
