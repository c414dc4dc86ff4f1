"""Pictures: SVG text that may stand anywhere, says what it shows, and fetches nothing."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree as Tree

import pytest

from claude_pipeline.picture import (
    CURRENT_COLOR,
    MID_TONE,
    NARROW,
    CostDay,
    Flow,
    LengthBin,
    Look,
    Outcome,
    draw_cost,
    draw_lengths,
    draw_outcomes,
    draw_throughput,
    draw_turnarounds,
    markdown_image,
)
from claude_pipeline.picture.cost import by_model
from claude_pipeline.picture.outcome import share
from claude_pipeline.picture.throughput import in_steps

NINE = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
FLOWS = [Flow(NINE + timedelta(minutes=n), "batch", 120.0, 9_000.0, True) for n in range(300)]
AT_ONCE = [Flow(NINE + timedelta(minutes=300 + n), "realtime", 600.0, 50_000.0, False) for n in range(10)]
COSTS = [CostDay(date(2026, 11, day), model, day / 10) for day in (1, 2, 3) for model in ("haiku", "sonnet")]
OUTCOMES = [Outcome("answered", 990), Outcome("errored", 10, good=False)]
NASTY = '<script>alert("1")</script> & $x^2$ \x00\ud800 日本'
Draw = Callable[[Look], str]
PICTURES: list[object] = [
    pytest.param(lambda look: draw_throughput([*FLOWS, *AT_ONCE], look), id="throughput"),
    pytest.param(lambda look: draw_throughput([], look), id="throughput-of-nothing"),
    pytest.param(lambda look: draw_throughput(FLOWS[:1], look), id="throughput-of-a-minute"),
    pytest.param(lambda look: draw_cost(COSTS, look), id="cost"),
    pytest.param(lambda look: draw_cost(COSTS[:2], look), id="cost-of-a-day"),
    pytest.param(lambda look: draw_cost([], look), id="cost-of-nothing"),
    pytest.param(lambda look: draw_cost([CostDay(date(2026, 11, 1), NASTY, 1.0)], look), id="cost-of-a-nasty-name"),
    pytest.param(lambda look: draw_turnarounds([0.4, 1.2, 24.0], look), id="turnaround"),
    pytest.param(lambda look: draw_turnarounds([0.0], look), id="turnaround-of-no-time"),
    pytest.param(lambda look: draw_turnarounds([], look), id="turnaround-of-nothing"),
    pytest.param(lambda look: draw_lengths([LengthBin(0, 10, 5), LengthBin(10, 20, 1)], look, median=7), id="lengths"),
    pytest.param(lambda look: draw_lengths([], look), id="lengths-of-nothing"),
    pytest.param(lambda look: draw_outcomes(OUTCOMES, look), id="outcomes"),
    pytest.param(lambda look: draw_outcomes([Outcome(NASTY, 3)], look), id="outcomes-of-a-nasty-name"),
    pytest.param(lambda look: draw_outcomes([], look), id="outcomes-of-nothing"),
]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in Tree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize("look", [Look("p"), Look("p", NARROW, CURRENT_COLOR)], ids=["wide", "narrow"])
def test_a_picture_is_well_formed_and_fetches_nothing(draw: Draw, look: Look) -> None:
    svg = draw(look)

    root = Tree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"]
    assert svg.replace("http://www.w3.org/2000/svg", "").count("://") == 0
    for word in ("<script", "<image", "<style", "<metadata", "data:", "\x00"):
        assert word not in svg
    assert look.ink in svg
    assert {"#000000", "black", "#010203"} & set(re.findall(r"#[0-9a-f]{6}|black", svg)) == set()
    assert float(root.attrib["viewBox"].split()[2]) == look.width


@pytest.mark.parametrize("draw", PICTURES)
def test_ids_carry_the_pictures_name_and_all_of_them_are_used(draw: Draw) -> None:
    svg = draw(Look("mine"))

    ids = re.findall(r'\bid="([^"]+)"', svg)
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg))
    assert all(name.startswith("mine-") for name in ids)
    assert len(ids) == len(set(ids))
    assert set(ids) == used


def test_the_same_rows_draw_the_same_picture() -> None:
    assert draw_cost(COSTS) == draw_cost(COSTS)


def test_titles_and_units_are_text() -> None:
    assert {"Throughput over time (UTC)", "requests/min", "tokens/min", "batch lane (estimated)", "real-time lane (measured)"} <= set(
        texts(draw_throughput([*FLOWS, *AT_ONCE]))
    )  # fmt: skip
    assert {"Cost by day and model (USD)", "haiku", "$0.20"} <= set(texts(draw_cost(COSTS)))
    assert {"24 h", "24 h: what is unanswered expires", "median 1.2 h"} <= set(
        texts(draw_turnarounds([0.4, 1.2, 24.0]))
    )
    assert {"990 (99.0 %)", "10 (1.0 %)", "errored"} <= set(texts(draw_outcomes(OUTCOMES)))


def test_what_is_estimated_and_what_failed_is_hatched_beside_its_colour() -> None:
    assert "<pattern" in draw_throughput(FLOWS)
    assert "<pattern" not in draw_throughput(AT_ONCE)
    assert "<pattern" in draw_outcomes(OUTCOMES)
    assert "<pattern" not in draw_outcomes(OUTCOMES[:1])


def test_minutes_are_put_together_and_nothing_is_lost() -> None:
    steps = in_steps([*FLOWS, *AT_ONCE], most=40)

    assert len(steps.edges) - 1 <= 40
    requests = sum(sum(values[0]) * steps.minutes for values in steps.lanes.values())
    assert requests == pytest.approx(300 * 120 + 10 * 600)


def test_models_that_no_colour_is_left_for_are_put_together() -> None:
    rows = [CostDay(date(2026, 11, 1), f"model-{n}", float(n)) for n in range(1, 8)]

    table = by_model(rows)

    assert list(table) == ["model-7", "model-6", "model-5", "model-4", "other models"]
    assert sum(sum(days.values()) for days in table.values()) == sum(row.usd for row in rows)


@pytest.mark.parametrize(
    ("part", "said"),
    [(0, "0 %"), (10_000, "100 %"), (9_999, "> 99.95 %"), (1, "< 0.05 %"), (12, "0.12 %"), (3_300, "33 %"), (9_940, "99.4 %")],
)  # fmt: skip
def test_a_share_never_rounds_to_all_or_nothing(part: int, said: str) -> None:
    assert share(part, 10_000) == said


def test_a_picture_can_stand_in_markdown() -> None:
    svg = draw_outcomes(OUTCOMES)

    said = markdown_image(svg, "Outcomes] of\nnotes")

    assert MID_TONE in svg
    assert said.startswith("![Outcomes) of notes](data:image/svg+xml;base64,")
    assert base64.b64decode(said.rpartition(",")[2][:-1]).decode() == svg
