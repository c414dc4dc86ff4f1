"""A create that may have been accepted: cases E01 to E04 and E17 to E22 of the catalogue of bad inputs."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from claude_pipeline.errors import WorkspaceMismatch
from claude_pipeline.stage.submit import settle_by_hand
from claude_pipeline_tests.bad_input.flow import HOUR, Flow, case, client_over
from claude_pipeline_tests.conftest import BATCH_SECONDS, SETTLE_SECONDS, client_of
from claude_pipeline_tests.integration.broken_case import Killed, at_point, die

# E01-E04: accepted, and we do not know it.

LOST: list[Any] = [
    pytest.param({"kind": "lost_after"}, "no answer to create", id="E01"),
    *(
        pytest.param({"kind": status, "accepted": True}, f"create was answered {status}", id=f"E03-{status}")
        for status in (500, 529)
    ),
    *(
        pytest.param({"kind": "bad_body", "form": form}, r"answered 200 without a batch \(request-id req_", id=f"E04-{form}")
        for form in ("html", "cut", "no_id")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "told"), LOST)
def test_a_batch_whose_answer_is_lost_is_found_in_the_list_and_never_sent_again(
    flow: Flow, fault: dict[str, Any], told: str
) -> None:
    flow.over()
    flow.fault(endpoint="create", count=1, **fault)

    flow.send()
    flow.says(told)
    assert flow.states == ["sending"]
    assert flow.send().sent == []  # whatever its answer was, it is not sent again
    flow.settle()
    flow.says("may be it; waiting for its end")

    flow.rest()
    flow.delivered(10)
    assert sum(flow.posts.values()) == 1


class Late(httpx2.HTTPTransport):
    """The answer to a create comes when nobody waits for it any more."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if request.method == "POST":
            response.read()
            raise httpx2.ReadTimeout("10 minutes are over", request=request)
        return response


@case("E02")
def test_an_answer_after_the_time_out_is_looked_for_in_the_list(flow: Flow) -> None:
    usual = flow.desk.client
    flow.over()
    with client_over(flow, Late()) as client:
        flow.reborn(client=client)
        flow.send()
    flow.says(r"no answer to create \(ReadTimeout\)")
    flow.reborn(client=usual)

    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"200": 1}


@case("E16")
def test_a_process_killed_before_it_noted_the_answer_leaves_a_doubt(flow: Flow) -> None:
    flow.over()
    with at_point("submit.after_post", die), pytest.raises(Killed):
        flow.send()
    assert flow.states == ["sending"]

    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"200": 1}


# E17-E22: what the list tells.


def lose(flow: Flow) -> None:
    """A chunk whose create was accepted, and whose answer was lost."""
    flow.over()
    flow.fault(kind="lost_after", endpoint="create", count=1)
    flow.send()


def foreign_batch(flow: Flow, requests: int = 10) -> str:
    """Somebody else's batch in the same workspace."""
    question = {"model": "claude-haiku-5-5", "max_tokens": 5, "messages": [{"role": "user", "content": "theirs"}]}
    asked: Any = [{"custom_id": f"theirs-{n}", "params": question} for n in range(requests)]
    flow.paid_twice += requests > 1  # they ask one question as often as they like
    return flow.desk.client.sdk.messages.batches.create(requests=asked).id


@case("E17")
def test_a_list_that_shows_the_batch_late_is_waited_for(flow: Flow) -> None:
    flow.fault(kind="list_lag", seconds=SETTLE_SECONDS - 1, count=1)
    lose(flow)
    flow.simulator.clock.advance(SETTLE_SECONDS)
    flow.settle()
    flow.says("may be it")
    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"dropped": 1}


@case("E18")
def test_a_foreign_batch_of_the_same_size_is_told_by_its_ids(flow: Flow) -> None:
    flow.over()
    flow.fault(kind="reset_before", endpoint="create", count=1)
    flow.send()
    theirs = foreign_batch(flow)
    flow.settle()
    flow.says(f"{theirs} may be it; waiting for its end")
    flow.rest()
    flow.delivered(10)
    noted = flow.desk.ledger.batch(theirs)
    assert noted is not None
    assert noted.chunk_id is None


LISTS: list[Any] = [
    pytest.param({"kind": 500}, "GET /v1/messages/batches was answered 500", id="E19-500"),
    pytest.param({"kind": "bad_body", "form": "cut"}, "without JSON; decided nothing", id="E19-cut"),
    pytest.param(
        {"kind": "short_list"}, "does not reach back to what was seen before; decided nothing", id="E19-short"
    ),
    pytest.param(
        {"kind": "empty_list"}, "does not reach back to what was seen before; decided nothing", id="E19-empty"
    ),
]


@pytest.mark.parametrize(("fault", "told"), LISTS)
def test_a_list_that_is_not_whole_decides_nothing(flow: Flow, fault: dict[str, Any], told: str) -> None:
    foreign_batch(flow, requests=1)  # the watermark, which a whole list holds
    lose(flow)
    flow.simulator.clock.advance(BATCH_SECONDS)
    flow.fault(endpoint="list", count=1, **fault)
    found = flow.settle()
    assert (found.adopted, found.absent) == ([], [])
    flow.says(told)
    assert flow.states == ["sending"]
    flow.rest()
    flow.delivered(10)


@case("E20")
def test_the_list_of_another_workspace_decides_nothing(flow: Flow) -> None:
    usual = flow.desk.client
    lose(flow)
    stranger = client_of(flow.simulator, "another-key")
    flow.reborn(client=stranger)
    with pytest.raises(WorkspaceMismatch) as refused:
        flow.settle()
    stranger.close()
    flow.told.append(str(refused.value))
    flow.says("this ledger belongs to workspace wrkspc_", "use a key of wrkspc_", "or another home")
    flow.reborn(client=usual)
    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"dropped": 1}


DECISIONS: list[Any] = [pytest.param(True, id="E21-absent"), pytest.param(False, id="E21-batch")]


@pytest.mark.parametrize("absent", DECISIONS)
def test_a_doubt_whose_evidence_was_deleted_waits_for_a_persons_word(flow: Flow, absent: bool) -> None:
    lose(flow)
    flow.settle()  # it is seen, and still runs
    batch_id = flow.simulator.invoice()["by_batch"][0]["batch_id"]
    flow.simulator.clock.advance(BATCH_SECONDS)
    flow.desk.client.sdk.messages.batches.delete(batch_id)
    flow.settle(HOUR)
    flow.says(f"/v1/messages/batches/{batch_id} was answered 404")
    assert flow.send().sent == []
    tag = flow.desk.ledger.unsettled_intents()[0].tag
    if not absent:
        return
    flow.paid_twice = 10  # as the person said: it was not accepted
    flow.told.append(settle_by_hand(flow.desk, tag, batch_id=None))
    flow.says("taken as not accepted; its chunk is ready again")
    flow.rest()
    flow.delivered(10)


@case("E22")
def test_two_doubts_of_one_size_each_get_their_own_batch(flow: Flow) -> None:
    flow.over(20)
    flow.fault(kind="lost_after", endpoint="create", count=2)
    flow.send()
    assert flow.states == ["sending", "sending"]
    flow.rest()
    flow.delivered(20)
    assert flow.posts == {"dropped": 2}
    answers = flow.ask("SELECT count(*) FROM notes.results WHERE answer NOT LIKE '[sha256:%'")
    assert answers == [(0,)]
