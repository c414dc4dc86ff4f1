"""A 200 whose body is not what it should be, on every endpoint that answers with a body."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.integration.simulator.case import BATCH_SECONDS, params, requests
from claude_pipeline_tests.integration.simulator.ways import API_KEY, ask, both_clients, download

HEADERS = {"x-api-key": API_KEY, "anthropic-version": "2026-10-21"}
BATCHES = "/v1/messages/batches"
COUNTED = {name: value for name, value in params().items() if name != "max_tokens"}
CALLS: dict[str, tuple[str, str, Any]] = {
    "create": ("POST", BATCHES, {"requests": requests(1)}),
    "retrieve": ("GET", BATCHES + "/{id}", None),
    "list": ("GET", BATCHES, None),
    "cancel": ("POST", BATCHES + "/{running}/cancel", None),
    "delete": ("DELETE", BATCHES + "/{id}", None),
    "results": ("GET", BATCHES + "/{id}/results", None),
    "messages": ("POST", "/v1/messages", params()),
    "messages, streamed": ("POST", "/v1/messages", params(stream=True)),
    "count_tokens": ("POST", "/v1/messages/count_tokens", COUNTED),
    "models": ("GET", "/v1/models", None),
}


def ended(simulator: Simulator) -> str:
    batch = ask("sync", simulator, lambda client: client.messages.batches.create(requests=requests(3)))
    simulator.clock.advance(BATCH_SECONDS)
    name: str = batch.id
    return name


def spoiled(simulator: Simulator, call: str, form: str) -> httpx2.Response:
    """The answer to a call, spoiled; there is one ended and one running batch before it."""
    ended_id = ended(simulator)
    running = ask("sync", simulator, lambda client: client.messages.batches.create(requests=requests(3))).id
    simulator.faults.add(kind="bad_body", endpoint=call.partition(",")[0], form=form)
    method, path, body = CALLS[call]
    url = simulator.base_url + path.format(id=ended_id, running=running)
    answer = httpx2.request(method, url, headers=HEADERS, json=body)
    assert answer.status_code == 200
    return answer


@pytest.mark.parametrize("call", CALLS)
def test_a_body_may_be_a_page_of_html(simulator: Simulator, call: str) -> None:
    assert spoiled(simulator, call, "html").text.startswith("<html>")


@pytest.mark.parametrize("call", CALLS)
def test_a_body_may_be_empty(simulator: Simulator, call: str) -> None:
    assert spoiled(simulator, call, "empty").content == b""


@pytest.mark.parametrize("call", CALLS)
def test_a_body_may_end_in_the_middle(simulator: Simulator, call: str) -> None:
    answer = spoiled(simulator, call, "cut")
    assert answer.content
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.content.splitlines()[-1])


@pytest.mark.parametrize("call", ["create", "retrieve", "cancel", "messages"])
def test_a_body_may_lack_its_id(simulator: Simulator, call: str) -> None:
    assert "id" not in spoiled(simulator, call, "no_id").json()


@pytest.mark.parametrize("call", ["create", "retrieve", "cancel"])
def test_counts_may_not_add_up(simulator: Simulator, call: str) -> None:
    counts = spoiled(simulator, call, "counts").json()["request_counts"]
    assert sum(counts.values()) != (1 if call == "create" else 3)


@pytest.mark.parametrize("call", ["results", "messages, streamed", "count_tokens"])
@pytest.mark.parametrize("form", ["no_id", "counts"])
def test_a_body_that_has_no_such_field_stays_whole(simulator: Simulator, call: str, form: str) -> None:
    assert spoiled(simulator, call, form).content


def test_each_batch_of_a_list_may_lack_its_id(simulator: Simulator) -> None:
    assert [batch.get("id") for batch in spoiled(simulator, "list", "no_id").json()["data"]] == [None, None]


@both_clients
@pytest.mark.parametrize("form", ["html", "cut"])
def test_the_sdk_finds_no_json_in_spoiled_results(simulator: Simulator, way: str, form: str) -> None:
    batch_id = ended(simulator)
    simulator.faults.add(kind="bad_body", endpoint="results", form=form)
    with pytest.raises(json.JSONDecodeError):
        download(way, simulator, batch_id)


@both_clients
def test_an_accepted_batch_may_come_without_an_id(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="bad_body", endpoint="create", form="no_id", count=1)
    batch = ask(way, simulator, lambda client: client.messages.batches.create(requests=requests(1)))
    assert not hasattr(batch, "id") or batch.id is None
    listed = ask(way, simulator, lambda client: client.messages.batches.list())
    assert len(listed.data) == 1
    assert isinstance(listed.data[0], anthropic.types.messages.MessageBatch)
