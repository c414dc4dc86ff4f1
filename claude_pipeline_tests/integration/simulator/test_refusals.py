"""What the API refuses: at once for the body of a batch, line by line for the params in it."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types.messages import MessageBatch

from claude_pipeline.simulator import Simulator, running
from claude_pipeline_tests.integration.simulator.case import (
    OPTIONS,
    SCHEMA,
    connected,
    ended_batch,
    line_error,
    params,
    requests,
    results_of,
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"no json", "valid dictionary", id="no-json"),
        pytest.param(b"", "valid dictionary", id="empty"),
        pytest.param(b'{"requests":[{"custom_id":"a","params":{}}', "not valid JSON", id="cut"),
        pytest.param(b"{}", "requests: Field required", id="no-requests"),
        pytest.param(b'{"requests":[]}', "at least 1 item", id="no-request"),
        pytest.param(b'{"requests":{}}', "valid list", id="not-a-list"),
        pytest.param(b'{"requests":[{"params":{}}]}', "requests.0.custom_id: Field required", id="no-custom-id"),
        pytest.param(b'{"requests":[{"custom_id":"a"}]}', "requests.0.params: Field required", id="no-params"),
        pytest.param(b'{"requests":[{"custom_id":7,"params":{}}]}', "valid string", id="custom-id-a-number"),
        pytest.param(b'{"requests":[{"custom_id":"a","params":{}},7]}', "requests.1", id="not-an-object"),
        pytest.param(b'{"requests":[{"custom_id":"a","params":{"x":NaN}}]}', "NaN", id="nan"),
        pytest.param(
            b'{"requests":[{"custom_id":"a","params":{"x":"\\ud800"}}]}', "not valid JSON", id="lone-surrogate"
        ),
    ],
)
def test_a_body_that_is_no_list_of_requests_is_refused_at_once(
    client: anthropic.Anthropic, body: bytes, message: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=message):
        client.post("/v1/messages/batches", content=body, cast_to=MessageBatch)


@pytest.mark.parametrize(
    ("custom_id", "message"),
    [
        pytest.param("x" * 65, "at most 64 characters", id="65-characters"),
        pytest.param("a.b", "match pattern", id="dot"),
        pytest.param("", "match pattern", id="empty"),
        pytest.param("a\n", "match pattern", id="line-end"),
        pytest.param("é", "match pattern", id="accent"),
    ],
)
def test_a_custom_id_outside_the_pattern_is_refused_at_once(
    client: anthropic.Anthropic, custom_id: str, message: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=message):
        client.messages.batches.create(requests=[requests(1)[0] | {"custom_id": custom_id}])


def test_a_custom_id_given_twice_is_refused_at_once(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"requests\.1\.custom_id: Duplicate"):
        client.messages.batches.create(requests=requests(1) * 2)


def test_a_refused_body_leaves_no_batch(client: anthropic.Anthropic, simulator: Simulator) -> None:
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.create(requests=[])
    assert simulator.invoice()["accepted_requests"] == 0


def test_more_than_100_000_requests_are_too_large(client: anthropic.Anthropic) -> None:
    entries = b",".join(b'{"custom_id":"%d","params":{}}' % n for n in range(100_001))
    with pytest.raises(anthropic.ContentTooLargeError):
        client.post("/v1/messages/batches", content=b'{"requests":[' + entries + b"]}", cast_to=MessageBatch)


def test_more_requests_than_the_queue_holds_are_refused_with_429(simulator: Simulator) -> None:
    entries = b",".join(b'{"custom_id":"%d","params":{}}' % n for n in range(100_000))
    body = b'{"requests":[' + entries + b"]}"
    with connected(simulator) as client:
        client.post("/v1/messages/batches", content=body, cast_to=MessageBatch)
        client.post("/v1/messages/batches", content=body, cast_to=MessageBatch)
        with pytest.raises(anthropic.RateLimitError, match="200,000"):
            client.messages.batches.create(requests=requests(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"max_tokens": None}, "max_tokens: Field required", id="no-max-tokens"),
        pytest.param({"max_tokens": 0}, "max_tokens", id="max-tokens-0"),
        pytest.param({"max_tokens": 128_001}, "128001 > 128000", id="max-tokens-over-the-model"),
        pytest.param({"max_tokens": "9"}, "valid integer", id="max-tokens-a-text"),
        pytest.param({"messages": []}, "at least one message", id="no-messages"),
        pytest.param({"messages": [{"role": "user", "content": " \n"}]}, "non-whitespace", id="blank-text"),
        pytest.param({"messages": [{"role": "robot", "content": "x"}]}, "role", id="unknown-role"),
        pytest.param(
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]},
            "prefill",
            id="prefill",
        ),
        pytest.param({"temperature": 1.0}, "temperature", id="temperature"),
        pytest.param({"top_k": 5}, "top_k", id="top-k"),
        pytest.param({"stream": True}, "stream", id="stream"),
        pytest.param({"speed": "fast"}, "speed", id="speed"),
        pytest.param({"colour": "red"}, "colour: Extra inputs", id="unknown-field"),
        pytest.param({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type.adaptive", id="thinking"),
        pytest.param(
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}}}},
            "additionalProperties",
            id="open-schema",
        ),
        pytest.param(
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "integer", "minimum": 1}}}},
            "minimum",
            id="bounds-in-schema",
        ),
        pytest.param({"output_config": {"effort": "heroic"}}, "effort", id="unknown-effort"),
    ],
)
def test_params_the_model_refuses_come_back_as_an_errored_line(
    client: anthropic.Anthropic, simulator: Simulator, changes: dict[str, Any], message: str
) -> None:
    kind, said = line_error(client, simulator, params(**changes))
    assert kind == "invalid_request_error"
    assert message in said


def test_an_unknown_model_comes_back_as_not_found(client: anthropic.Anthropic, simulator: Simulator) -> None:
    said = line_error(client, simulator, params(model="claude-unheard-of"))
    assert said == ("not_found_error", "model: claude-unheard-of")


def test_a_prompt_beyond_the_context_is_an_errored_line(client: anthropic.Anthropic, simulator: Simulator) -> None:
    long = params("word " * 250_000, model="claude-haiku-4-5")
    assert "prompt is too long" in line_error(client, simulator, long)[1]


def test_a_forced_tool_is_refused_by_models_that_think_always(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    tool = {"name": "sort", "input_schema": SCHEMA}
    asked = params(model="claude-opus-5-5", tools=[tool], tool_choice={"type": "tool", "name": "sort"})
    assert line_error(client, simulator, asked)[0] == "invalid_request_error"


def test_sampling_is_accepted_under_the_older_version(client: anthropic.Anthropic, simulator: Simulator) -> None:
    old = client.with_options(default_headers={"anthropic-version": "2023-06-01"})
    batch = ended_batch(old, simulator, requests(1, temperature=1.0))
    assert batch.request_counts.succeeded == 1


def test_longer_output_is_accepted_in_a_batch_with_its_beta(client: anthropic.Anthropic, simulator: Simulator) -> None:
    beta = client.with_options(default_headers={"anthropic-beta": "output-300k-2026-03-24"})
    batch = ended_batch(beta, simulator, requests(1, max_tokens=300_000))
    assert batch.request_counts.succeeded == 1


def test_one_bad_line_leaves_the_others_alone(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, [*requests(2), {"custom_id": "bad", "params": params(max_tokens=0)}])
    types = {name: line.result.type for name, line in results_of(client, batch.id).items()}
    assert types == {"r0": "succeeded", "r1": "succeeded", "bad": "errored"}


def test_a_retired_model_is_not_found() -> None:
    with running(OPTIONS) as later, connected(later) as client:
        later.clock.advance(365 * 86_400)
        said = line_error(client, later, params(model="claude-sonnet-4-5"))
    assert said == ("not_found_error", "model: claude-sonnet-4-5")


def test_a_call_without_a_key_is_refused(simulator: Simulator) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    answer = httpx2.get(f"{simulator.base_url}/v1/messages/batches", headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")


def test_a_call_without_a_version_is_refused(simulator: Simulator) -> None:
    answer = httpx2.get(f"{simulator.base_url}/v1/messages/batches", headers={"x-api-key": "k"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "anthropic-version: header is required")


def test_a_key_that_looks_real_is_refused(simulator: Simulator) -> None:
    with (
        anthropic.Anthropic(base_url=simulator.base_url, api_key="sk-ant-api03-x", max_retries=0) as careless,
        pytest.raises(anthropic.AuthenticationError, match="simulator"),
    ):
        careless.messages.batches.list()


def test_the_older_key_header_is_accepted(simulator: Simulator) -> None:
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    assert httpx2.get(f"{simulator.base_url}/v1/messages/batches", headers=headers).json()["data"] == []


def test_an_unknown_path_is_not_found(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.get("/v1/complete", cast_to=str)
    assert refused.value.type == "not_found_error"


def test_an_error_carries_the_request_id_of_its_header(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.batches.retrieve("msgbatch_none")
    assert refused.value.body["request_id"] == refused.value.response.headers["request-id"]  # type: ignore[index]
