"""The bill to the last picodollar, rule by rule, against prices written down here once more."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import anthropic
import pytest

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.simulator.case import (
    BATCH_SECONDS,
    connected,
    ended_batch,
    params,
    requests,
    results_of,
)

OCTOBER = datetime(2026, 10, 6, 23, 30, tzinfo=UTC)  # half an hour before Sonnet 5.5's reads cost half
NOVEMBER = datetime(2026, 11, 22, tzinfo=UTC)


class Prices(NamedTuple):
    """USD per million tokens."""

    input: str
    write_5m: str
    write_1h: str
    read: str
    output: str


HAIKU = Prices("0.10", "0.125", "0.20", "0.01", "0.50")
HAIKU_LONG = Prices("0.50", "0.625", "1.00", "0.05", "2.50")
SONNET_IN_OCTOBER = Prices("2", "2.50", "4", "0.20", "10")
SONNET = Prices("2", "2.50", "4", "0.10", "10")


def cost(usage: Any, prices: Prices) -> Decimal:
    """USD of one answer's usage at full price."""
    written = usage.cache_creation
    tokens = (
        usage.input_tokens,
        written.ephemeral_5m_input_tokens,
        written.ephemeral_1h_input_tokens,
        usage.cache_read_input_tokens,
        usage.output_tokens,
    )
    return added(n * Decimal(price) for n, price in zip(tokens, prices, strict=True)) / 1_000_000


def added(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal())


def total(simulator: Simulator) -> Decimal:
    return Decimal(simulator.invoice()["total_usd"])


def lines_of(simulator: Simulator) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(simulator.invoice_lines()).splitlines()]


def cached(tokens: int, ttl: str) -> list[dict[str, Any]]:
    """System blocks of so many tokens that ask to be cached."""
    return [{"type": "text", "text": "s" * 4 * tokens, "cache_control": {"type": "ephemeral", "ttl": ttl}}]


def options(start: datetime = NOVEMBER, **changes: Any) -> Options:
    return Options(start=start, paused=True, batch_seconds=(BATCH_SECONDS, BATCH_SECONDS), **changes)


MESSAGES = {
    "haiku": ("claude-haiku-5-5", 500, 0, "", HAIKU),
    "haiku-at-the-band's-edge": ("claude-haiku-5-5", 99_996, 0, "", HAIKU),
    "haiku-over-the-band's-edge": ("claude-haiku-5-5", 99_997, 0, "", HAIKU_LONG),
    "haiku-over-by-what-is-cached": ("claude-haiku-5-5", 100, 100_000, "1h", HAIKU_LONG),
    "5m-write": ("claude-sonnet-5-5", 100, 2_000, "5m", SONNET),
    "1h-write": ("claude-sonnet-5-5", 100, 2_000, "1h", SONNET),
}


@pytest.mark.parametrize("twice", [False, True], ids=["once", "read-again"])
@pytest.mark.parametrize("geo", [None, "us"], ids=["global", "us"])
@pytest.mark.parametrize(("model", "fresh", "prefix", "ttl", "prices"), MESSAGES.values(), ids=MESSAGES.keys())
def test_a_message_costs_each_class_of_its_tokens(
    model: str, fresh: int, prefix: int, ttl: str, prices: Prices, geo: str | None, twice: bool
) -> None:
    asked = params("q" * 4 * fresh, model=model) | ({"inference_geo": geo} if geo else {})
    if prefix:
        asked["system"] = cached(prefix, ttl)
    with running(options()) as simulator, connected(simulator) as client:
        usages = [client.messages.create(**asked).usage for _ in range(1 + twice)]
        billed = total(simulator)
    assert billed == added(cost(usage, prices) for usage in usages) * Decimal("1.1" if geo else "1")
    if prefix and ttl == "5m":
        assert usages[0].cache_creation is not None
        assert usages[0].cache_creation.ephemeral_5m_input_tokens == prefix
    if prefix and twice:
        assert usages[1].cache_read_input_tokens == prefix


def test_a_price_changes_at_midnight_utc() -> None:
    asked = params(model="claude-sonnet-5-5", system=cached(2_000, "1h"))
    with running(options(OCTOBER)) as simulator, connected(simulator) as client:
        first, before = (client.messages.create(**asked).usage for _ in range(2))
        simulator.clock.advance(1800)
        after = client.messages.create(**asked).usage
        billed = total(simulator)
    assert after.cache_read_input_tokens == 2_000
    assert billed == cost(first, SONNET_IN_OCTOBER) + cost(before, SONNET_IN_OCTOBER) + cost(after, SONNET)


@pytest.mark.parametrize("geo", [None, "us"], ids=["global", "us"])
def test_a_batch_costs_half_of_every_class(geo: str | None) -> None:
    changes: dict[str, Any] = {"model": "claude-sonnet-5-5", "system": cached(2_000, "1h")}
    changes |= {"inference_geo": geo} if geo else {}
    with running(options()) as simulator, connected(simulator) as client:
        primed = ended_batch(client, simulator, requests(1, **changes))
        batch = ended_batch(client, simulator, requests(40, **changes))
        found = [*results_of(client, primed.id).values(), *results_of(client, batch.id).values()]
        usages = [line.result.message.usage for line in found if line.result.type == "succeeded"]
        billed = total(simulator)
    assert any(usage.cache_read_input_tokens for usage in usages)
    assert billed == added(cost(usage, SONNET) for usage in usages) / 2 * Decimal("1.1" if geo else "1")


def test_a_long_request_of_a_batch_costs_its_own_band_and_leaves_its_neighbours() -> None:
    asked = [*requests(2), {"custom_id": "long", "params": params("q" * 4 * 100_000)}]
    with running(options()) as simulator, connected(simulator) as client:
        batch = ended_batch(client, simulator, asked)
        expected = added(
            cost(line.result.message.usage, HAIKU_LONG if line.custom_id == "long" else HAIKU)
            for line in results_of(client, batch.id).values()
            if line.result.type == "succeeded"
        )
        billed = total(simulator)
    assert billed == expected / 2


def bare(simulator: Simulator) -> list[dict[str, Any]]:
    """The invoice without what is drawn by lot: ids."""
    return [line | {"batch_id": None, "workspace_id": None, "at": None} for line in lines_of(simulator)]


def test_the_same_seed_and_calls_make_the_same_invoice_cache_hits_included() -> None:
    changes: dict[str, Any] = {"model": "claude-sonnet-5-5", "system": cached(2_000, "1h")}
    invoices = []
    for seed in (3, 3, 4):
        with running(options(seed=seed)) as simulator, connected(simulator) as client:
            for _ in range(2):
                ended_batch(client, simulator, requests(50, **changes))
            invoices.append(bare(simulator))
    assert invoices[0] == invoices[1]
    reads = [[line["tokens"]["read"] for line in sorted(i, key=lambda line: line["custom_id"])] for i in invoices]
    assert reads[0] != reads[2]
    assert 0 < sum(not read for read in reads[0]) < 30  # some missed, as in life


def test_a_prefix_is_not_read_by_an_answer_earlier_than_the_one_that_wrote_it(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    asked = requests(1, system=cached(2_000, "1h"))
    simulator.faults.add(kind="take", seconds=600, count=1)
    client.messages.batches.create(requests=asked)  # the primer, answered after ten minutes
    hurried = ended_batch(client, simulator, asked)
    result = results_of(client, hurried.id)["r0"].result
    assert result.type == "succeeded"
    assert result.message.usage.cache_read_input_tokens == 0


def test_requests_of_a_running_batch_are_listed_and_not_billed(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    batch = client.messages.batches.create(requests=requests(30))
    waiting = {line["custom_id"]: line for line in lines_of(simulator)}
    simulator.clock.advance(BATCH_SECONDS)
    ended = {line["custom_id"]: line for line in lines_of(simulator)}
    assert {(line["batch_id"], line["outcome"], line["billed"]) for line in waiting.values()} == {
        (batch.id, "processing", False)
    }
    assert {name: line["digest"] for name, line in waiting.items()} == {
        name: line["digest"] for name, line in ended.items()
    }


def test_a_message_that_fails_after_its_acceptance_is_listed_and_not_billed(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", endpoint="messages", share=1.0, attempts=1)
    with pytest.raises(anthropic.OverloadedError):
        client.messages.create(**params())
    client.messages.create(**params())
    lines = lines_of(simulator)
    assert [(line["outcome"], line["error_type"], line["billed"]) for line in lines] == [
        ("errored", "overloaded_error", False),
        ("succeeded", None, True),
    ]
    assert lines[0]["digest"] == lines[1]["digest"]


def test_a_failed_message_is_accepted_but_not_billed_in_the_totals(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", endpoint="messages", share=1.0)
    with pytest.raises(anthropic.OverloadedError):
        client.messages.create(**params())
    bill = simulator.invoice()
    assert (bill["accepted_requests"], bill["billed_requests"], bill["total_usd"]) == (1, 0, "0")
    assert (bill["messages"]["errored"], bill["by_model"]) == (1, {})


def test_only_what_succeeded_is_billed_of_a_batch_of_all_outcomes(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    simulator.faults.add(kind="expire", share=0.25)
    bad: Any = {"custom_id": "bad", "params": params(max_tokens=0)}
    batch = client.messages.batches.create(requests=[*requests(39), bad])
    simulator.clock.advance(24 * 3600)
    counts = client.messages.batches.retrieve(batch.id).request_counts
    lines = lines_of(simulator)
    assert counts.expired == 10
    assert sum(line["billed"] for line in lines) == counts.succeeded == simulator.invoice()["billed_requests"]
    assert all(Decimal(line["cost_usd"]) == 0 for line in lines if not line["billed"])
