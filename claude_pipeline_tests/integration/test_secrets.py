"""The key: nowhere but in the header of a request to the host that was named."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import anthropic
import pytest

from claude_pipeline.chunk import Body
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.lane.access import connect, without_key
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.lane.message_client import MessageClient
from claude_pipeline.ledger import BatchId
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline_tests.conftest import NOW, client_of, messages_of

KEY = "CANARY-key-0123456789"
ECHO = f"your key {KEY} (Bearer {KEY}) is known"
PARAMS = b'{"model":"claude-haiku-5-5","max_tokens":8,"messages":[{"role":"user","content":"CANARY-row"}]}'


@pytest.fixture
def keyed(simulator: Simulator) -> Iterator[BatchClient]:
    client = client_of(simulator, KEY)
    yield client
    client.close()


@pytest.fixture
def body(tmp_path: Path) -> Body:
    (tmp_path / "params.jsonl").write_bytes(PARAMS + b"\n")
    return Body(tmp_path / "params.jsonl", "tag-")


CALLS: dict[str, Callable[[BatchClient], object]] = {
    "list": lambda client: client.page(),
    "retrieve": lambda client: client.retrieve(BatchId("msgbatch_1")),
    "results": lambda client: client.first_result(BatchId("msgbatch_1")),
    "cancel": lambda client: client.cancel(BatchId("msgbatch_1")),
}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 529])
@pytest.mark.parametrize("endpoint", CALLS)
def test_an_error_that_echoes_the_key_is_told_without_it(
    simulator: Simulator, keyed: BatchClient, endpoint: str, status: int
) -> None:
    simulator.faults.add(endpoint=endpoint, kind="status", status=status, message=ECHO, count=1)

    with pytest.raises(ClaudePipelineError) as raised:
        CALLS[endpoint](keyed)

    error = raised.value
    assert "your key ******** (Bearer ********) is known" in str(error)
    assert KEY not in "".join(traceback.format_exception(error))
    assert KEY.encode() not in pickle.dumps(error)
    assert error.__cause__ is None
    assert error.__suppress_context__  # the SDK's error holds the request's headers


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_refused_create_is_told_without_the_key(
    simulator: Simulator, keyed: BatchClient, body: Body, status: int
) -> None:
    simulator.faults.add(endpoint="create", kind="status", status=status, message=ECHO, count=1)

    answer = keyed.create(body)

    assert "your key ********" in repr(answer)
    assert KEY not in repr(answer)


@pytest.mark.parametrize("status", [400, 401, 409, 500])
def test_a_reply_in_real_time_holds_no_key(simulator: Simulator, status: int) -> None:
    simulator.faults.add(endpoint="messages", kind="status", status=status, message=ECHO, count=1)

    async def scene() -> str:
        async with MessageClient(lambda: NOW, connect=messages_of(simulator, KEY)) as client:
            return repr(await client.ask(PARAMS, 10))

    told = asyncio.run(scene())

    assert "your key ********" in told
    assert KEY not in told


def test_no_repr_shows_the_key(desk: Desk, keyed: BatchClient) -> None:
    keyed.connected()

    assert KEY not in f"{desk!r} {desk.settings!r} {keyed!r} {keyed.sdk!r} {vars(desk.settings)}"


@pytest.mark.parametrize(
    ("said", "headers", "told"),
    [
        pytest.param(f"no {KEY}", {"authorization": f"Bearer {KEY}"}, "no ********", id="bearer"),
        pytest.param(f"no {KEY}", {"x-api-key": KEY}, "no ********", id="as an API key"),
        pytest.param("a bad word", {"x-api-key": "a"}, "a bad word", id="a key of one letter"),
        pytest.param("nothing of it", {}, "nothing of it", id="no key"),
    ],
)
def test_the_key_is_masked_in_what_the_api_says(said: str, headers: dict[str, str], told: str) -> None:
    assert without_key(said, headers) == told


@pytest.fixture
def debug() -> Iterator[None]:
    """What ANTHROPIC_LOG=debug makes of the SDK's loggers when it is imported."""
    loggers = [logging.getLogger(name) for name in ("anthropic", "httpx2")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.mark.usefixtures("debug")
def test_the_sdks_log_tells_no_record_and_no_key(
    simulator: Simulator, body: Body, caplog: pytest.LogCaptureFixture
) -> None:
    environment = {"ANTHROPIC_BASE_URL": simulator.base_url, "ANTHROPIC_API_KEY": KEY}

    async def scene() -> None:
        async with MessageClient(lambda: NOW, connect=messages_of(simulator, KEY)) as client:
            await client.ask(PARAMS, 10)

    client = BatchClient(connect=lambda: connect(environment))
    client.create(body)
    asyncio.run(scene())
    client.close()

    assert "HTTP Request: POST" in caplog.text
    assert "CANARY" not in caplog.text


@pytest.mark.usefixtures("debug")
def test_left_alone_it_would(simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """The test above can fail: this is the SDK without us."""
    sdk = anthropic.Anthropic(api_key=KEY, base_url=simulator.base_url)
    with sdk, pytest.raises(anthropic.APIStatusError):
        sdk.messages.create(model="x", max_tokens=1, messages=[{"role": "user", "content": "CANARY-row"}])

    assert "CANARY-row" in caplog.text


@pytest.mark.parametrize("endpoint", ["list", "create", "results"])
def test_a_redirect_is_not_followed(simulator: Simulator, keyed: BatchClient, body: Body, endpoint: str) -> None:
    """Its target would get what is sent, and may be any host."""
    simulator.faults.add(endpoint=endpoint, kind="redirect", location=f"{simulator.base_url}/elsewhere", count=1)
    before = simulator.invoice()["calls"]

    try:
        told = repr(keyed.create(body) if endpoint == "create" else CALLS[endpoint](keyed))
    except ClaudePipelineError as error:
        told = str(error)

    assert "307" in told
    after = simulator.invoice()["calls"]
    assert sum(sum(c.values()) for c in after.values()) == sum(sum(c.values()) for c in before.values()) + 1
