"""One POST, one reply, whatever happens: the real SDK over aiohttp against the simulator and against raw sockets."""

from __future__ import annotations

import asyncio
import logging
import traceback
from datetime import timedelta
from typing import Any

import anthropic
import orjson
import pytest

from claude_pipeline.errors import KeyRefused
from claude_pipeline.lane.access import connect_async
from claude_pipeline.lane.message_client import MessageClient
from claude_pipeline.lane.reply import Fate, RateTold, Reply, TokenUse
from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.integration.message_case import BODY, KEY, MESSAGE, PARAMS, ask_at, client_at, given
from claude_pipeline_tests.raw_server import read_request, response, serving


def test_a_message_comes_as_the_api_sent_it(simulator: Simulator) -> None:
    reply = ask_at(simulator.base_url)
    assert (reply.fate, reply.status, reply.at, reply.error_type) == (Fate.ANSWERED, 200, NOW, "")
    message = orjson.loads(reply.body)
    assert message["type"] == "message"
    usage = message["usage"]
    assert reply.usage == TokenUse(usage["input_tokens"], usage["output_tokens"], 0, 0)
    assert reply.request_id is not None
    assert reply.request_id.startswith("req_")
    refilled = (RateTold(10_000, 9_999), RateTold(10_000, 10_000))  # within 6 ms
    assert reply.rates["requests"] in refilled
    assert set(reply.rates) == {"requests", "input-tokens", "output-tokens"}


def test_the_params_travel_byte_by_byte() -> None:
    """No re-encoding: neither blanks, nor the order of keys, nor a number's form changes."""
    asked = b'{ "b":1.10, "a":"\xc3\xa9\\u00e9" }'
    seen: list[tuple[dict[str, str], bytes]] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(response(BODY))

    async def scene() -> Reply:
        async with serving(keep, reads=False) as base_url, client_at(base_url) as client:
            return await client.ask(asked, 30)

    assert asyncio.run(scene()).body == BODY
    ((headers, body),) = seen
    assert body == asked
    assert headers["content-length"] == str(len(asked))
    assert headers["content-type"] == "application/json"
    assert headers["x-stainless-retry-count"] == "0"


STATUSES: list[Any] = [
    *(pytest.param(status, fate, kind, id=str(status)) for status, fate, kind in (
        (400, Fate.REFUSED, "invalid_request_error"),
        (401, Fate.REFUSED, "authentication_error"),
        (402, Fate.REFUSED, "billing_error"),
        (403, Fate.REFUSED, "permission_error"),
        (404, Fate.REFUSED, "not_found_error"),
        (408, Fate.LOST, None),
        (409, Fate.LOST, None),
        (413, Fate.REFUSED, "request_too_large"),
        (429, Fate.REFUSED, "rate_limit_error"),
        (500, Fate.REFUSED, "api_error"),
        (504, Fate.REFUSED, "timeout_error"),
        (529, Fate.REFUSED, "overloaded_error"),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("status", "fate", "kind"), STATUSES)
def test_an_error_of_the_api_is_clear_but_for_408_and_409(
    simulator: Simulator, status: int, fate: Fate, kind: str | None
) -> None:
    simulator.faults.add(kind=status, endpoint="messages", count=1, retry_after=7.5)
    reply = ask_at(simulator.base_url)
    assert (reply.fate, reply.status, reply.retry_after_seconds) == (fate, status, 7.5)
    assert kind is None or reply.error_type == kind
    assert reply.error_type
    assert reply.error_message == "The simulator was told to answer this"
    assert reply.request_id
    assert simulator.invoice()["billed_requests"] == 0
    assert sum(simulator.invoice()["calls"]["messages"].values()) == 1


def test_an_error_tells_its_code_and_its_wait_may_be_a_date(simulator: Simulator) -> None:
    simulator.faults.add(kind=429, endpoint="messages", count=1, error_code="enforced_spend_limit_reached")
    assert ask_at(simulator.base_url).error_code == "enforced_spend_limit_reached"
    error = orjson.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}, "request_id": "r"})
    until = (NOW + timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    reply = given(error, status="429 Too Many Requests", headers=f"retry-after: {until}\r\n")
    assert (reply.retry_after_seconds, reply.request_id) == (90, "r")


PROXIES: list[Any] = [
    pytest.param("502 Bad Gateway", b"<html>", Fate.LOST, "no_api_answer", id="502-html"),
    pytest.param("503 Unavailable", b"", Fate.LOST, "no_api_answer", id="503-empty"),
    pytest.param("524 Timeout", b'{"error": "origin timeout"}', Fate.LOST, "no_api_answer", id="524-another-json"),
    pytest.param("500 Error", b'{"type": "error", "error": "x"}', Fate.LOST, "no_api_answer", id="500-half-an-error"),
    pytest.param("403 Forbidden", b"<html>", Fate.LOST, "no_api_answer", id="403-html"),
    pytest.param("400 Bad", b'{"error": {"type": "x", "message": "y"}}', Fate.LOST, "no_api_answer", id="400-gateway"),
    pytest.param("408 Timeout", b"", Fate.LOST, "no_api_answer", id="408"),
    pytest.param("307 Temporary", b"", Fate.LOST, "no_api_answer", id="307"),
    pytest.param("413 Too Large", b"<html>", Fate.REFUSED, "request_too_large", id="413-html"),
    pytest.param("429 Slow", b"<html>", Fate.REFUSED, "rate_limit_error", id="429-html"),
    pytest.param("404 Not Found", b"<html>", Fate.REFUSED, "not_found_error", id="404-html"),
]


@pytest.mark.parametrize(("status", "body", "fate", "kind"), PROXIES)
def test_what_a_proxy_says_is_no_word_of_the_api(status: str, body: bytes, fate: Fate, kind: str) -> None:
    reply = given(body, status=status, headers="retry-after: 3\r\nlocation: http://127.0.0.1:1/elsewhere\r\n")
    assert (reply.fate, reply.status, reply.error_type) == (fate, int(status[:3]), kind)
    assert reply.retry_after_seconds == 3


NO_MESSAGES: list[Any] = [
    pytest.param(b"<html>gateway</html>", id="html"),
    pytest.param(b"", id="empty"),
    pytest.param(BODY[:40], id="half"),
    pytest.param(b"[]", id="a-list"),
    pytest.param(b'"message"', id="a-word"),
    pytest.param(b'{"type": "error", "error": {"type": "api_error", "message": "m"}}', id="an-error"),
    pytest.param(b'{"type": "message", "content": "yes"}', id="content-a-word"),
    pytest.param(b"event: message_start\ndata: {}\n\n", id="a-stream"),
    pytest.param(b"[" * 100_000, id="deep"),
]


@pytest.mark.parametrize("body", NO_MESSAGES)
def test_a_success_that_is_no_message_may_have_been_paid(body: bytes) -> None:
    reply = given(body, headers="request-id: req_7\r\n")
    assert (reply.fate, reply.error_type, reply.request_id) == (Fate.LOST, "unreadable_result", "req_7")
    assert "may have been paid" in reply.error_message


ODD_MESSAGES: list[Any] = [
    pytest.param(MESSAGE, TokenUse(3, 2, 0, 0), id="plain"),
    pytest.param({k: v for k, v in MESSAGE.items() if k != "id"}, TokenUse(3, 2, 0, 0), id="no-id"),
    pytest.param(MESSAGE | {"usage": None}, None, id="no-usage"),
    pytest.param(MESSAGE | {"usage": {"input_tokens": "3", "output_tokens": 2}}, None, id="usage-a-word"),
    pytest.param(MESSAGE | {"usage": {"input_tokens": -3, "output_tokens": 2}}, None, id="usage-negative"),
    pytest.param(
        MESSAGE | {"usage": {"input_tokens": 3, "output_tokens": 2, "cache_creation_input_tokens": 5,
                             "cache_read_input_tokens": None}},
        TokenUse(3, 2, 5, 0), id="cache-written",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("message", "usage"), ODD_MESSAGES)
def test_a_message_is_an_answer_whatever_it_lacks(message: Any, usage: TokenUse | None) -> None:
    reply = given(orjson.dumps(message))
    assert (reply.fate, reply.usage) == (Fate.ANSWERED, usage)


@pytest.mark.parametrize("form", ["u2028", "u0085", "surrogate", "nul"])
def test_odd_characters_are_an_answer(simulator: Simulator, form: str) -> None:
    simulator.faults.add(kind="odd_characters", endpoint="messages", form=form)
    assert ask_at(simulator.base_url).fate is Fate.ANSWERED


def test_a_compressed_answer_is_read_and_one_that_does_not_hold_may_have_been_paid() -> None:
    import gzip

    packed = gzip.compress(BODY)
    assert given(packed, headers="content-encoding: gzip\r\n").body == BODY
    assert given(BODY, headers="content-encoding: gzip\r\n").error_type == "unreadable_result"


def test_no_secret_is_in_a_reply_a_log_or_a_trace(simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    seen = []
    for kind in ("lost_after", "401", "429", "bad_body"):
        simulator.faults.add(kind=kind, endpoint="messages", count=1)
        seen.append(repr(ask_at(simulator.base_url)))
    seen.append(repr(client_at(simulator.base_url)))
    assert KEY not in "".join(seen) + caplog.text


def test_a_missing_key_is_told_before_anything_is_sent() -> None:
    async def scene() -> None:
        async with MessageClient(lambda: NOW):
            pass

    with pytest.raises(KeyRefused, match="ANTHROPIC_API_KEY") as refused:
        asyncio.run(scene())
    assert refused.value.exit_code == 3


def test_a_closed_client_says_so() -> None:
    async def scene() -> None:
        async with client_at("http://127.0.0.1:1") as client:
            pass
        await client.ask(PARAMS, 1)

    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(scene())


def test_retries_redirects_and_the_limit_of_connections_are_ours() -> None:
    sdk = connect_async({"ANTHROPIC_API_KEY": KEY})
    assert isinstance(sdk, anthropic.AsyncAnthropic)
    http: Any = sdk._client
    assert (sdk.max_retries, http.follow_redirects) == (0, False)
    assert http._transport.limits.max_connections >= 1_000
    asyncio.run(sdk.close())


def test_nothing_of_the_sdk_leaves_with_an_error_of_ours(simulator: Simulator) -> None:
    """Even where a task is cancelled in the middle, its trace shows no header."""

    async def scene() -> str:
        simulator.faults.add(kind="hang", endpoint="messages", seconds=5)
        async with client_at(simulator.base_url) as client:
            task = asyncio.create_task(client.ask(PARAMS, 30))
            await asyncio.sleep(0.1)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                return "".join(traceback.format_exception(error))
        return ""

    assert KEY not in asyncio.run(scene())
