"""What a batch may and may not do in each state of its life, and who may look at it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types.messages import MessageBatch

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.simulator.case import BATCH_SECONDS, params, requests
from claude_pipeline_tests.integration.simulator.ways import API_KEY, Call, ask, both_clients, download, listed

NOTHING = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
MIXED = [*requests(60), {"custom_id": "bad", "params": params(max_tokens=0)}]


def created(simulator: Simulator, asked: list[Any] | None = None) -> MessageBatch:
    asked = asked or requests(3)
    batch: MessageBatch = ask("sync", simulator, lambda client: client.messages.batches.create(requests=asked))
    return batch


def look(way: str, simulator: Simulator, batch_id: str) -> MessageBatch:
    batch: MessageBatch = ask(way, simulator, lambda client: client.messages.batches.retrieve(batch_id))
    return batch


def cancel(simulator: Simulator, batch_id: str, way: str = "sync") -> MessageBatch:
    batch: MessageBatch = ask(way, simulator, lambda client: client.messages.batches.cancel(batch_id))
    return batch


def delete(simulator: Simulator, batch_id: str, way: str = "sync") -> Any:
    return ask(way, simulator, lambda client: client.messages.batches.delete(batch_id))


def in_state(simulator: Simulator, state: str) -> str:
    batch = created(simulator, MIXED)
    if state in ("canceling", "canceled"):
        cancel(simulator, batch.id)
    if state in ("ended", "canceled"):
        simulator.clock.advance(BATCH_SECONDS)
    return batch.id


@both_clients
@pytest.mark.parametrize("state", ["in_progress", "canceling"])
def test_a_batch_that_runs_shows_nothing_but_processing(simulator: Simulator, way: str, state: str) -> None:
    batch_id = in_state(simulator, state)
    simulator.clock.advance(BATCH_SECONDS / 3)
    batch = look(way, simulator, batch_id)
    assert batch.processing_status == state
    assert batch.request_counts.model_dump() == NOTHING | {"processing": 61}
    assert (batch.ended_at, batch.results_url, batch.archived_at) == (None, None, None)


@both_clients
@pytest.mark.parametrize("seconds", [0, 1, 29, 30, 59, 60, 86_400])
@pytest.mark.parametrize("canceled", [False, True], ids=["left-alone", "canceled"])
def test_counts_add_up_to_the_size_at_any_time(simulator: Simulator, way: str, seconds: int, canceled: bool) -> None:
    batch = created(simulator, MIXED)
    if canceled:
        cancel(simulator, batch.id)
    simulator.clock.advance(seconds)
    assert sum(look(way, simulator, batch.id).request_counts.model_dump().values()) == 61


@both_clients
def test_the_results_agree_with_the_counts(simulator: Simulator, way: str) -> None:
    batch = created(simulator, MIXED)
    simulator.clock.advance(BATCH_SECONDS / 2)
    cancel(simulator, batch.id)
    simulator.clock.advance(BATCH_SECONDS)
    counted = {name: n for name, n in look(way, simulator, batch.id).request_counts.model_dump().items() if n}
    types = [line.result.type for line in download(way, simulator, batch.id)]
    assert {name: types.count(name) for name in types} == counted


@both_clients
def test_a_second_cancel_changes_nothing(simulator: Simulator, way: str) -> None:
    batch = created(simulator, MIXED)
    first = cancel(simulator, batch.id, way)
    simulator.clock.advance(5)
    assert cancel(simulator, batch.id, way) == first


@both_clients
@pytest.mark.parametrize("state", ["in_progress", "canceling"])
def test_a_batch_that_runs_cannot_be_deleted(simulator: Simulator, way: str, state: str) -> None:
    batch_id = in_state(simulator, state)
    with pytest.raises(anthropic.BadRequestError):
        delete(simulator, batch_id, way)


@both_clients
@pytest.mark.parametrize("state", ["ended", "canceled"])
def test_a_batch_that_has_ended_can_be_deleted_and_not_canceled(simulator: Simulator, way: str, state: str) -> None:
    batch_id = in_state(simulator, state)
    with pytest.raises(anthropic.BadRequestError):
        cancel(simulator, batch_id, way)
    assert delete(simulator, batch_id, way).id == batch_id


@both_clients
def test_a_deleted_batch_stays_on_the_invoice(simulator: Simulator, way: str) -> None:
    delete(simulator, in_state(simulator, "ended"), way)
    assert simulator.invoice()["billed_requests"] == 60


@both_clients
@pytest.mark.parametrize("state", ["in_progress", "canceling"])
def test_the_sdk_finds_no_results_url_before_the_end(simulator: Simulator, way: str, state: str) -> None:
    batch_id = in_state(simulator, state)
    with pytest.raises(anthropic.AnthropicError, match="No `results_url`"):
        download(way, simulator, batch_id)


@both_clients
def test_results_are_there_for_29_days_from_the_creation(simulator: Simulator, way: str) -> None:
    batch_id = in_state(simulator, "ended")
    simulator.clock.advance(29 * 86_400 - BATCH_SECONDS - 1)
    last_moment = len(download(way, simulator, batch_id))
    simulator.clock.advance(1)
    batch = look(way, simulator, batch_id)
    assert last_moment == 61
    assert batch.archived_at == batch.created_at + timedelta(days=29)
    assert batch.results_url is None


@both_clients
def test_an_archived_batch_is_still_listed_with_its_counts(simulator: Simulator, way: str) -> None:
    batch_id = in_state(simulator, "ended")
    simulator.clock.advance(30 * 86_400)
    (batch,) = ask(way, simulator, lambda client: client.messages.batches.list()).data
    assert (batch.id, batch.processing_status) == (batch_id, "ended")
    assert batch.request_counts.succeeded == 60


@both_clients
def test_what_expired_is_named_line_by_line_and_not_billed(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="expire", share=0.5, count=1)
    batch = created(simulator, requests(10))
    simulator.clock.advance(86_400)
    types = [line.result.type for line in download(way, simulator, batch.id)]
    assert (types.count("expired"), types.count("succeeded")) == (5, 5)
    assert simulator.invoice()["billed_requests"] == 5


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_results_url_names_the_host_that_the_client_named(simulator: Simulator, host: str) -> None:
    base_url = simulator.base_url.replace("127.0.0.1", host)
    batch_id = in_state(simulator, "ended")
    headers = {"x-api-key": API_KEY, "anthropic-version": "2026-10-21"}
    answer = httpx2.get(f"{base_url}/v1/messages/batches/{batch_id}", headers=headers).json()
    assert answer["results_url"] == f"{base_url}/v1/messages/batches/{batch_id}/results"
    assert httpx2.get(answer["results_url"], headers=headers).status_code == 200


STRANGE: dict[str, Call] = {
    "retrieve": lambda name: lambda client: client.messages.batches.retrieve(name),
    "results": lambda name: lambda client: client.messages.batches.results(name),
    "cancel": lambda name: lambda client: client.messages.batches.cancel(name),
    "delete": lambda name: lambda client: client.messages.batches.delete(name),
    "list-after": lambda name: lambda client: client.messages.batches.list(after_id=name),
}


@both_clients
@pytest.mark.parametrize("call", STRANGE)
def test_a_batch_is_unknown_in_another_workspace(simulator: Simulator, way: str, call: str) -> None:
    batch_id = in_state(simulator, "ended")
    with pytest.raises(anthropic.NotFoundError):
        ask(way, simulator, STRANGE[call](batch_id), api_key="a-stranger")
    assert look(way, simulator, batch_id).id == batch_id


@both_clients
def test_another_workspace_lists_none_of_it(simulator: Simulator, way: str) -> None:
    created(simulator)
    call: Call = lambda client: client.messages.batches.list()  # noqa: E731
    assert ask(way, simulator, call, api_key="a-stranger").data == []


def test_a_key_is_the_same_workspace_in_either_header(simulator: Simulator) -> None:
    batch = created(simulator)
    url = f"{simulator.base_url}/v1/messages/batches/{batch.id}"
    for header in ({"x-api-key": API_KEY}, {"authorization": f"Bearer {API_KEY}"}):
        assert httpx2.get(url, headers=header | {"anthropic-version": "2026-10-21"}).status_code == 200


@both_clients
def test_a_custom_id_of_64_characters_comes_back(simulator: Simulator, way: str) -> None:
    name = "aZ09_-" * 10 + "abcd"
    batch = created(simulator, [{"custom_id": name, "params": params()}])
    simulator.clock.advance(BATCH_SECONDS)
    assert [line.custom_id for line in download(way, simulator, batch.id)] == [name]


@both_clients
def test_a_bad_line_is_told_in_the_results_and_a_bad_id_at_once(simulator: Simulator, way: str) -> None:
    batch = created(simulator, [{"custom_id": "bad", "params": params(max_tokens=0)}])
    bad_id = [{"custom_id": "a b", "params": params()}]
    with pytest.raises(anthropic.BadRequestError, match=re.escape("requests.0.custom_id")):
        ask(way, simulator, lambda client: client.messages.batches.create(requests=bad_id))
    simulator.clock.advance(BATCH_SECONDS)
    assert [line.result.type for line in download(way, simulator, batch.id)] == ["errored"]


def test_a_body_of_more_than_256_mb_is_too_large(simulator: Simulator) -> None:
    def body() -> Iterator[bytes]:
        yield b'{"requests":['
        for _ in range(256):
            yield b" " * 1_000_000

    call: Call = lambda client: client.post("/v1/messages/batches", content=body(), cast_to=MessageBatch)  # noqa: E731
    with pytest.raises(anthropic.ContentTooLargeError, match="request_too_large"):
        ask("sync", simulator, call)
    assert listed(simulator) == []


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(simulator: Simulator) -> None:
    host, _, port = simulator.base_url.removeprefix("http://").partition(":")
    head = "POST /v1/messages/batches HTTP/1.1\r\nHost: x\r\nx-api-key: k\r\nanthropic-version: 2026-10-21\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{head}content-length: 256000001\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_full_queue_has_room_again_when_a_batch_has_ended() -> None:
    entries = b",".join(b'{"custom_id":"%d","params":{}}' % n for n in range(100_000))
    full: Call = lambda client: client.post(  # noqa: E731
        "/v1/messages/batches", content=b'{"requests":[' + entries + b"]}", cast_to=MessageBatch
    )
    with running(Options(tier="tier1", batch_seconds=(BATCH_SECONDS, BATCH_SECONDS), paused=True)) as simulator:
        assert ask("sync", simulator, full).request_counts.processing == 100_000
        with pytest.raises(anthropic.RateLimitError, match="100,000"):
            created(simulator)
        simulator.clock.advance(BATCH_SECONDS)
        assert created(simulator).request_counts.processing == 3


@both_clients
def test_a_cancel_in_time_cancels_something_however_short_the_batch(way: str) -> None:
    with running(Options(batch_seconds=(10, 10), paused=True)) as simulator:
        batch = created(simulator, requests(10))
        cancel(simulator, batch.id, way)
        simulator.clock.advance(10)
        counts = look(way, simulator, batch.id).request_counts
    assert (counts.succeeded, counts.canceled) == (5, 5)
