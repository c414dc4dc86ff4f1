"""What the API answers to `create`: cases E05 to E15 of the catalogue of bad inputs, and what was learned beside them."""

from __future__ import annotations

import math
import re
import socket
import sys
from typing import Any

import httpx2
import pytest

from claude_pipeline.errors import AccountStopped, KeyRefused
from claude_pipeline.lane.access import connect
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import ChunkState
from claude_pipeline.ledger.halving import SPLITS_FREE
from claude_pipeline.stage.submit import plan_submission, send
from claude_pipeline_tests.bad_input import test_e_doubt
from claude_pipeline_tests.bad_input.flow import HOUR, POISON, Flow, case, cases_of, client_over
from claude_pipeline_tests.bad_input.ground import KEY, Ground, good_rows
from claude_pipeline_tests.conftest import SETTLE_SECONDS

CREDIT = "Your credit balance is too low to access the Anthropic API."

# E05: the counts are not what was sent.


@case("E05")
def test_a_batch_that_counts_other_requests_than_its_chunk_is_held_and_not_sent_again(flow: Flow) -> None:
    flow.over()
    for endpoint in ("create", "list", "retrieve"):
        flow.fault(kind="bad_body", form="counts", endpoint=endpoint)

    found = flow.to_collected()

    assert found.done == []
    flow.says("the batch counts 9, the chunk has 10", f"reconcile --as-is {flow.batch_id}")
    assert flow.states == ["ended"]
    assert (flow.send().sent, flow.posts) == ([], {"200": 1})


@case("E05-once")
def test_counts_that_are_wrong_only_in_the_answer_to_create_cost_nothing(flow: Flow) -> None:
    flow.over()
    flow.fault(kind="bad_body", form="counts", endpoint="create", count=1)
    flow.send()
    flow.rest()
    flow.delivered(10)


# E06, E10: refused whole, accepted in halves.


@case("E06")
def test_one_bad_request_is_found_by_halves_and_all_others_are_answered(flow: Flow) -> None:
    flow.over(200, chunk=200, poisoned=[77])
    flow.fault(kind="poison", form=POISON, message="Input should be a valid list")
    flow.send()
    flow.says("400 invalid_request_error: requests.77.params: Input should be a valid list")

    flow.rest()

    flow.delivered(199, dead={"invalid_request_error": 1})
    assert flow.ask("SELECT record_id FROM notes.dead_letters") == [("n77",)]
    sentence = flow.ask("SELECT error_message FROM notes.dead_letters")[0][0]
    assert "Input should be a valid list" in sentence
    halvings = math.ceil(math.log2(200))
    assert flow.posts["400"] <= 1 + halvings
    assert flow.posts["200"] <= halvings


@case("E06-two")
def test_two_bad_requests_are_found_as_well(flow: Flow) -> None:
    flow.over(64, chunk=32, poisoned=[3, 29])
    flow.fault(kind="poison", form=POISON)
    flow.rest()
    flow.delivered(62, dead={"invalid_request_error": 2})
    assert flow.ask("SELECT record_id FROM notes.dead_letters ORDER BY 1") == [("n29",), ("n3",)]


@pytest.mark.parametrize("ground", [pytest.param(None, id="E06-command")], indirect=True)
def test_the_command_line_says_what_it_halves(ground: Ground) -> None:
    rows = good_rows(8)
    rows[5]["text"] += POISON
    ground.rows("notes.jsonl", rows)
    ground.simulator.faults.add(kind="poison", form=POISON, message="Input should be a valid list")

    said = ground.run(ground.workload(lane="batch"))

    assert said.code == 1
    ground.quiet(said)
    assert re.search(
        r"refused +chunk .*\|r1-0001: create was answered 400 .*; its 8 requests go again in halves", said.err
    )
    assert re.search(r"1 without answer +invalid_request_error: .*Input should be a valid list", said.out)
    ground.all_there("notes", delivered=7, dead=1)
    ground.unchanged()


@case("E06-every-request")
def test_a_refusal_of_every_request_is_not_halved_for_ever(flow: Flow) -> None:
    flow.over(600, chunk=100)
    flow.fault(kind=400, endpoint="create", message="no such parameter")
    flow.rest()
    flow.delivered(0, dead={"invalid_request_error": 600})
    assert flow.posts == {"400": 6 + 2 * SPLITS_FREE}


@case("E06-low-credit")
def test_low_credit_arrives_as_a_400_too_and_halves_nothing(flow: Flow) -> None:
    flow.over(20)
    flow.fault(kind=400, endpoint="create", message=CREDIT)
    with pytest.raises(AccountStopped):
        flow.send()
    assert flow.send().sent == []
    assert (flow.states, flow.posts) == (["ready", "ready"], {"400": 1})
    assert flow.situation.to_halve == 0


@case("E06-merged")
def test_what_a_merge_told_of_is_sent_again_only_by_a_person(flow: Flow) -> None:
    flow.over(600, chunk=100)
    flow.fault(kind=400, endpoint="create", after=1)
    flow.rest()
    flow.delivered(100, dead={"invalid_request_error": 500})
    refused = {"400": 5 + 2 * (SPLITS_FREE + 1)}
    assert flow.posts == {"200": 1} | refused

    flow.simulator.faults.clear()
    again = next(chunk for chunk in flow.chunks if chunk.state is ChunkState.FAILED)
    send(flow.desk, flow.workload, plan_submission(flow.desk, flow.workload, [again.partition_key]).chunks)
    flow.rest()

    flow.delivered(100 + again.requests, dead={"invalid_request_error": 500 - again.requests})
    assert flow.posts == {"200": 2} | refused


@case("E06-accepted")
def test_a_batch_that_was_refused_and_accepted_is_told_as_paid_twice_and_not_merged(flow: Flow) -> None:
    flow.over()
    flow.fault(kind=400, endpoint="create", accepted=True, count=1)
    flow.rest()
    flow.delivered(10)
    flow.paid_twice = 10  # the API said that it was not accepted

    flow.over(12)  # with the next submission, ended batches that nobody knows are looked at
    flow.rest()

    twice = flow.desk.ledger.paid_twice()
    assert [batch.requests for batch in twice] == [10]
    assert flow.ask("SELECT count(*), count(DISTINCT record_id) FROM notes.latest") == [(12, 12)]
    told = flow.ask(f"SELECT detail FROM ops.events WHERE move = 'paid twice' AND batch_id = '{twice[0].id}'")
    assert told == [("its chunk was sent again in halves; its answers are not merged",)]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": 413, "error_type": "request_too_large"}, id="E10"),
        pytest.param({"kind": "html_413"}, id="E10-edge"),
    ],
)
def test_a_batch_that_is_too_large_goes_in_halves(flow: Flow, fault: dict[str, Any]) -> None:
    flow.over()
    flow.fault(endpoint="create", count=1, **fault)
    flow.send()
    flow.says("create was answered 413")
    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"413": 1, "200": 2}


# E07-E09: nothing works until a person acts.

STOPS: list[Any] = [
    pytest.param({"kind": 400, "message": CREDIT}, AccountStopped, "credit balance is too low", id="E07-400"),
    pytest.param(
        {"kind": 400, "message": "You have reached your specified workspace API usage limits."},
        AccountStopped, "API usage limits", id="E07-own-limit",
    ),
    pytest.param({"kind": 402}, AccountStopped, "create was answered 402", id="E07-402"),
    pytest.param(
        {"kind": 429, "error_code": "enforced_spend_limit_reached", "message": "spend limit reached"},
        AccountStopped, "spend limit reached", id="E07-429",
    ),
    pytest.param({"kind": 401}, KeyRefused, "check ANTHROPIC_API_KEY", id="E08-401"),
    pytest.param({"kind": 403}, KeyRefused, "check ANTHROPIC_API_KEY", id="E08-403"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "error", "told"), STOPS)
def test_a_stop_of_the_account_or_the_key_sends_nothing_more_and_says_the_way_out(
    flow: Flow, fault: dict[str, Any], error: type[Exception], told: str
) -> None:
    flow.over(20)
    flow.fault(endpoint="create", count=1, **fault)
    with pytest.raises(error) as stopped:
        flow.send()
    flow.told.append(str(stopped.value))
    flow.says(told, "nothing was accepted")
    flow.told.append(flow.situation.stopped or "")
    flow.says(told, "claude-pipeline resume")
    assert (flow.states, sum(flow.posts.values())) == (["ready", "ready"], 1)

    flow.pass_time(HOUR)  # by then it is mended, and one chunk is sent to see
    flow.rest()
    flow.delivered(20)


@case("E09")
def test_an_address_without_the_api_stops_with_its_name(flow: Flow) -> None:
    usual = flow.desk.client
    elsewhere = {"ANTHROPIC_BASE_URL": f"{flow.simulator.base_url}/elsewhere", "ANTHROPIC_API_KEY": KEY}
    client = BatchClient(connect=lambda: connect(elsewhere))
    flow.over()
    flow.reborn(client=client)
    with pytest.raises(AccountStopped) as stopped:
        flow.send()
    client.close()
    flow.told.append(str(stopped.value))
    flow.says("404", r"is there a Message Batches API at 127\.0\.0\.1")
    flow.reborn(client=usual)
    assert (flow.states, flow.posts) == (["ready"], {})

    flow.pass_time(HOUR)
    flow.rest()
    flow.delivered(10)


# E11-E13: later.

WAITS: list[Any] = [
    pytest.param({"kind": 429, "retry_after": 30}, 30, "answered 429", id="E11"),
    pytest.param(
        {"kind": 429, "message": "processing queue full: 198,000 of 200,000"}, 10, "queue full: 198,000 of 200,000", id="E12"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "seconds", "told"), WAITS)
def test_a_rate_limit_is_waited_out_to_the_second(flow: Flow, fault: dict[str, Any], seconds: int, told: str) -> None:
    flow.over(20)
    flow.fault(endpoint="create", count=1, **fault)
    flow.send()
    flow.says(told)
    flow.pass_time(seconds - 1)
    assert flow.send().sent == []
    flow.says(r"asked to wait until \d\d:\d\d:\d\d UTC")
    assert sum(flow.posts.values()) == 1
    flow.pass_time(1)
    flow.rest()
    flow.delivered(20)
    assert flow.posts == {"429": 1, "200": 2}


@case("E13")
def test_twenty_overloads_are_twenty_doubts_and_one_payment(flow: Flow) -> None:
    flow.over()
    flow.fault(kind=529, endpoint="create", count=20)
    for number in range(20):
        flow.send()
        assert flow.states == ["sending"]
        if not number:
            flow.settle(SETTLE_SECONDS - 1)
            flow.says("left alone until")
            assert flow.send().sent == []  # not before the list has told
        assert len(flow.settle().absent) == 1
    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"529": 20, "200": 1}


# E14-E15: answers that the SDK would follow.


@case("E14")
def test_a_redirect_is_not_followed(flow: Flow) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        host = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        flow.over()
        flow.fault(kind="redirect", location=f"http://{host}/v1/messages/batches", endpoint="create", count=1)
        flow.send()
        with pytest.raises(BlockingIOError):  # nobody came
            elsewhere.accept()
    flow.says(f"create was answered 307: a redirect to {host}, which is not followed; check ANTHROPIC_BASE_URL")
    flow.rest()
    flow.delivered(10)


@case("E15")
def test_the_servers_wish_that_a_refusal_be_repeated_is_not_granted(flow: Flow) -> None:
    flow.over(1)
    flow.fault(kind=400, endpoint="create", should_retry=True)
    flow.rest()
    flow.delivered(0, dead={"invalid_request_error": 1})
    assert flow.posts == {"400": 1}


# Beyond the catalogue.

ODD: list[Any] = [
    pytest.param("first line\n\x1b[31mred\x1b[0m\r\u202esdrawkcab " + "x" * 100_000, id="E23-novel"),
    pytest.param("claude-pipeline: [bold]all is well[/bold]", id="E23-markup"),
]


@pytest.mark.parametrize("message", ODD)
def test_the_apis_words_are_told_on_one_short_line(flow: Flow, message: str) -> None:
    flow.over(1)
    flow.fault(kind=400, endpoint="create", message=message)
    flow.send()
    flow.says("create was answered 400 invalid_request_error: ")
    flow.rest()
    flow.delivered(0, dead={"invalid_request_error": 1})


SHAPES: list[Any] = [
    pytest.param({"error": {"type": 7, "message": {"a": 1}}}, id="E24-types"),
    pytest.param({"error": ["a", "b"]}, id="E24-list"),
    pytest.param({"error": None}, id="E24-null"),
    pytest.param("no", id="E24-text"),
]


@pytest.mark.parametrize("body", SHAPES)
def test_a_refusal_of_another_shape_is_a_refusal_all_the_same(flow: Flow, body: Any) -> None:
    class Odd(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "POST":
                return httpx2.Response(422, json=body, request=request)
            return super().handle_request(request)

    flow.over(1)
    with client_over(flow, Odd()) as client:
        flow.reborn(client=client)
        flow.send()
    flow.says("create was answered 422: no reason given")
    assert flow.states == ["failed"]


def test_every_case_of_the_catalogue_is_here() -> None:
    here = cases_of(sys.modules[__name__]) | cases_of(test_e_doubt)
    assert here >= {f"E{number:02}" for number in range(1, 23)}
