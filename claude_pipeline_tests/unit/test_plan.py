"""Intervals hold the truth, limits bind where they do, and the advice says so in one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from claude_pipeline.catalog import Catalog, load
from claude_pipeline.plan import (
    Bin,
    Estimate,
    Hours,
    Interval,
    Line,
    Load,
    Method,
    Moments,
    able,
    batch_hours,
    cost_usd,
    fit,
    output_by_max_tokens,
    output_by_schema,
    predict,
    realtime_hours,
    rough_tokens,
    with_unseen,
)
from claude_pipeline_tests.unit.plan_case import HOUR, NOW, estimate, sized


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


# Tokens of requests whose sizes are known, as the world may make them.
WORLDS: dict[str, Callable[[random.Random, float], float]] = {
    "ratio": lambda c, x: x / 4 * c.lognormvariate(0, 0.1),
    "constant-part": lambda c, x: 300 + x / 4 * c.lognormvariate(0, 0.1),
    "two-scripts": lambda c, x: x / (4 if c.random() < 0.7 else 2.2),
    "answers-of-any-length": lambda c, x: c.lognormvariate(4, 0.8),
    "rare-long-answers": lambda c, x: 800 if c.random() < 0.05 else 20,
    "yes-or-no": lambda c, x: c.choice([4, 5]),
}


@pytest.mark.parametrize("size", [40, 200])
@pytest.mark.parametrize("world", WORLDS)
def test_nine_of_ten_intervals_hold_the_truth(world: str, size: int) -> None:
    held, trials = 0, 120
    for seed in range(trials):
        chance = random.Random(f"{world}-{size}-{seed}")
        everyone = [(x, WORLDS[world](chance, x)) for x in (chance.lognormvariate(7, 0.8) for _ in range(1_500))]
        sample, rest = everyone[:size], everyone[size:]
        _, interval = predict([Moments.of(sample)], len(rest), round(sum(x for x, _ in rest)))
        held += interval.low <= sum(t for _, t in rest) <= interval.high
    assert held / trials >= 0.9


@pytest.mark.parametrize("size", [20, 40, 99, 100])
def test_long_answers_too_rare_for_a_small_sample_are_within_the_interval(size: int) -> None:
    # At first 20 results held the truth 2 times in 3: most samples of that size met no long answer at all.
    held, trials = 0, 300
    for seed in range(trials):
        chance = random.Random(f"unseen-{size}-{seed}")
        everyone = [(500.0, WORLDS["rare-long-answers"](chance, 500.0)) for _ in range(1_500)]
        sample, rest = everyone[:size], everyone[size:]
        _, interval = predict([Moments.of(sample)], len(rest), 500 * len(rest))
        wider = with_unseen(interval, size, len(rest), most_each=1_024)
        held += wider.low <= sum(t for _, t in rest) <= wider.high
    assert held / trials >= 0.9


def test_alike_neighbours_widen_the_interval() -> None:
    chance = random.Random(1)
    chunks = [[(400.0, level + chance.random()) for _ in range(50)] for level in (20, 60, 25, 70, 30, 55)]
    apart = predict([Moments.of(chunk) for chunk in chunks], 10_000, 4_000_000)[1]
    together = predict([Moments.of(pair for chunk in chunks for pair in chunk)], 10_000, 4_000_000)[1]
    assert apart.high - apart.low > 3 * (together.high - together.low)


def test_a_line_knows_the_part_that_is_the_same_for_all() -> None:
    short = [(x, 100 + x / 4) for x in range(500, 900, 10)]
    _, interval = predict([Moments.of(short)], 10, 100_000)  # much longer ones than any in the sample
    assert interval.expected == pytest.approx(10 * 100 + 100_000 / 4)


@pytest.mark.parametrize(
    ("pairs", "line"),
    [
        pytest.param([(100, 25)] * 30, Line(0.0, 0.25, 0.0), id="all-of-one-size"),
        pytest.param([(100, 25), (200, 50)], Line(0.0, 0.25, 0.0), id="two-only"),
        pytest.param([(x, 7 + x / 5) for x in range(100, 200)], Line(7.0, 0.2, 0.0), id="a-line"),
    ],
)
def test_a_fit_goes_through_what_was_seen(pairs: list[tuple[float, float]], line: Line) -> None:
    assert fit(Moments.of(pairs)) == pytest.approx(line, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param("the order arrived broken " * 4, 25, id="latin"),
        pytest.param("本日受取商品壊返品希望連絡", 10, id="cjk"),
        pytest.param("if (x[0] != 7) { y += 3; }", 8.1, id="code"),
        pytest.param("заказ пришёл сломанным", 10.5, id="cyrillic"),
        pytest.param("", 0, id="nothing"),
    ],
)
def test_rough_tokens_go_by_script(catalog: Catalog, text: str, tokens: float) -> None:
    assert rough_tokens(text, catalog.limits.characters_per_token) == pytest.approx(tokens, rel=0.1)


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        pytest.param({"a": {"enum": ["x", "yyy"]}}, '{"a":"x"}', id="enum"),
        pytest.param({"a": {"type": "boolean"}, "b": {"type": "null"}}, '{"a":true,"b":null}', id="boolean-and-null"),
        pytest.param({"a": {"type": "string", "format": "date"}}, '{"a":"2026-11-22"}', id="date"),
        pytest.param({"a": {"type": "string", "maxLength": 20}}, '{"a":"twelve chars"}', id="bounded-text"),
        pytest.param({"a": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}}, '{"a":[12,7]}', id="array"),
        pytest.param({"a": {"anyOf": [{"const": "abc"}, {"type": "null"}]}}, '{"a":"abc"}', id="union"),
        pytest.param({"a": {"$ref": "#/$defs/n"}}, '{"a":12}', id="reference"),
        pytest.param({"a": {"type": ["number", "null"]}}, '{"a":1.5}', id="two-types"),
        pytest.param({"a": {"type": "integer", "minimum": 1, "maximum": 5}}, '{"a":3}', id="bounded-number"),
    ],
)
def test_a_schema_bounds_the_answer(schema: dict[str, Any], answer: str) -> None:
    whole = {"type": "object", "properties": schema, "required": list(schema), "$defs": {"n": {"type": "integer"}}}
    one = output_by_schema(whole, characters_per_token=4.0, max_tokens=1024, thinks=False)
    assert one.low <= len(answer) / 4 + 0.5 <= one.high
    assert one.low <= one.expected <= one.high


def test_a_model_that_may_think_has_a_wider_upper_bound_but_never_over_max_tokens() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    plain, thinks, short = (
        output_by_schema(schema, characters_per_token=4.0, max_tokens=most, thinks=may)
        for most, may in ((1024, False), (1024, True), (50, True))
    )
    assert plain.high < thinks.high <= 1024
    assert short.high == 50


def test_free_text_reaches_from_a_word_to_max_tokens() -> None:
    assert output_by_max_tokens(1024).high == 1024
    assert output_by_max_tokens(20).expected == 15


def test_the_batch_lane_costs_half(catalog: Catalog) -> None:
    s = sized(catalog)  # 200,000 in at 2 USD, 50,000 out at 10 USD per million
    cost = {
        lane: cost_usd(s.load, s.tokens_in, s.tokens_out, s.price, lane=lane).expected for lane in ("batch", "realtime")
    }
    assert cost == pytest.approx({"batch": 0.45, "realtime": 0.90})


def test_only_requests_over_the_band_pay_its_price(catalog: Catalog) -> None:
    price = catalog.price("claude-haiku-5-5", NOW)
    load = Load("claude-haiku-5-5", (Bin(99, 99 * 40_000), Bin(1, 800_000)), 800_000)
    line = Line(0.0, 0.25, 0.0)  # 10,000 tokens each, and one of 200,000
    tokens_in = Estimate(Interval.exact(line.total(100, load.size_bytes)), line, Method.COUNT_TOKENS, "")
    nothing = Estimate(Interval.exact(0.0), Line(0.0, 0.0, 0.0), Method.OUTPUT_SCHEMA, "")
    cost = cost_usd(load, tokens_in, nothing, price, lane="realtime").expected
    assert cost == pytest.approx((99 * 10_000 * 0.10 + 200_000 * 0.50) / 1e6)


def test_doubts_about_input_and_output_add_in_quadrature(catalog: Catalog) -> None:
    s = sized(catalog)
    wide = cost_usd(
        s.load,
        estimate(200_000, 1_000, low=0.9, high=1.1),
        estimate(50_000, 1_000, low=0.5, high=3),
        s.price,
        lane="batch",
    )
    assert wide.high == pytest.approx(0.45 + (0.02**2 + 0.5**2) ** 0.5)
    assert wide.low == pytest.approx(0.45 - (0.02**2 + 0.125**2) ** 0.5)


@pytest.mark.parametrize(
    ("requests", "hours", "waves", "binding"),
    [
        pytest.param(0, 0.0, 0, "nothing to send", id="nothing"),
        pytest.param(5_000, 1.0, 1, "time of a batch at the API", id="one-batch"),
        pytest.param(200_000, 1.0, 1, "time of a batch at the API", id="the-queue-just-full"),
        pytest.param(1_000_000, 5.0, 5, "200,000 queued requests", id="the-queue-five-times"),
    ],
)
def test_the_queue_of_the_tier_decides_how_many_waves(
    catalog: Catalog, requests: int, hours: float, waves: int, binding: str
) -> None:
    found = batch_hours(
        requests, requests_per_batch=10_000, tier=catalog.tier("start"), batches_in_flight=100, turnaround=HOUR
    )
    assert (found.expected, found.waves, found.binding) == (hours, waves, binding)
    assert found.cautious == 2 * hours


def test_few_batches_in_flight_decide_before_the_queue(catalog: Catalog) -> None:
    found = batch_hours(
        100_000, requests_per_batch=1_000, tier=catalog.tier("start"), batches_in_flight=10, turnaround=HOUR
    )
    assert (found.expected, found.binding) == (10.0, "10 batches in flight")


@pytest.mark.parametrize(
    ("requests", "tokens_in", "tokens_out", "hours", "binding"),
    [
        pytest.param(60_000, 6e6, 6e5, 1.0, "1,000 requests per minute", id="requests"),
        pytest.param(1_000, 240e6, 1e5, 2.0, "2,000,000 input tokens per minute", id="input-tokens"),
        pytest.param(1_000, 1e6, 72e6, 3.0, "400,000 output tokens per minute", id="output-tokens"),
    ],
)
def test_the_scarcest_limit_binds_in_real_time(
    catalog: Catalog, requests: int, tokens_in: float, tokens_out: float, hours: float, binding: str
) -> None:
    rate = catalog.tier("start").rate(catalog.model("claude-haiku-5-5"))
    found = realtime_hours(requests, tokens_in, tokens_out, rate, doubt=1.0)
    assert (found.expected, found.binding) == (hours, binding)


@pytest.mark.parametrize(
    ("hours", "verdict"),
    [
        pytest.param(Hours(1, 2, ""), "met", id="met"),
        pytest.param(Hours(1, 5, ""), "likely", id="a-slow-batch-would-miss-it"),
        pytest.param(Hours(4, 5, ""), "missed", id="missed"),
        pytest.param(Hours(None, None, ""), "unknown", id="no-limits-published"),
    ],
)
def test_the_verdict_goes_by_usual_and_slow(hours: Hours, verdict: str) -> None:
    assert hours.verdict(3) == verdict


@pytest.mark.parametrize(
    ("model", "changes", "can"),
    [
        pytest.param("claude-haiku-5-5", {}, True, id="current"),
        pytest.param("claude-sonnet-4-5", {}, False, id="deprecated"),
        pytest.param("claude-opus-4-0", {}, False, id="retired"),
        pytest.param("claude-mythos-5", {}, False, id="by-invitation"),
        pytest.param("claude-haiku-4-5", {"most_input_tokens": 300_000.0}, False, id="context-too-small"),
        pytest.param("claude-haiku-4-5", {"max_tokens": 100_000}, False, id="answer-too-long"),
        pytest.param("claude-haiku-4-5", {"params": {"inference_geo": "us"}}, False, id="no-geo"),
        pytest.param("claude-opus-5-5", {"params": {"thinking": {"type": "disabled"}}}, False, id="cannot-but-think"),
    ],
)
def test_only_models_that_could_do_it_are_alternatives(
    catalog: Catalog, model: str, changes: dict[str, Any], can: bool
) -> None:
    asks: dict[str, Any] = {"max_tokens": 256, "most_input_tokens": 1_000.0, "structured": True, "params": {}} | changes
    assert able(catalog, catalog.model(model), NOW.date(), **asks) is can


@pytest.mark.parametrize(
    ("model", "day", "says"),
    [
        pytest.param("claude-sonnet-4-5", date(2026, 11, 22), "retires on 2026-11-30, in 8 days; use claude-sonnet-5-5", id="soon"),
        pytest.param("claude-sonnet-4-5", date(2026, 11, 29), "in 1 day;", id="tomorrow"),
        pytest.param("claude-sonnet-4-5", date(2026, 11, 30), "is retired since 2026-11-30; use claude-sonnet-5-5", id="gone"),
        pytest.param("claude-haiku-5-5", date(2026, 11, 22), None, id="active"),
    ],
)  # fmt: skip
def test_a_model_that_will_be_gone_says_when_and_what_instead(
    catalog: Catalog, model: str, day: date, says: str | None
) -> None:
    warning = catalog.model(model).warning(day)
    assert (warning is None) if says is None else (says in str(warning))


def test_every_successor_is_an_active_model(catalog: Catalog) -> None:
    successors = [catalog.model(m.successor) for m in catalog.models if m.successor]
    assert successors
    assert {m.lifecycle(NOW.date()) for m in successors} == {"active"}
