"""The invoice, the clock and the state of a running simulator."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import anthropic
import httpx2
import pytest

from claude_pipeline.simulator import Options, Simulator, create_app, running
from claude_pipeline_tests.integration.simulator.case import (
    BATCH_SECONDS,
    OPTIONS,
    connected,
    ended_batch,
    params,
    requests,
    results_of,
    token_of,
)


def lines_of(simulator: Simulator) -> list[dict[str, object]]:
    return [json.loads(line) for line in b"".join(simulator.invoice_lines()).splitlines()]


def test_a_batch_is_billed_at_half_price_for_what_succeeded(client: anthropic.Anthropic, simulator: Simulator) -> None:
    bad = {"custom_id": "bad", "params": params(max_tokens=0)}
    batch = ended_batch(client, simulator, [*requests(3), bad])
    usages = [
        line.result.message.usage for line in results_of(client, batch.id).values() if line.result.type == "succeeded"
    ]
    tokens_in = sum(usage.input_tokens for usage in usages)
    tokens_out = sum(usage.output_tokens for usage in usages)
    expected = (tokens_in * Decimal("0.10") + tokens_out * Decimal("0.50")) / 2 / 1_000_000
    bill = simulator.invoice()
    assert Decimal(bill["total_usd"]) == expected
    assert (bill["accepted_requests"], bill["billed_requests"]) == (4, 3)


def test_a_message_is_billed_at_full_price(client: anthropic.Anthropic, simulator: Simulator) -> None:
    usage = client.messages.create(**params(model="claude-opus-5-5")).usage
    expected = Decimal(usage.input_tokens * 4 + usage.output_tokens * 20) / 1_000_000
    assert Decimal(simulator.invoice()["total_usd"]) == expected


def test_a_batch_in_progress_is_not_billed_yet(client: anthropic.Anthropic, simulator: Simulator) -> None:
    client.messages.batches.create(requests=requests(3))
    bill = simulator.invoice()
    assert (bill["accepted_requests"], bill["total_usd"]) == (3, "0")


def test_a_deleted_batch_stays_on_the_invoice(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(3))
    before = simulator.invoice()["total_usd"]
    client.messages.batches.delete(batch.id)
    assert simulator.invoice()["total_usd"] == before != "0"


def test_canceled_requests_are_not_billed(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = client.messages.batches.create(requests=requests(60))
    client.messages.batches.cancel(batch.id)
    simulator.clock.advance(BATCH_SECONDS)
    bill = simulator.invoice()["by_batch"][0]
    assert (bill["succeeded"], bill["canceled"], bill["billed"]) == (30, 30, 30)
    assert sum(line["billed"] is True for line in lines_of(simulator)) == 30


def test_each_request_has_a_line_with_its_digests_and_cost(client: anthropic.Anthropic, simulator: Simulator) -> None:
    ended_batch(client, simulator, requests(2))
    client.messages.create(**params("text 2"))
    lines = lines_of(simulator)
    assert {line["token"] for line in lines} == {token_of(f"text {n}") for n in range(3)}
    assert sum(Decimal(str(line["cost_usd"])) for line in lines) == Decimal(simulator.invoice()["total_usd"])


def test_the_invoice_counts_calls_by_endpoint_and_answer(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.batches.create(requests=requests(1))
    client.messages.batches.create(requests=requests(1))
    assert simulator.invoice()["calls"] == {"create": {"200": 1, "dropped": 1}}


def test_a_question_billed_in_two_batches_is_billed_twice(client: anthropic.Anthropic, simulator: Simulator) -> None:
    for _ in range(2):
        ended_batch(client, simulator, requests(3))
    assert simulator.invoice()["billed_twice"] == 3


def test_the_clock_is_moved_over_http(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = client.messages.batches.create(requests=requests(1))
    clock = f"{simulator.base_url}/_simulator/clock"
    answer = httpx2.post(clock, json={"advance_seconds": BATCH_SECONDS}).json()
    assert answer["paused"] is True
    assert client.messages.batches.retrieve(batch.id).processing_status == "ended"


def test_the_clock_refuses_to_go_back(simulator: Simulator) -> None:
    answer = httpx2.post(f"{simulator.base_url}/_simulator/clock", json={"advance_seconds": -1})
    assert answer.status_code == 400


def test_the_state_tells_what_is_in_flight(client: anthropic.Anthropic, simulator: Simulator) -> None:
    ended_batch(client, simulator, requests(1))
    client.messages.batches.create(requests=requests(4))
    state = httpx2.get(f"{simulator.base_url}/_simulator/state").json()
    assert (state["batches"], state["ended"], state["in_progress"], state["requests_in_flight"]) == (2, 1, 1, 4)


def test_a_reset_forgets_everything(client: anthropic.Anthropic, simulator: Simulator) -> None:
    ended_batch(client, simulator, requests(1))
    httpx2.post(f"{simulator.base_url}/_simulator/reset")
    assert client.messages.batches.list().data == []
    assert simulator.invoice()["total_usd"] == "0"


def test_a_batch_survives_a_restart_on_the_same_state(tmp_path: Path) -> None:
    kept = Options(batch_seconds=(BATCH_SECONDS, BATCH_SECONDS), paused=True, state=tmp_path)
    with running(kept) as first, connected(first, "mine") as client:
        batch = client.messages.batches.create(requests=requests(3))
        first.clock.advance(10)
    with running(kept) as second, connected(second, "mine") as client:
        second.clock.advance(BATCH_SECONDS)
        assert client.messages.batches.retrieve(batch.id).request_counts.succeeded == 3
        assert len(results_of(client, batch.id)) == 3


def test_two_simulators_of_one_seed_answer_alike() -> None:
    costs = []
    for _ in range(2):
        with running(OPTIONS) as simulator, connected(simulator) as client:
            ended_batch(client, simulator, requests(5))
            costs.append(simulator.invoice()["total_usd"])
    assert costs[0] == costs[1]


def test_the_spend_cap_of_the_tier_refuses_without_retry_after(simulator: Simulator) -> None:
    # Haiku 4.5 writes 5 USD per million tokens: the cap of 100 USD is reached by what the store says was spent.
    with running(Options(tier="tier1")) as poor, connected(poor) as client:
        poor.api.store.add_spend(poor.clock.now().strftime("%Y-%m"), 100 * 10**12)
        with pytest.raises(anthropic.RateLimitError) as refused:
            client.messages.batches.create(requests=requests(1))
    assert refused.value.error_code == "enforced_spend_limit_reached"
    assert "retry-after" not in refused.value.response.headers


async def _list_in_process() -> int:
    app = create_app(Options())
    transport = httpx2.ASGITransport(app=app)
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url="http://simulator", http_client=httpx2.AsyncClient(transport=transport)
    ) as client:
        count = len((await client.messages.batches.list()).data)
    app.state.api.close()
    return count


def test_the_application_serves_without_a_socket() -> None:
    assert asyncio.run(_list_in_process()) == 0


def test_the_command_line_prints_where_to_point_a_client(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "claude_pipeline.simulator", "--port", "0", "--state", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        banner = "".join(process.stdout.readline() for _ in range(4))
        base_url = banner.split("ANTHROPIC_BASE_URL=")[1].split()[0]
        answer = httpx2.get(f"{base_url}/_simulator/state").json()
        process.send_signal(signal.SIGINT)
    assert "ANTHROPIC_API_KEY=" in banner
    assert answer["batches"] == 0
    assert process.returncode == 0
