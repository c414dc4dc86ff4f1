"""A batch's life as the real SDK sees it: created, listed, ended, canceled, expired, deleted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import anthropic
import pytest
from anthropic.types.messages import MessageBatch

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.simulator.case import (
    BATCH_SECONDS,
    connected,
    ended_batch,
    requests,
    results_of,
    text_of,
    token_of,
)


def test_a_new_batch_is_in_progress_with_all_its_requests_processing(client: anthropic.Anthropic) -> None:
    batch = client.messages.batches.create(requests=requests(3))
    assert batch.processing_status == "in_progress"
    assert batch.request_counts.processing == 3
    assert batch.results_url is None


def test_a_batch_expires_24_hours_after_its_creation(client: anthropic.Anthropic) -> None:
    batch = client.messages.batches.create(requests=requests(1))
    assert batch.expires_at - batch.created_at == timedelta(hours=24)


def test_counts_stay_at_zero_until_the_end(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = client.messages.batches.create(requests=requests(4))
    simulator.clock.advance(BATCH_SECONDS - 1)
    counts = client.messages.batches.retrieve(batch.id).request_counts
    assert counts.model_dump() == {"processing": 4, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}


def test_an_ended_batch_counts_every_request_once(client: anthropic.Anthropic, simulator: Simulator) -> None:
    asked = [*requests(3), {"custom_id": "bad", "params": {"model": "claude-unheard-of"}}]
    counts = ended_batch(client, simulator, asked).request_counts
    assert counts.model_dump() == {"processing": 0, "succeeded": 3, "errored": 1, "canceled": 0, "expired": 0}


def test_a_batch_ends_on_the_simulators_clock(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(1))
    assert batch.ended_at is not None
    assert batch.ended_at - batch.created_at == timedelta(seconds=BATCH_SECONDS)


def test_each_request_gets_its_own_answer(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(5))
    lines: dict[str, Any] = results_of(client, batch.id)
    assert {name: token_of(f"text {name[1:]}") in text_of(line.result.message) for name, line in lines.items()} == {
        f"r{n}": True for n in range(5)
    }


def test_results_come_in_another_order_than_asked(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(50))
    assert list(results_of(client, batch.id)) != [f"r{n}" for n in range(50)]


def test_results_download_the_same_twice(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(5))
    assert results_of(client, batch.id) == results_of(client, batch.id)


def test_results_url_leads_back_to_the_host_that_was_asked(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(1))
    assert batch.results_url == f"{simulator.base_url}/v1/messages/batches/{batch.id}/results"


def test_results_before_the_end_are_refused(client: anthropic.Anthropic) -> None:
    batch = client.messages.batches.create(requests=requests(1))
    with pytest.raises(anthropic.BadRequestError, match="has not ended"):
        client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=str)


def test_results_are_gone_29_days_after_creation(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(1))
    simulator.clock.advance(29 * 86_400)
    archived = client.messages.batches.retrieve(batch.id)
    assert archived.archived_at == batch.created_at + timedelta(days=29)
    assert archived.results_url is None
    with pytest.raises(anthropic.NotFoundError):
        client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=str)


def test_a_canceled_batch_keeps_what_was_finished(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = client.messages.batches.create(requests=requests(60))
    simulator.clock.advance(10)
    canceling = client.messages.batches.cancel(batch.id)
    simulator.clock.advance(30)
    counts = client.messages.batches.retrieve(batch.id).request_counts
    assert canceling.processing_status == "canceling"
    assert (counts.succeeded, counts.canceled) == (40, 20)
    types = [line.result.type for line in client.messages.batches.results(batch.id)]
    assert (types.count("succeeded"), types.count("canceled")) == (40, 20)


def test_a_batch_that_has_ended_cannot_be_canceled(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(1))
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.cancel(batch.id)


def test_requests_unfinished_after_24_hours_expire(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="expire", share=0.25)
    batch = client.messages.batches.create(requests=requests(8))
    simulator.clock.advance(86_399)
    before = client.messages.batches.retrieve(batch.id)
    simulator.clock.advance(1)
    after = client.messages.batches.retrieve(batch.id)
    assert before.processing_status == "in_progress"
    assert (after.request_counts.succeeded, after.request_counts.expired) == (6, 2)
    assert sorted(line.result.type for line in client.messages.batches.results(batch.id)).count("expired") == 2


def test_a_batch_slower_than_a_day_expires_in_part(simulator: Simulator) -> None:
    slow = Options(batch_seconds=(2 * 86_400, 2 * 86_400), paused=True)
    with running(slow) as sim, connected(sim) as client:
        batch = client.messages.batches.create(requests=requests(10))
        sim.clock.advance(86_400)
        counts = client.messages.batches.retrieve(batch.id).request_counts
    assert (counts.succeeded, counts.expired) == (5, 5)


def test_only_an_ended_batch_can_be_deleted(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = client.messages.batches.create(requests=requests(1))
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.delete(batch.id)
    simulator.clock.advance(BATCH_SECONDS)
    assert client.messages.batches.delete(batch.id).type == "message_batch_deleted"


def test_a_deleted_batch_is_unknown(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(1))
    client.messages.batches.delete(batch.id)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(batch.id)
    assert client.messages.batches.list().data == []


def test_the_list_shows_the_newest_first_and_pages_through_all(client: anthropic.Anthropic) -> None:
    made = [client.messages.batches.create(requests=requests(1)).id for _ in range(5)]
    assert [batch.id for batch in client.messages.batches.list(limit=2)] == made[::-1]


def test_a_page_before_an_id_holds_the_next_newer_ones(client: anthropic.Anthropic) -> None:
    made = [client.messages.batches.create(requests=requests(1)).id for _ in range(5)]
    page = client.messages.batches.list(before_id=made[1], limit=2)
    assert [batch.id for batch in page.data] == [made[3], made[2]]
    assert page.has_more


@pytest.mark.parametrize("limit", [0, 1001], ids=["below", "above"])
def test_a_page_size_out_of_bounds_is_refused(client: anthropic.Anthropic, limit: int) -> None:
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        client.messages.batches.list(limit=limit)


def test_a_key_does_not_see_the_batches_of_another_key(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = client.messages.batches.create(requests=requests(1))
    with connected(simulator) as stranger, pytest.raises(anthropic.NotFoundError):
        stranger.messages.batches.retrieve(batch.id)


def test_the_workspace_of_a_key_is_in_every_answer(client: anthropic.Anthropic, simulator: Simulator) -> None:
    first = client.messages.batches.with_raw_response.list().headers["anthropic-workspace-id"]
    with connected(simulator) as stranger:
        second = stranger.messages.batches.with_raw_response.list().headers["anthropic-workspace-id"]
    assert first.startswith("wrkspc_")
    assert first != second


def test_a_body_sent_in_chunks_is_accepted(client: anthropic.Anthropic) -> None:
    parts = [b'{"requests":[{"custom_id":"a","params":{}},', b'{"custom_id":"b","par', b'ams":{}}]}']
    batch = client.post("/v1/messages/batches", content=iter(parts), cast_to=MessageBatch)
    assert batch.request_counts.processing == 2


def test_a_batch_of_the_beta_namespace_is_the_same_batch(client: anthropic.Anthropic) -> None:
    batch = client.beta.messages.batches.create(requests=requests(2))
    assert client.messages.batches.retrieve(batch.id).request_counts.processing == 2


async def _count_async(base_url: str) -> int:
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key="async", max_retries=0) as client:
        await client.messages.batches.create(requests=requests(2))
        return len((await client.messages.batches.list()).data)


def test_the_async_client_is_served_as_well(simulator: Simulator) -> None:
    assert asyncio.run(_count_async(simulator.base_url)) == 1
