"""Faults on order, as the real SDK meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types.messages import MessageBatch

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.simulator.case import (
    BATCH_SECONDS,
    SCHEMA,
    connected,
    ended_batch,
    params,
    requests,
    results_of,
    text_of,
)


def raw_lines(client: anthropic.Anthropic, batch_id: str) -> list[bytes]:
    with client.messages.batches.with_streaming_response.results(batch_id) as response:
        return b"".join(response.iter_bytes()).split(b"\n")[:-1]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 413, 429, 500, 504, 529])
def test_a_status_on_order_is_answered_once(client: anthropic.Anthropic, simulator: Simulator, status: int) -> None:
    simulator.faults.add(kind=status, endpoint="list", count=1)
    with pytest.raises(anthropic.APIStatusError) as refused:
        client.messages.batches.list()
    assert refused.value.status_code == status
    assert client.messages.batches.list().data == []


def test_a_refusal_on_order_carries_what_the_rule_says(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(
        kind=429, endpoint="list", retry_after=7, should_retry=False, message="no", error_code="ramp_limit_exceeded"
    )
    with pytest.raises(anthropic.RateLimitError, match="no") as refused:
        client.messages.batches.list()
    assert refused.value.response.headers["retry-after"] == "7"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert refused.value.error_code == "ramp_limit_exceeded"


def test_a_lost_answer_is_a_connection_error_and_the_batch_exists(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.batches.create(requests=requests(2))
    assert [batch.request_counts.processing for batch in client.messages.batches.list()] == [2]


def test_a_reset_before_the_work_leaves_nothing(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.batches.create(requests=requests(2))
    assert client.messages.batches.list().data == []


def test_a_server_error_may_come_after_the_work(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind=500, endpoint="create", accepted=True, count=1)
    with pytest.raises(anthropic.InternalServerError):
        client.messages.batches.create(requests=requests(2))
    assert len(client.messages.batches.list().data) == 1


def test_the_sdks_own_retry_of_a_lost_answer_pays_twice(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    client.with_options(max_retries=1).messages.batches.create(requests=requests(2))
    simulator.clock.advance(BATCH_SECONDS)
    assert simulator.invoice()["billed_twice"] == 2


def test_a_hanging_answer_is_a_time_out(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="hang_after", endpoint="create", seconds=30, count=1)
    with pytest.raises(anthropic.APITimeoutError):
        client.with_options(timeout=0.2).messages.batches.create(requests=requests(2))
    assert len(client.messages.batches.list().data) == 1


def test_a_late_acceptance_shows_after_the_client_has_gone(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="accept_late", seconds=0.2, count=1)
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.batches.create(requests=requests(2))
    at_once = client.messages.batches.list().data
    later = next(data for _ in range(900) if (data := client.messages.batches.list().data))
    assert (at_once, len(later)) == ([], 1)


def test_a_lagging_list_shows_a_batch_later(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="list_lag", seconds=20, count=1)
    batch = client.messages.batches.create(requests=requests(1))
    assert client.messages.batches.list().data == []
    simulator.clock.advance(20)
    assert [listed.id for listed in client.messages.batches.list()] == [batch.id]


def test_a_rule_may_skip_calls_first(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind=500, endpoint="list", after=2, count=1)
    outcomes = []
    for _ in range(4):
        try:
            client.messages.batches.list()
            outcomes.append("ok")
        except anthropic.InternalServerError:
            outcomes.append("500")
    assert outcomes == ["ok", "ok", "500", "ok"]


def test_a_probability_is_drawn_from_the_seed(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind=500, endpoint="list", probability=0.5, seed=3)
    for _ in range(40):
        try:
            client.messages.batches.list()
        except anthropic.InternalServerError:
            continue
    struck = simulator.faults.as_json()[0]["struck"]
    assert 10 < struck < 30


def test_cut_results_break_the_connection_after_some_bytes(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(20))
    simulator.faults.add(kind="cut_results", share=0.5, count=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        raw_lines(client, batch.id)
    assert len(raw_lines(client, batch.id)) == 20


def test_cleanly_cut_results_show_no_error(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(20))
    simulator.faults.add(kind="cut_results", share=0.5, form="clean", count=1)
    assert len(raw_lines(client, batch.id)) < 20


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        pytest.param("blank_lines", 40, id="blank"),
        pytest.param("duplicate_lines", 40, id="duplicate"),
        pytest.param("missing_lines", 0, id="missing"),
    ],
)
def test_lines_may_be_too_many_or_too_few(
    client: anthropic.Anthropic, simulator: Simulator, kind: str, count: int
) -> None:
    batch = ended_batch(client, simulator, requests(20))
    simulator.faults.add(kind=kind)
    assert len(raw_lines(client, batch.id)) == count


def test_a_share_of_lines_is_the_same_at_each_download(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(40))
    simulator.faults.add(kind="missing_lines", share=0.5, seed=1)
    first = raw_lines(client, batch.id)
    assert 5 < len(first) < 35
    assert raw_lines(client, batch.id) == first


def test_malformed_lines_are_no_json(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(1))
    simulator.faults.add(kind="malformed_lines")
    with pytest.raises(json.JSONDecodeError):
        json.loads(raw_lines(client, batch.id)[0])


def test_foreign_lines_carry_an_unknown_id(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(1))
    simulator.faults.add(kind="foreign_lines")
    assert list(results_of(client, batch.id)) == ["foreign-r0"]


def test_a_result_may_be_of_an_unknown_type(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(1))
    simulator.faults.add(kind="unknown_result")
    assert json.loads(raw_lines(client, batch.id)[0])["result"] == {"type": "teleported"}


def test_texts_may_hold_line_separators(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(1))
    simulator.faults.add(kind="line_separator")
    message: Any = results_of(client, batch.id)["r0"].result
    assert "\u2028" in text_of(message.message)


def test_a_retryable_line_error_strikes_a_question_once(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="line_error", share=1.0, attempts=1)
    first = ended_batch(client, simulator, requests(3))
    second = ended_batch(client, simulator, requests(3))
    assert (first.request_counts.errored, second.request_counts.succeeded) == (3, 3)


def test_a_permanent_line_error_strikes_the_same_questions_again(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", share=0.5, error_type="invalid_request_error", message="poison")
    first, second = (ended_batch(client, simulator, requests(40)) for _ in range(2))
    errored = [
        {name for name, line in results_of(client, batch.id).items() if line.result.type == "errored"}
        for batch in (first, second)
    ]
    assert 5 < len(errored[0]) < 35
    assert errored[0] == errored[1]


@pytest.mark.parametrize(
    ("form", "stop_reason"),
    [
        *((form, form) for form in ("refusal", "max_tokens", "pause_turn", "tool_use")),
        ("context_window", "model_context_window_exceeded"), ("empty", "end_turn"), ("thinking", "end_turn"),
    ],
)  # fmt: skip
def test_a_line_may_succeed_oddly(
    client: anthropic.Anthropic, simulator: Simulator, form: str, stop_reason: str
) -> None:
    simulator.faults.add(kind="line_answer", form=form)
    batch = ended_batch(client, simulator, requests(1))
    result: Any = results_of(client, batch.id)["r0"].result
    assert (result.type, result.message.stop_reason) == ("succeeded", stop_reason)


@pytest.mark.parametrize(
    ("form", "spoiled"),
    [
        pytest.param("extra_key", lambda text: "nobody_asked" in json.loads(text), id="extra-key"),
        pytest.param("nan", lambda text: isinstance(json.loads(text)["queue"], float), id="nan"),
    ],
)
def test_a_structured_answer_may_be_outside_its_schema(
    client: anthropic.Anthropic, simulator: Simulator, form: str, spoiled: Any
) -> None:
    simulator.faults.add(kind="line_answer", form=form)
    asked = requests(1, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    batch = ended_batch(client, simulator, asked)
    result: Any = results_of(client, batch.id)["r0"].result
    assert spoiled(result.message.content[0].text)


def test_a_usage_may_be_odd_and_is_billed_as_it_should_be(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="line_answer", form="odd_usage")
    batch = ended_batch(client, simulator, requests(1))
    result: Any = results_of(client, batch.id)["r0"].result
    assert (result.message.usage.input_tokens, simulator.invoice()["billed_requests"]) == (-7, 1)


def test_a_batch_may_be_refused_for_one_of_its_requests(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="poison", form="text 2", message="Input should be a valid list")
    with pytest.raises(anthropic.BadRequestError, match=r"requests\.2\.params: Input should be a valid list"):
        client.messages.batches.create(requests=requests(3))
    client.messages.batches.create(requests=requests(2))
    assert simulator.invoice()["accepted_requests"] == 2


@pytest.mark.parametrize(("form", "first"), [("scalar", b"42"), ("list", b"[{"), ("no_id", b'{"result":')])
def test_a_line_may_be_json_and_no_result(
    client: anthropic.Anthropic, simulator: Simulator, form: str, first: bytes
) -> None:
    simulator.faults.add(kind="malformed_lines", form=form)
    batch = ended_batch(client, simulator, requests(2))
    assert [line.startswith(first) for line in raw_lines(client, batch.id)] == [True, True]


def test_a_line_may_be_answered_twice_in_different_ways(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="duplicate_lines", form="other")
    batch = ended_batch(client, simulator, requests(1))
    assert [line.result.type for line in client.messages.batches.results(batch.id)] == ["succeeded", "expired"]


def test_an_error_rate_is_the_share_of_questions_overloaded_at_first() -> None:
    flaky = Options(batch_seconds=(BATCH_SECONDS, BATCH_SECONDS), paused=True, error_rate=0.3)
    with running(flaky) as simulator, connected(simulator) as client:
        first, second = (ended_batch(client, simulator, requests(200)).request_counts for _ in range(2))
    assert 35 < first.errored < 85
    assert second.errored == 0


def test_a_message_may_be_overloaded_at_first() -> None:
    with running(Options(error_rate=1.0)) as simulator, connected(simulator) as client:
        with pytest.raises(anthropic.OverloadedError):
            client.messages.create(**params())
        assert client.messages.create(**params()).stop_reason == "end_turn"


@pytest.mark.parametrize("form", ["html", "cut", "empty"])
def test_an_accepted_create_may_be_answered_unreadably(
    client: anthropic.Anthropic, simulator: Simulator, form: str
) -> None:
    simulator.faults.add(kind="bad_body", endpoint="create", form=form, count=1)
    try:
        answer = client.messages.batches.create(requests=requests(1))
    except (json.JSONDecodeError, anthropic.APIError):
        answer = None
    assert not isinstance(answer, MessageBatch)
    assert len(client.messages.batches.list().data) == 1


def test_the_edge_may_refuse_a_size_in_html(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="html_413", count=1)
    with pytest.raises(anthropic.APIStatusError) as refused:
        client.messages.batches.create(requests=requests(1))
    assert (refused.value.status_code, refused.value.type) == (413, None)


def test_results_url_may_point_elsewhere(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="foreign_url", location="http://example.invalid")
    batch = ended_batch(client, simulator, requests(1))
    assert str(batch.results_url).startswith("http://example.invalid/")


def test_faults_can_be_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {kind: 529, endpoint: list, count: 1}\n")
    with running(Options(faults=path)) as simulator, connected(simulator) as client:
        with pytest.raises(anthropic.OverloadedError):
            client.messages.batches.list()
        assert client.messages.batches.list().data == []


def test_faults_can_be_given_over_http(simulator: Simulator, client: anthropic.Anthropic) -> None:
    answer = httpx2.post(f"{simulator.base_url}/_simulator/faults", json={"kind": 404, "endpoint": "list"})
    assert answer.json()[0]["status"] == 404
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.list()


def test_a_fault_that_is_not_known_is_refused(simulator: Simulator) -> None:
    answer = httpx2.post(f"{simulator.base_url}/_simulator/faults", json={"kind": "gremlins"})
    assert answer.status_code == 400
    assert "gremlins" in answer.json()["error"]


def test_a_list_may_lack_its_older_half(client: anthropic.Anthropic, simulator: Simulator) -> None:
    made = [client.messages.batches.create(requests=requests(1)).id for _ in range(4)]
    simulator.faults.add(kind="short_list", count=1)
    page = client.messages.batches.list()
    assert ([batch.id for batch in page.data], page.has_more) == ([made[3], made[2]], False)


def test_a_list_may_be_empty(client: anthropic.Anthropic, simulator: Simulator) -> None:
    client.messages.batches.create(requests=requests(1))
    simulator.faults.add(kind="empty_list", count=1)
    assert client.messages.batches.list().data == []


def test_an_answer_may_come_from_another_workspace(client: anthropic.Anthropic, simulator: Simulator) -> None:
    client.messages.batches.create(requests=requests(1))
    here = client.messages.batches.with_raw_response.list()
    simulator.faults.add(kind="other_workspace", endpoint="list", count=1)
    there = client.messages.batches.with_raw_response.list()
    assert here.headers["anthropic-workspace-id"] != there.headers["anthropic-workspace-id"]
    assert there.parse().data == []


def test_a_slow_answer_arrives_whole(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(3))
    simulator.faults.add(kind="slow_bytes", endpoint="results", bytes_per_second=10_000)
    assert len(raw_lines(client, batch.id)) == 3


def test_an_answer_may_lead_to_another_host(client: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.faults.add(kind="redirect", endpoint="create", location="http://example.invalid/", count=1)
    with httpx2.Client(follow_redirects=False) as stubborn, pytest.raises(anthropic.APIStatusError) as refused:
        client.with_options(http_client=stubborn).messages.batches.create(requests=requests(1))
    assert refused.value.response.headers["location"] == "http://example.invalid/"
