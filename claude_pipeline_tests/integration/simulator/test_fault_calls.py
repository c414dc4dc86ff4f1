"""Each fault of a call, seen to happen by the SDK's sync and async client."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types.messages import MessageBatch

from claude_pipeline.simulator import Simulator, create_app
from claude_pipeline_tests.integration.simulator.case import BATCH_SECONDS, OPTIONS, params, requests
from claude_pipeline_tests.integration.simulator.ways import API_KEY, Call, ask, both_clients, listed

CLASSES: dict[int, type[anthropic.APIStatusError]] = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    402: anthropic.PaymentRequiredError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    408: anthropic.APIStatusError,
    409: anthropic.ConflictError,
    413: anthropic.ContentTooLargeError,
    429: anthropic.RateLimitError,
    500: anthropic.InternalServerError,
    504: anthropic.APIStatusError,
    529: anthropic.OverloadedError,
}
RETRIED = (408, 409, 429, 500, 504, 529)


def list_batches(client: Any) -> Any:
    return client.messages.batches.list()


def create_batch(client: Any) -> Any:
    return client.messages.batches.create(requests=requests(2))


def raw_list(client: Any) -> Any:
    return client.messages.batches.with_raw_response.list()


def made(simulator: Simulator) -> MessageBatch:
    batch: MessageBatch = ask("sync", simulator, create_batch)
    return batch


def retrieve(batch_id: str) -> Call:
    return lambda client: client.messages.batches.retrieve(batch_id)


def ended(simulator: Simulator) -> str:
    batch = made(simulator)
    simulator.clock.advance(BATCH_SECONDS)
    return batch.id


@both_clients
@pytest.mark.parametrize("status", CLASSES)
def test_a_status_is_raised_as_its_class(simulator: Simulator, way: str, status: int) -> None:
    simulator.faults.add(kind=status, endpoint="list")
    with pytest.raises(CLASSES[status]) as refused:
        ask(way, simulator, list_batches)
    assert refused.value.status_code == status


@both_clients
@pytest.mark.parametrize("status", RETRIED)
def test_a_status_carries_retry_after_only_if_told(simulator: Simulator, way: str, status: int) -> None:
    simulator.faults.add(kind=status, endpoint="list", retry_after=1.5, count=1)
    simulator.faults.add(kind=status, endpoint="list", count=1)
    waits = []
    for _ in range(2):
        with pytest.raises(anthropic.APIStatusError) as refused:
            ask(way, simulator, list_batches)
        waits.append(refused.value.response.headers.get("retry-after"))
    assert waits == ["1.5", None]


@both_clients
@pytest.mark.parametrize("status", RETRIED)
def test_the_sdk_retries_such_a_status_by_itself(simulator: Simulator, way: str, status: int) -> None:
    simulator.faults.add(kind=status, endpoint="list", count=1, retry_after=0.01)
    assert ask(way, simulator, raw_list, max_retries=1).retries_taken == 1


@both_clients
@pytest.mark.parametrize("status", RETRIED)
def test_x_should_retry_false_stops_the_sdks_retry(simulator: Simulator, way: str, status: int) -> None:
    simulator.faults.add(kind=status, endpoint="list", count=1, should_retry=False)
    with pytest.raises(anthropic.APIStatusError) as refused:
        ask(way, simulator, list_batches, max_retries=2)
    assert refused.value.response.headers["x-should-retry"] == "false"


@both_clients
def test_x_should_retry_true_makes_the_sdk_retry_a_bad_request(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind=400, endpoint="list", count=1, should_retry=True, retry_after=0.01)
    assert ask(way, simulator, raw_list, max_retries=1).retries_taken == 1


@both_clients
def test_a_lost_answer_leaves_the_batch_behind(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    with pytest.raises(anthropic.APIConnectionError):
        ask(way, simulator, create_batch)
    assert [batch.request_counts.processing for batch in listed(simulator)] == [2]


@both_clients
def test_a_lost_message_is_billed(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="lost_after", endpoint="messages", count=1)
    with pytest.raises(anthropic.APIConnectionError):
        ask(way, simulator, lambda client: client.messages.create(**params()))
    assert simulator.invoice()["billed_requests"] == 1


@both_clients
@pytest.mark.parametrize("status", [500, 504, 529])
def test_a_server_error_after_the_work_leaves_the_batch_behind(simulator: Simulator, way: str, status: int) -> None:
    simulator.faults.add(kind=status, endpoint="create", accepted=True, count=1)
    with pytest.raises(CLASSES[status]):
        ask(way, simulator, create_batch)
    assert len(listed(simulator)) == 1


@both_clients
def test_a_reset_before_the_work_leaves_no_batch(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    with pytest.raises(anthropic.APIConnectionError):
        ask(way, simulator, create_batch)
    assert listed(simulator) == []


@both_clients
@pytest.mark.parametrize(("kind", "left"), [("hang", 0), ("hang_after", 1)], ids=["before", "after"])
def test_a_hang_is_a_time_out(simulator: Simulator, way: str, kind: str, left: int) -> None:
    simulator.faults.add(kind=kind, endpoint="create", count=1)
    with pytest.raises(anthropic.APITimeoutError):
        ask(way, simulator, create_batch, timeout=0.3)
    assert len(listed(simulator)) == left


@both_clients
def test_the_first_looks_at_each_batch_may_find_nothing(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="early_404", count=2)
    found = []
    for batch in (made(simulator), made(simulator)):
        for _ in range(3):
            try:
                ask(way, simulator, retrieve(batch.id))
                found.append("ok")
            except anthropic.NotFoundError:
                found.append("404")
    assert found == ["404", "404", "ok"] * 2


@both_clients
def test_a_batch_may_be_found_until_it_has_ended(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="late_404")
    batch = made(simulator)
    before = ask(way, simulator, retrieve(batch.id)).processing_status
    simulator.clock.advance(BATCH_SECONDS)
    with pytest.raises(anthropic.NotFoundError):
        ask(way, simulator, retrieve(batch.id))
    after = ask(way, simulator, retrieve(batch.id)).processing_status
    assert (before, after) == ("in_progress", "ended")


@both_clients
def test_results_may_be_not_found_at_first(simulator: Simulator, way: str) -> None:
    batch_id = ended(simulator)
    simulator.faults.add(kind=404, endpoint="results", count=1)
    with pytest.raises(anthropic.NotFoundError):
        ask(way, simulator, lambda client: client.messages.batches.results(batch_id))
    assert ask(way, simulator, retrieve(batch_id)).processing_status == "ended"


@both_clients
def test_an_unreachable_results_host_is_a_connection_error(simulator: Simulator, way: str) -> None:
    batch_id = ended(simulator)
    simulator.faults.add(kind="unreachable_results")
    with pytest.raises(anthropic.APIConnectionError) as failed:
        ask(way, simulator, lambda client: client.messages.batches.results(batch_id))
    assert isinstance(failed.value.__cause__, httpx2.ConnectError)


@both_clients
def test_a_proxys_413_is_html_and_has_no_error_type(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="html_413", count=1)
    with pytest.raises(anthropic.ContentTooLargeError) as refused:
        ask(way, simulator, create_batch)
    assert refused.value.response.headers["content-type"].startswith("text/html")
    assert refused.value.type is None
    assert listed(simulator) == []


@both_clients
def test_slow_bytes_take_their_time(simulator: Simulator, way: str) -> None:
    made(simulator)
    simulator.faults.add(kind="slow_bytes", endpoint="list", bytes_per_second=1_000)
    start = time.monotonic()
    page = ask(way, simulator, list_batches)
    assert time.monotonic() - start > 0.2
    assert len(page.data) == 1


def test_a_rule_may_hold_for_one_key_only(simulator: Simulator) -> None:
    simulator.faults.add(kind=529, endpoint="list", workspace="unlucky")
    assert ask("sync", simulator, list_batches).data == []
    with pytest.raises(anthropic.OverloadedError):
        ask("sync", simulator, list_batches, api_key="unlucky")


def test_a_rule_may_name_the_workspace_by_its_id(simulator: Simulator) -> None:
    workspace = ask("sync", simulator, raw_list).headers["anthropic-workspace-id"]
    simulator.faults.add(kind=529, endpoint="list", workspace=workspace)
    assert ask("sync", simulator, list_batches, api_key="other").data == []
    with pytest.raises(anthropic.OverloadedError):
        ask("sync", simulator, list_batches)


@pytest.mark.parametrize("kind", ["reset_before", "lost_after"])
def test_a_dropped_connection_is_one_without_a_socket_too(kind: str) -> None:
    app = create_app(OPTIONS)
    app.state.api.faults.add(kind=kind, endpoint="list")

    async def fails() -> None:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as inner:
            client = anthropic.AsyncAnthropic(
                base_url="http://simulator", api_key=API_KEY, max_retries=0, http_client=inner
            )
            await client.messages.batches.list()

    with pytest.raises(anthropic.APIConnectionError):
        asyncio.run(fails())
    app.state.api.close()
