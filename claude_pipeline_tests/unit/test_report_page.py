"""Report pages: what they say of given facts, and that no text of a record gets out of its place."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser

import pytest

from claude_pipeline.picture import CostDay, LengthBin
from claude_pipeline.report_page import SnapshotFacts, WorkloadFacts, snapshot_page, workload_page
from claude_pipeline.report_page.check import enum_finding, findings
from claude_pipeline.report_page.enum_leaf import leaves_of
from claude_pipeline.report_page.fact import (
    Answers,
    Asked,
    Bill,
    Cell,
    Changed,
    Comparison,
    Confused,
    EnumUse,
    Failure,
    FieldChange,
    Lengths,
    Pace,
    Planned,
    Sample,
    Side,
    SnapshotLine,
)
from claude_pipeline.report_page.flow import Span, spread
from claude_pipeline.report_page.page import matrix_of
from claude_pipeline.report_page.word import change, clean
from claude_pipeline.stage.quality import ModelQuality
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import make_workload

NASTY = "<script>alert('1')</script>\"'><img src=x onerror=y> {{ 7*7 }} {% x %} &amp; \u202egnp\u200f 😀\x00\x1b"
LENGTHS = Lengths(1_000, 0, 10, 40, 90, 0, 0, 0, 200, (LengthBin(0, 50, 900), LengthBin(50, 100, 100)))
ASKED = Asked(
    "notes.jsonl", ("claude-haiku-5-5",), None, "auto", "Sort: {{ text }}", None, (("max_tokens", "64"),), None, False
)
FACTS = SnapshotFacts(
    workload="notes", snapshot="2026-11-22.2", made_at=NOW, merged_at=NOW, records=1_000, dead=0, rejected=0, reused=30,
    duplicates=0, asked=ASKED,
    bill=Bill(1.5, 3.0, Planned(970, 1.6, 1.2, 2.0, 970, 1.5, 0.5), 60_000, 12_000, 0, (CostDay(date(2026, 11, 22), "m", 1.5),)),
    pace=Pace(NOW, NOW + timedelta(minutes=10), 970, 1, 1, (0.2,), 0, ()),
    answers=Answers((("answered", 1_000),), (), LENGTHS, (), None),
    models=(), confusion=(), samples=(), comparison=None,
)  # fmt: skip


class Page(HTMLParser):
    """What a browser would see: elements, headings, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.headings: list[str] = []
        self.open = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in ("h1", "h2"):
            self.headings.append("")
            self.open += 1

    def handle_endtag(self, tag: str) -> None:
        self.open -= tag in ("h1", "h2")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open:
            self.headings[-1] += data


def titles(facts: SnapshotFacts, level: str) -> list[str]:
    return [finding.title for finding in findings(facts) if finding.level == level]


def nasty_facts() -> SnapshotFacts:
    """The same text wherever one of a record, an answer, the API or a user can stand."""
    cell, huge = Cell(NASTY, NASTY, len(NASTY)), Cell("huge", NASTY + "x" * 2_000, 1_048_576)
    use = EnumUse(NASTY, ((NASTY, 900), ("b", 0)))
    return replace(
        FACTS,
        asked=Asked(NASTY, (NASTY,), NASTY, NASTY, NASTY, NASTY, ((NASTY, NASTY),), NASTY, True),
        answers=Answers(
            (("answered", 1), (NASTY, 2)), (Failure(NASTY, NASTY, NASTY, 1),), LENGTHS, (use,), (900, NASTY)
        ),
        models=(ModelQuality(NASTY, 1, 1, 1, 1, 1, None, 0.1),),
        confusion=(Confused(NASTY, NASTY, False, 1),),
        samples=(Sample(NASTY, NASTY, NASTY, 0.1, (cell, huge), (cell,), NASTY),),
        comparison=Comparison(
            Side(NASTY, NASTY, 1, 1, 0.1), Side(NASTY, NASTY, 1, 1, 0.1), 1, 1, 1, ((NASTY, NASTY, 1),),
            (FieldChange(NASTY, 1, 1, True),), ((use, use),), (Changed(NASTY, (cell,), (huge,)),),
        ),
    )  # fmt: skip


def test_no_text_gets_out_of_its_place() -> None:
    page = snapshot_page(nasty_facts())

    seen = Page(page)
    assert {"script", "img", "iframe", "object", "form"} & set(seen.tags) == set()
    assert [name for name, _ in seen.attributes if name.startswith("on") or name == "src"] == []
    assert "{{ 7*7 }}" in seen.text
    assert not {"\x00", "\x1b"} & set(page)
    assert seen.text.count("<script>alert('1')</script>") > 20


def test_a_megabyte_is_folded_and_said_to_be_more() -> None:
    page = snapshot_page(nasty_facts())

    assert len(page) < 500_000
    assert "(1,048,576 characters)" in page
    assert "more characters are not shown" in page


def test_foreign_text_is_isolated_so_that_its_direction_ends_with_it() -> None:
    assert '<bdi class="text" dir="auto">' in snapshot_page(nasty_facts())


@pytest.mark.parametrize("page", [snapshot_page(FACTS), snapshot_page(nasty_facts())], ids=["plain", "nasty"])
def test_a_page_needs_no_network_and_no_script(page: str) -> None:
    seen = Page(page)

    links = [value for name, value in seen.attributes if name == "href"]
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert "default-src 'none'" in page
    assert "@import" not in page
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_page_says_what_came_of_it_in_its_first_lines() -> None:
    seen = Page(snapshot_page(FACTS))

    text = " ".join(seen.text.split())
    assert (
        "1,000 of 1,000 records have a good answer (100 %), for $1.5000: 50 % less than at the real-time price." in text
    )
    assert "Nothing needs a look." in text
    assert seen.headings == [
        "notes", "Checks", "Outcomes", "Cost", "Time", "Answers", "Records beside their answers", "What was asked",
    ]  # fmt: skip


def test_headings_and_tables_can_be_heard() -> None:
    page = snapshot_page(nasty_facts())

    assert page.count("<h1") == 1
    assert page.count("<th ") == page.count('<th scope="')
    assert page.count("<svg") == page.count('role="img"') == page.count("<title>") - 1
    assert '<html lang="en">' in page


def test_a_changed_workload_is_not_shown_as_what_was_asked() -> None:
    changed = replace(FACTS, asked=replace(ASKED, changed=True))

    assert "has changed since this snapshot was planned" in snapshot_page(changed)
    assert "has changed since" not in snapshot_page(FACTS)


def test_without_a_kept_plan_there_is_only_the_real_time_price_to_compare_with() -> None:
    page = Page(snapshot_page(replace(FACTS, bill=replace(FACTS.bill, planned=None)))).text

    assert "No plan was kept for this snapshot" in page
    assert "9 times in 10" not in page


def test_a_workloads_page_links_the_snapshots_that_have_a_page() -> None:
    line = SnapshotLine("2026-11-22.2", NOW, "merged", 10, 9, 0, 1, 0, 0.1, 0.2, 5.0, None, True)
    older = replace(line, snapshot="2026-11-22.1", page=False, planned_usd=None)
    page = workload_page(WorkloadFacts("notes", NOW, ASKED, (line, older), (), (), (), 0.2))

    assert '<a href="2026-11-22.2.html">' in page
    assert '<a href="2026-11-22.1.html">' not in page
    assert "18 good answers to 20 records" in " ".join(Page(page).text.split())


def test_nothing_wrong_needs_no_look() -> None:
    assert titles(FACTS, "look") == titles(FACTS, "bad") == []


def outcomes(**counts: int) -> SnapshotFacts:
    rows = (
        ("answered", 1_000 - sum(counts.values())),
        *(({"cut": "cut at max_tokens"}.get(name, name.replace("_", " ")), n) for name, n in counts.items()),
    )
    return replace(FACTS, answers=replace(FACTS.answers, outcomes=rows))


@pytest.mark.parametrize(
    ("facts", "level", "title"),
    [
        pytest.param(replace(FACTS, dead=1), "look", "Records without an answer", id="one-dead-letter"),
        pytest.param(replace(FACTS, dead=10, rejected=11), "bad", "Records without an answer", id="many-dead-letters"),
        pytest.param(outcomes(refused=5), "look", "Refusals", id="refusals"),
        pytest.param(outcomes(refused=50), "bad", "Refusals", id="many-refusals"),
        pytest.param(outcomes(cut=5), "look", "Truncations", id="truncations"),
        pytest.param(outcomes(outside_the_schema=5), "look", "Outside the output schema", id="unfit"),
        pytest.param(
            replace(FACTS, answers=replace(FACTS.answers, lengths=replace(LENGTHS, long=20))), "look", "Length of answers",
            id="long-answers",
        ),
        pytest.param(
            replace(FACTS, answers=replace(FACTS.answers, lengths=replace(LENGTHS, empty=50))), "bad", "Empty answers", id="empty",
        ),
        pytest.param(
            replace(FACTS, answers=replace(FACTS.answers, same=(300, "Sorry."))), "look", "The same words again", id="one-answer",
        ),
        pytest.param(
            replace(FACTS, bill=replace(FACTS.bill, planned=Planned(970, 1.0, 0.8, 1.2, 970, 1.5))), "look",
            "Cost against the plan", id="dearer-than-planned",
        ),
    ],
)  # fmt: skip
def test_what_needs_a_look_is_found(facts: SnapshotFacts, level: str, title: str) -> None:
    assert title in titles(facts, level)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        pytest.param((("a", 95), ("b", 5)), "One value dominates kind", id="collapse"),
        pytest.param((("a", 60), ("b", 40), ("c", 0)), "Values of kind that were never given", id="unused"),
        pytest.param((("a", 60), ("b", 40)), None, id="spread"),
        pytest.param((("a", 9), ("b", 0)), None, id="too-few-to-tell"),
    ],
)
def test_a_choice_that_collapsed_is_found(counts: tuple[tuple[str, int], ...], said: str | None) -> None:
    finding = enum_finding(EnumUse("kind", counts))

    assert (finding.title if finding else None) == said


def test_choices_are_found_at_any_depth() -> None:
    inner = {
        "type": "object",
        "properties": {"unit": {"type": "string", "enum": ["h", "d"]}, "free": {"type": "string"}},
    }
    output = {
        "type": "object",
        "properties": {
            "kind": {"type": ["string", "null"], "enum": ["a", None]},
            "lines": {"type": "array", "items": inner},
            "deep": {"type": "object", "properties": {"sure": {"type": "boolean"}}},
            "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "named": {"$ref": "#/$defs/mood"},
        },
        "$defs": {"mood": {"enum": ["good", "bad"]}},
    }

    leaves = leaves_of(make_workload(output=output))

    assert [(leaf.name, leaf.values, leaf.many) for leaf in leaves] == [
        ("kind", ("a",), False),
        ("lines[].unit", ("h", "d"), True),
        ("deep.sure", ("true", "false"), False),
        ("either", ("true", "false"), False),
        ("named", ("good", "bad"), False),
    ]


def test_spans_are_spread_over_their_minutes_and_added_up() -> None:
    spans = [
        Span(NOW, NOW + timedelta(minutes=3), 400, 4_000),
        Span(NOW + timedelta(minutes=2), NOW + timedelta(minutes=2), 10, 0),
    ]

    flows = spread(spans, "batch", estimated=True)

    assert [flow.requests_per_min for flow in flows] == [100, 100, 110, 100]
    assert [flow.at for flow in flows] == [NOW + timedelta(minutes=n) for n in range(4)]


def test_labels_and_answers_are_a_matrix_while_it_can_be_read() -> None:
    confusion = [Confused("a", "a", True, 5), Confused("b", "a", False, 2), Confused("b", None, False, 1)]
    many = [Confused(str(n), "a", False, 1) for n in range(9)]

    matrix = matrix_of(confusion)

    assert matrix is not None
    assert matrix.answered == ("a", "nothing that fits")
    assert matrix.rows == (("a", ((5, True), (0, False))), ("b", ((2, False), (1, False))))
    assert matrix_of(many) is None
    assert matrix_of([]) is None


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [(1.0, 2.0, "50 % less"), (1.1, 1.0, "10 % more"), (1.0, 1.0, "the same"), (3.0, 1.0, "3.0 times as much"), (1.0, 0.0, "")],
)  # fmt: skip
def test_changes_are_said_in_words(now: float, before: float, said: str) -> None:
    assert change(now, before) == said


def test_what_no_page_may_hold_is_marked() -> None:
    assert clean("a\x00b\x1bc\ud800d\n\t") == "a\ufffdb\ufffdc\ufffdd\n\t"
