"""Every endpoint as the sync, async and beta clients and plain HTTP see it: shapes, ids, pages, wrong calls."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx2
import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.integration.simulator.case import BATCH_SECONDS, params, requests

HEADERS = {"x-api-key": "plain", "anthropic-version": "2023-06-01"}


@asynccontextmanager
async def connected_async(simulator: Simulator) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=simulator.base_url, api_key="async", max_retries=0) as client:
        yield client


@pytest.fixture
def strict(simulator: Simulator) -> anthropic.Anthropic:
    """A client that refuses answers of another shape than the SDK's types."""
    return anthropic.Anthropic(
        base_url=simulator.base_url, api_key="strict", max_retries=0, _strict_response_validation=True
    )


def test_messages_batches_and_models_have_the_shape_of_the_sdks_types(strict: anthropic.Anthropic) -> None:
    with strict as client:
        assert client.messages.create(**params()).type == "message"
        assert client.messages.batches.create(requests=requests(1)).type == "message_batch"
        assert {model.type for model in client.models.list()} == {"model"}
        assert client.messages.count_tokens(model="claude-haiku-5-5", messages=params()["messages"]).input_tokens > 0


def test_the_beta_namespace_has_the_shape_of_the_sdks_types(strict: anthropic.Anthropic, simulator: Simulator) -> None:
    with strict as client:
        assert client.beta.messages.create(**params(), betas=["context-management-2025-06-27"]).type == "message"
        batch = client.beta.messages.batches.create(requests=requests(2))
        assert [found.id for found in client.beta.messages.batches.list()] == [batch.id]
        assert client.beta.messages.batches.cancel(batch.id).processing_status == "canceling"
        simulator.clock.advance(BATCH_SECONDS)
        assert {line.custom_id for line in client.beta.messages.batches.results(batch.id)} == {"r0", "r1"}
        assert client.beta.messages.batches.delete(batch.id).type == "message_batch_deleted"


def test_the_async_client_lives_through_a_whole_batch(simulator: Simulator) -> None:
    async def talk() -> None:
        async with connected_async(simulator) as client:
            batch = await client.messages.batches.create(requests=requests(3))
            simulator.clock.advance(BATCH_SECONDS)
            assert (await client.messages.batches.retrieve(batch.id)).processing_status == "ended"
            names = [line.custom_id async for line in await client.messages.batches.results(batch.id)]
            await client.messages.batches.delete(batch.id)
            with pytest.raises(anthropic.NotFoundError) as unknown:
                await client.messages.batches.retrieve(batch.id)
        assert sorted(names) == ["r0", "r1", "r2"]
        assert unknown.value.type == "not_found_error"


def test_the_async_client_pages_through_batches_and_models(simulator: Simulator) -> None:
    async def talk() -> None:
        async with connected_async(simulator) as client:
            made = [(await client.messages.batches.create(requests=requests(1))).id for _ in range(5)]
            found = [batch.id async for batch in client.messages.batches.list(limit=2)]
            models = [model.id async for model in client.models.list(limit=4)]
        assert found == made[::-1]
        assert len(models) == len(set(models)) > 10

    asyncio.run(talk())


def test_pages_before_an_id_lead_to_the_newest(client: anthropic.Anthropic) -> None:
    made = [client.messages.batches.create(requests=requests(1)).id for _ in range(5)]
    pages = client.messages.batches.list(limit=2, before_id=made[0]).iter_pages()
    assert [[batch.id for batch in page.data] for page in pages] == [[made[2], made[1]], [made[4], made[3]]]


def test_a_raw_response_tells_the_request_id_of_its_message(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(**params())
    assert raw.request_id == raw.headers["request-id"] == raw.parse()._request_id
    assert raw.http_response.headers["anthropic-organization-id"]


@pytest.mark.parametrize("path", ["/", "/v1/complete", "/v1/messages/", "/v1/messages/batches/a/b/c", "/V1/models"])
def test_an_unknown_path_is_not_found_with_or_without_a_key(simulator: Simulator, path: str) -> None:
    for headers in ({}, HEADERS):
        answer = httpx2.get(simulator.base_url + path, headers=headers)
        error = answer.json()
        assert (answer.status_code, error["type"], error["error"]["type"]) == (404, "error", "not_found_error")
        assert error["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        pytest.param("GET", "/v1/messages", "POST", id="get-messages"),
        pytest.param("PUT", "/v1/messages/batches/x", "DELETE, GET, HEAD", id="put-batch"),
        pytest.param("PATCH", "/v1/models", "GET, HEAD", id="patch-models"),
    ],
)
def test_a_known_path_names_the_methods_it_takes(simulator: Simulator, method: str, path: str, allowed: str) -> None:
    answer = httpx2.request(method, simulator.base_url + path, headers=HEADERS)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_head_answers_like_get_without_a_body(simulator: Simulator) -> None:
    answer = httpx2.head(f"{simulator.base_url}/v1/models", headers=HEADERS)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=%D9%A3", "after_id=a&before_id=b"])
@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/models"])
def test_a_page_that_cannot_be_is_refused(simulator: Simulator, path: str, query: str) -> None:
    assert httpx2.get(f"{simulator.base_url}{path}?{query}", headers=HEADERS).status_code == 400


NESTED = b'{"a":' * 300 + b"1" + b"}" * 300
START = b'{"model":"claude-haiku-5-5","max_tokens":9,"messages":[{"role":"user","content":"x"}],'


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no json", id="no-json"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"model":"\xff\xfe"}', id="not-utf-8"),
        pytest.param(b'{"model":"\\ud800"}', id="lone-surrogate"),
        pytest.param(b'{"max_tokens":NaN}', id="nan"),
        pytest.param(b"[" * 5_000 + b"]" * 5_000, id="deep"),
        pytest.param(START + b'"tools":[{"name":"x","input_schema":' + NESTED + b"}]}", id="deep-tools"),
        pytest.param(
            START + b'"output_config":{"format":{"type":"json_schema","schema":' + NESTED + b"}}}", id="deep-schema"
        ),
        pytest.param(START[:-1].replace(b"9", b"9" * 30) + b"}", id="huge-number"),
    ],
)
def test_a_body_that_is_no_request_is_the_callers_fault(simulator: Simulator, path: str, body: bytes) -> None:
    answer = httpx2.post(simulator.base_url + path, headers=HEADERS, content=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_the_content_type_does_not_matter(simulator: Simulator, kind: str) -> None:
    headers = HEADERS | {"content-type": kind}
    answer = httpx2.post(f"{simulator.base_url}/v1/messages", headers=headers, content=json.dumps(params()))
    assert answer.status_code == 200


def test_a_compressed_body_is_read(simulator: Simulator) -> None:
    for path, body in (("/v1/messages", params()), ("/v1/messages/batches", {"requests": requests(2)})):
        packed = gzip.compress(json.dumps(body).encode())
        answer = httpx2.post(simulator.base_url + path, headers=HEADERS | {"content-encoding": "gzip"}, content=packed)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("encoding", "body", "error"),
    [
        pytest.param("br", b"{}", anthropic.types.shared.RequestBodyEncodingUnsupportedError, id="unknown"),
        pytest.param("gzip", b"{}", anthropic.types.shared.RequestBodyEncodingInvalidError, id="not-gzip"),
        pytest.param("gzip", gzip.compress(b"{}" * 99)[:-9], anthropic.types.shared.RequestBodyEncodingInvalidError, id="cut"),
        pytest.param(
            "gzip",
            gzip.compress(b" " * 33_000_000),
            anthropic.types.shared.RequestBodyTooLargeAfterDecodingError,
            id="bomb",
        ),
    ],
)  # fmt: skip
def test_a_body_that_does_not_hold_its_encoding_is_refused(
    client: anthropic.Anthropic, encoding: str, body: bytes, error: type[anthropic.APIStatusError]
) -> None:
    options: Any = {"headers": {"content-encoding": encoding}}
    with pytest.raises(error):
        client.post("/v1/messages", content=body, cast_to=anthropic.types.Message, options=options)
