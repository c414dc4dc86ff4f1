"""Each fault of a results download and of a result line, seen to happen by the SDK."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline.simulator.fault import LOW_CREDIT
from claude_pipeline_tests.integration.simulator.case import BATCH_SECONDS, SCHEMA, params, requests, text_of
from claude_pipeline_tests.integration.simulator.ways import ask, both_clients, download, raw_results

LINE_ERRORS = [
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "timeout_error",
    "api_error",
    "overloaded_error",
    "request_too_large",
]
CHARACTERS = {"u2028": "\u2028", "u0085": "\u0085", "surrogate": "\ud83d", "nul": "\x00"}
AS_SENT = {"u2028": "\u2028".encode(), "u0085": "\u0085".encode(), "surrogate": b"\\ud83d", "nul": b"\\u0000"}


def ended(simulator: Simulator, asked: list[Any] | None = None) -> str:
    asked = asked or requests(20)
    batch = ask("sync", simulator, lambda client: client.messages.batches.create(requests=asked))
    simulator.clock.advance(BATCH_SECONDS)
    name: str = batch.id
    return name


def counts(simulator: Simulator, batch_id: str) -> dict[str, int]:
    batch = ask("sync", simulator, lambda client: client.messages.batches.retrieve(batch_id))
    found: dict[str, int] = batch.request_counts.model_dump()
    return found


@both_clients
def test_results_may_break_off_under_the_reader(simulator: Simulator, way: str) -> None:
    batch_id = ended(simulator)
    simulator.faults.add(kind="cut_results", share=0.5)
    with pytest.raises(httpx2.RemoteProtocolError):
        download(way, simulator, batch_id)


@both_clients
def test_results_may_be_reset_under_the_reader(simulator: Simulator, way: str) -> None:
    batch_id = ended(simulator)
    simulator.faults.add(kind="cut_results", share=0.5, form="reset")
    with pytest.raises((httpx2.ReadError, anthropic.APIConnectionError)):
        download(way, simulator, batch_id)


@both_clients
def test_results_may_end_early_in_good_order(simulator: Simulator, way: str) -> None:
    batch_id = ended(simulator)
    simulator.faults.add(kind="cut_results", share=0.5, form="clean")
    with pytest.raises(json.JSONDecodeError):
        download(way, simulator, batch_id)


@both_clients
@pytest.mark.parametrize(
    "fault",
    [{"kind": "empty_results"}, {"kind": "cut_results", "share": 0.0, "form": "clean"}],
    ids=["empty", "cut-to-nothing"],
)
def test_results_may_be_empty(simulator: Simulator, way: str, fault: dict[str, Any]) -> None:
    batch_id = ended(simulator)
    simulator.faults.add(**fault)
    assert download(way, simulator, batch_id) == []


@both_clients
@pytest.mark.parametrize("kind", ["blank_lines", "malformed_lines"])
def test_the_sdk_stumbles_over_a_line_that_is_no_json(simulator: Simulator, way: str, kind: str) -> None:
    batch_id = ended(simulator)
    simulator.faults.add(kind=kind, share=0.2)
    with pytest.raises(json.JSONDecodeError):
        download(way, simulator, batch_id)


@both_clients
@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        pytest.param("duplicate_lines", lambda found: len(found) > 20 and len(set(found)) == 20, id="duplicate"),
        pytest.param("missing_lines", lambda found: 0 < len(found) < 20, id="missing"),
        pytest.param("foreign_lines", lambda found: any(name.startswith("foreign-") for name in found), id="foreign"),
    ],
)
def test_a_share_of_the_lines_may_be_wrong(
    simulator: Simulator, way: str, kind: str, holds: Callable[[list[str]], bool]
) -> None:
    batch_id = ended(simulator)
    simulator.faults.add(kind=kind, share=0.3)
    assert holds([line.custom_id for line in download(way, simulator, batch_id)])


@both_clients
def test_a_result_of_an_unknown_type_has_no_message(simulator: Simulator, way: str) -> None:
    batch_id = ended(simulator)
    simulator.faults.add(kind="unknown_result")
    results = [line.result for line in download(way, simulator, batch_id)]
    assert {result.type for result in results} == {"teleported"}
    assert {getattr(result, "message", None) for result in results} == {None}


@both_clients
@pytest.mark.parametrize("form", CHARACTERS)
def test_an_answer_may_hold_a_character_that_trips_readers(simulator: Simulator, way: str, form: str) -> None:
    simulator.faults.add(kind="odd_characters", form=form)
    batch_id = ended(simulator)
    lines = download(way, simulator, batch_id)
    assert len(lines) == 20
    assert all(text_of(line.result.message).startswith(f"{CHARACTERS[form]}[sha256:") for line in lines)


@pytest.mark.parametrize("form", CHARACTERS)
def test_such_a_character_travels_as_json_allows(simulator: Simulator, form: str) -> None:
    simulator.faults.add(kind="odd_characters", form=form)
    data = raw_results(simulator, ended(simulator))
    assert data.count(AS_SENT[form]) == 20
    assert [json.loads(line)["result"]["type"] for line in data.split(b"\n")[:-1]] == ["succeeded"] * 20


@pytest.mark.parametrize("form", CHARACTERS)
def test_a_structured_answer_with_such_a_character_is_still_json(simulator: Simulator, form: str) -> None:
    simulator.faults.add(kind="odd_characters", form=form)
    asked = requests(3, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    batch_id = ended(simulator, asked)
    answers = [json.loads(text_of(line.result.message)) for line in download("sync", simulator, batch_id)]
    assert [CHARACTERS[form] in answer["why"] for answer in answers] == [True] * 3


def test_without_a_form_an_answer_holds_all_of_them(simulator: Simulator) -> None:
    simulator.faults.add(kind="odd_characters")
    (line, *_) = download("sync", simulator, ended(simulator))
    assert text_of(line.result.message).startswith("".join(CHARACTERS.values()))


@both_clients
@pytest.mark.parametrize("form", CHARACTERS)
def test_a_message_may_hold_such_a_character(simulator: Simulator, way: str, form: str) -> None:
    simulator.faults.add(kind="odd_characters", endpoint="messages", form=form)
    message = ask(way, simulator, lambda client: client.messages.create(**params()))
    assert text_of(message).startswith(CHARACTERS[form])


@pytest.mark.parametrize("form", CHARACTERS)
def test_a_streamed_message_may_hold_such_a_character(simulator: Simulator, form: str) -> None:
    simulator.faults.add(kind="odd_characters", endpoint="messages", form=form)

    def read(client: anthropic.Anthropic) -> str:
        with client.messages.stream(**params()) as stream:
            return stream.get_final_text()

    assert ask("sync", simulator, read).startswith(CHARACTERS[form])


@both_clients
@pytest.mark.parametrize("error_type", LINE_ERRORS)
def test_a_line_may_be_errored_with_each_type(simulator: Simulator, way: str, error_type: str) -> None:
    simulator.faults.add(kind="line_error", error_type=error_type)
    batch_id = ended(simulator)
    errors = [line.result.error for line in download(way, simulator, batch_id)]
    assert {error.error.type for error in errors} == {error_type}
    assert counts(simulator, batch_id)["errored"] == 20
    assert simulator.invoice()["billed_requests"] == 0


@both_clients
def test_lines_may_say_that_credit_is_low(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="low_credit", share=0.5)
    batch_id = ended(simulator)
    lines = download(way, simulator, batch_id)
    errors = [line.result.error for line in lines if line.result.type == "errored"]
    assert Counter(line.result.type for line in lines).keys() == {"succeeded", "errored"}
    assert {(error.error.type, error.error.message) for error in errors} == {("invalid_request_error", LOW_CREDIT)}


def test_a_low_credit_line_looks_as_it_was_reported(simulator: Simulator) -> None:
    simulator.faults.add(kind="low_credit")
    result = json.loads(raw_results(simulator, ended(simulator, requests(1))))["result"]
    assert result["error"]["error"] | {"message": ""} == {
        "details": None,
        "type": "invalid_request_error",
        "message": "",
    }
    assert result["error"]["error"]["message"].startswith("Your credit balance is too low to access the Anthropic API.")


@both_clients
def test_a_stuck_batch_expires_whole(simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="stuck", count=1)
    batch_id = ended(simulator)
    simulator.clock.advance(86_399 - BATCH_SECONDS)
    before = counts(simulator, batch_id)["processing"]
    simulator.clock.advance(1)
    assert (before, counts(simulator, batch_id)["expired"]) == (20, 20)
    assert {line.result.type for line in download(way, simulator, batch_id)} == {"expired"}


def test_a_line_rule_may_hold_for_one_model_only(simulator: Simulator) -> None:
    simulator.faults.add(kind="line_error", model="claude-sonnet-5-5")
    models = ["claude-haiku-5-5", "claude-sonnet-5-5"]
    asked = [{"custom_id": model, "params": params(model=model)} for model in models]
    lines = download("sync", simulator, ended(simulator, asked))
    assert {line.custom_id: line.result.type for line in lines} == {
        "claude-haiku-5-5": "succeeded",
        "claude-sonnet-5-5": "errored",
    }


@both_clients
@pytest.mark.parametrize("form", ["refusal", "max_tokens", "pause_turn"])
def test_a_message_may_succeed_oddly(simulator: Simulator, way: str, form: str) -> None:
    simulator.faults.add(kind="line_answer", endpoint="messages", form=form)
    message = ask(way, simulator, lambda client: client.messages.create(**params()))
    assert message.stop_reason == form
