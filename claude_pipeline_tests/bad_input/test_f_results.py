"""What the API says of a batch, and what it sends as results: cases F01 to F28 of the catalogue of bad inputs."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from claude_pipeline.alert import AlertKind
from claude_pipeline.errors import UsageError
from claude_pipeline.ledger import BatchId
from claude_pipeline.stage.alert import watch
from claude_pipeline.stage.raw import unpack
from claude_pipeline.stage.retry import retry
from claude_pipeline.stage.submit import give_up_batch, take_batch_as_is
from claude_pipeline_tests.bad_input.flow import DAY, HOUR, Flow, case, cases_of, client_over
from claude_pipeline_tests.bad_input.ground import KEY
from claude_pipeline_tests.conftest import BATCH_SECONDS, client_of
from claude_pipeline_tests.integration.command_case import CommandLine

OUTPUT = {
    "type": "object",
    "properties": {"queue": {"type": "string"}, "urgent": {"type": "boolean"}},
    "required": ["queue", "urgent"],
    "additionalProperties": False,
}

# F01-F06: what is said of the batch.


@case("F01")
def test_a_batch_that_was_deleted_is_held_until_a_person_gives_it_up(flow: Flow) -> None:
    flow.over()
    flow.send()
    flow.simulator.clock.advance(BATCH_SECONDS)
    flow.desk.client.sdk.messages.batches.delete(flow.batch_id)
    assert flow.end().missing == [flow.batch_id]
    assert flow.send().sent == []
    flow.told.append(give_up_batch(flow.desk, flow.batch_id))
    flow.says(flow.batch_id, r"the 10 records of chunk 2026-11-22\.1\|r1-0001 become dead letters")
    flow.rest()
    flow.delivered(0, dead={"results_gone": 10})


@case("F02")
def test_an_unheard_of_status_is_looked_at_again(flow: Flow) -> None:
    flow.over()
    flow.send()
    for endpoint in ("list", "retrieve"):
        flow.fault(kind="status_word", endpoint=endpoint, form="paused", count=1)
    assert flow.end().ended == []
    flow.rest()
    flow.delivered(10)


@case("F03")
def test_a_batch_that_passes_its_24_hours_is_told_of_and_not_sent_again(flow: Flow) -> None:
    flow.over()
    flow.fault(kind="take", seconds=30 * HOUR, count=1)
    flow.send()
    kinds: list[AlertKind] = []
    for _ in range(2):  # 19 and 25.1 hours old
        flow.end(seconds=18.5 * HOUR if not kinds else 6.6 * HOUR)
        noted = watch(flow.desk, [flow.workload], {}).noted
        kinds += [alert.kind for alert in noted]
        flow.told += [alert.sentence for alert in noted]
    assert kinds == [AlertKind.SLA_WARNED, AlertKind.SLA_EXPIRED]
    flow.says(flow.batch_id, "should have expired 1 h 6 min ago, and the API has not ended it yet")
    assert flow.send().sent == []
    flow.pass_time(5 * HOUR)
    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"200": 1}


@case("F04")
def test_only_what_expired_is_asked_again(flow: Flow) -> None:
    flow.over()
    flow.fault(kind="expire", share=0.3, count=1)
    flow.send()
    flow.end(DAY)
    flow.collect()
    flow.told += [alert.sentence for alert in watch(flow.desk, [flow.workload], {}).noted]
    flow.says("3 requests expired, unbilled; they are asked again")
    flow.rest()
    flow.delivered(10)
    assert [(chunk.requests, chunk.succeeded) for chunk in flow.chunks] == [(10, 7), (3, 3)]
    assert flow.billed() == 10


@case("F05")
def test_what_others_canceled_is_asked_again_and_what_was_answered_is_kept(flow: Flow) -> None:
    # Better than asking first: what was canceled is not billed, and `claude-pipeline cancel` is there to stop for good.
    flow.over()
    flow.send()
    flow.simulator.clock.advance(BATCH_SECONDS / 6)
    other = client_of(flow.simulator, KEY)
    other.cancel(flow.batch_id)
    other.close()
    flow.rest()
    flow.delivered(10)
    assert flow.billed() == 10


@case("F06")
def test_archived_results_are_dead_letters_that_only_their_name_asks_again(flow: Flow) -> None:
    flow.over()
    flow.send()
    flow.end(29 * DAY + HOUR)
    flow.collect()
    flow.says(f"the results of {flow.batch_id} were archived at the API", "what it answered was paid")
    flow.rest()
    flow.delivered(0, dead={"results_gone": 10})
    with pytest.raises(UsageError, match=r"these may have been paid: name the reason"):
        retry(flow.desk, flow.workload)
    assert len(flow.chunks) == 1


# F07-F09, F16: not all of it came.

BROKEN: list[Any] = [
    pytest.param({"kind": "cut_results"}, r"broke off \(RemoteProtocolError\)", id="F07-framed"),
    pytest.param({"kind": "cut_results", "form": "reset"}, r"broke off \(\w+Error\)|no answer from", id="F07-reset"),
    pytest.param({"kind": "cut_results", "form": "clean"}, "middle of a line|lines, the batch counts 10", id="F08"),
    pytest.param(
        {"kind": "missing_lines", "share": 0.3}, "lines, the batch counts 10, the chunk has 10", id="F08-lines"
    ),
    pytest.param({"kind": "cut_results", "share": 0.02, "form": "clean"}, "end in the middle of a line", id="F09"),
    pytest.param({"kind": "empty_results"}, "0 lines, the batch counts 10", id="F09-nothing"),
]


@pytest.mark.parametrize(("fault", "told"), BROKEN)
def test_results_that_are_not_whole_are_downloaded_again(flow: Flow, fault: dict[str, Any], told: str) -> None:
    flow.over()
    flow.fault(endpoint="results", count=1, **fault)
    assert flow.to_collected().done == []
    flow.says(flow.batch_id, told)
    assert flow.states == ["ended"]
    assert list(flow.desk.home.root.glob("downloads/notes/**/*.jsonl*")) == []
    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"200": 1}


HELD: list[Any] = [
    pytest.param([{"kind": "foreign_lines", "share": 0.2}], r"is of no request of chunk .*; nothing of it is used", id="F14"),
    pytest.param([{"kind": "duplicate_lines", "form": "other", "share": 0.2}], "two different answers to", id="F15-other"),
    pytest.param(
        [{"kind": "missing_lines", "share": 0.1, "seed": 4}, {"kind": "duplicate_lines", "share": 0.1, "seed": 2}],
        "lines, the batch counts 10", id="F16",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("faults", "told"), HELD)
def test_results_that_contradict_the_chunk_are_held_until_a_person_takes_them_as_they_are(
    flow: Flow, faults: list[dict[str, Any]], told: str
) -> None:
    flow.over()
    for fault in faults:
        flow.fault(endpoint="results", **fault)
    assert flow.to_collected().done == []
    assert flow.collect().done == []  # it is the same each time
    flow.says(flow.batch_id, told, rf"if it stays so: `claude-pipeline reconcile --as-is {flow.batch_id}`")
    assert (flow.send().sent, flow.states) == ([], ["ended"])

    flow.told.append(take_batch_as_is(flow.desk, flow.batch_id))
    flow.says("the next collection takes what can be read", r"become dead letters \(missing_result\)")
    flow.rest()

    lost = flow.chunks[0].errored or 0
    assert 0 < lost < 10
    flow.delivered(10 - lost, dead={"missing_result": lost})
    assert retry_by_name_only(flow, "missing_result") == lost
    assert flow.posts == {"200": 1}


def retry_by_name_only(flow: Flow, reason: str) -> int:
    """What may have been paid is asked again where its name is given; how many that would be."""
    with pytest.raises(UsageError, match="may have been paid: name the reason"):
        retry(flow.desk, flow.workload)
    return len(flow.ask(f"SELECT 1 FROM notes.dead_letters WHERE error_type = '{reason}'"))


@case("F14-all")
def test_results_without_one_line_of_the_chunk_are_not_taken_as_they_are(flow: Flow) -> None:
    flow.over()
    flow.fault(kind="foreign_lines", endpoint="results")
    flow.to_collected()
    take_batch_as_is(flow.desk, flow.batch_id)
    assert flow.collect().done == []
    flow.says(flow.batch_id, "hold no answer to any request of its chunk")
    assert flow.states == ["ended"]


@case("F14-unknown")
def test_a_batch_that_is_not_waited_for_cannot_be_taken_as_it_is(flow: Flow) -> None:
    flow.over()
    with pytest.raises(UsageError, match="is no batch of this ledger that waits to be collected"):
        take_batch_as_is(flow.desk, "msgbatch_of_nobody")
    flow.send()
    with pytest.raises(UsageError, match="has not ended; it is collected once it has"):
        take_batch_as_is(flow.desk, flow.batch_id)


@case("F14-command")
def test_the_command_line_takes_the_word(
    flow: Flow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow.over()
    flow.fault(kind="foreign_lines", endpoint="results", share=0.2)
    flow.to_collected()
    home = str(flow.desk.home.root)
    said = CommandLine(capsys, monkeypatch)("reconcile", "--as-is", flow.batch_id, "--home", home)
    assert said.code == 0
    flow.told.append(said.out.strip())
    flow.says(flow.batch_id, "the next collection takes what can be read")
    assert len(flow.collect().done) == 1


# F10, F15, F26: odd, and all there.

HARMLESS: list[Any] = [
    pytest.param({"kind": "blank_lines"}, id="F10"),
    pytest.param({"kind": "duplicate_lines", "share": 0.5}, id="F15"),
    pytest.param({"kind": "line_separator"}, id="F26"),
    pytest.param({"kind": "foreign_url", "endpoint": "retrieve"}, id="F25"),
]


@pytest.mark.parametrize("fault", HARMLESS)
def test_harmless_oddities_of_results_cost_nothing(flow: Flow, fault: dict[str, Any]) -> None:
    flow.over()
    flow.fault(**({"endpoint": "results"} | fault))
    flow.rest()
    flow.delivered(10)


@case("F25-redirect")
def test_a_redirect_of_the_results_is_not_followed(flow: Flow) -> None:
    flow.over()
    flow.fault(kind="redirect", endpoint="results", location="http://evil.example/results", count=1)
    assert flow.to_collected().done == []
    flow.says("a redirect to evil.example, which is not followed")
    flow.rest()
    flow.delivered(10)


# F11-F13, F17: one line cannot be read.

SPOILED: list[Any] = [
    pytest.param({"kind": "malformed_lines"}, "unreadable_result", id="F11"),
    pytest.param({"kind": "malformed_lines", "form": "scalar"}, "unreadable_result", id="F12-scalar"),
    pytest.param({"kind": "malformed_lines", "form": "list"}, "unreadable_result", id="F12-list"),
    pytest.param({"kind": "malformed_lines", "form": "no_id"}, "unreadable_result", id="F13"),
    pytest.param({"kind": "unknown_result"}, "unknown_result_type", id="F17"),
]


@pytest.mark.parametrize(("fault", "reason"), SPOILED)
def test_a_line_that_cannot_be_read_costs_its_own_record_and_its_raw_text_is_kept(
    flow: Flow, fault: dict[str, Any], reason: str
) -> None:
    flow.over()
    flow.fault(endpoint="results", share=0.2, **fault)
    flow.rest()
    lost = flow.chunks[0].errored or 0
    assert 0 < lost < 10
    flow.delivered(10 - lost, dead={reason: lost})
    assert retry_by_name_only(flow, reason) == lost
    kept = next(iter(flow.desk.home.root.glob("downloads/notes/**/*.zst")))
    raw = kept.with_suffix("")
    unpack(raw)
    assert len(raw.read_bytes().splitlines()) == 10
    assert flow.posts == {"200": 1}


# F18-F21, F28: answers that succeed oddly.

ANSWERS: list[Any] = [
    pytest.param("empty", "answer IS NULL", id="F18-empty"),
    pytest.param("thinking", "answer IS NULL", id="F18-thinking"),
    pytest.param("tool_use", "answer IS NULL AND stop_reason = 'tool_use'", id="F18-tool_use"),
    pytest.param("max_tokens", "stop_reason = 'max_tokens'", id="F19-max_tokens"),
    pytest.param("refusal", "answer IS NULL AND stop_reason = 'refusal'", id="F19-refusal"),
    pytest.param("pause_turn", "stop_reason = 'pause_turn'", id="F19-pause_turn"),
    pytest.param("context_window", "stop_reason = 'model_context_window_exceeded'", id="F19-context_window"),
    pytest.param("other_model", "model = 'claude-unheard-of-1' AND cost_usd > 0", id="F21"),
]


@pytest.mark.parametrize(("form", "so"), ANSWERS)
def test_an_answer_that_succeeds_oddly_is_kept_with_its_reason_and_not_asked_again(
    flow: Flow, form: str, so: str
) -> None:
    flow.over()
    flow.fault(kind="line_answer", form=form)
    flow.rest()
    flow.delivered(10)
    assert flow.ask(f"SELECT count(*) FROM notes.results WHERE outcome = 'succeeded' AND {so}") == [(10,)]
    assert flow.posts == {"200": 1}


@pytest.mark.parametrize("form", [pytest.param("no_usage", id="F20-missing"), pytest.param("odd_usage", id="F20-odd")])
def test_a_usage_that_cannot_be_makes_the_cost_unknown_and_never_nothing(flow: Flow, form: str) -> None:
    flow.over(budget_usd=5)
    flow.fault(kind="line_answer", form=form)
    flow.rest()
    flow.delivered(10, unknown_cost=10)
    reserve = flow.chunks[0].reserve_units
    assert (flow.chunks[0].cost_units, flow.chunks[0].kept_units) == (0, reserve)  # it stays committed
    tokens = "coalesce(min(input_tokens), 0) >= 0 AND coalesce(max(output_tokens), 0) < 1e9"
    assert flow.ask(f"SELECT {tokens} FROM notes.results") == [(True,)]


SCHEMA_BROKEN: list[Any] = [
    pytest.param("prose", "the answer is not JSON", id="F28-prose"),
    pytest.param("cut_json", "the answer is not JSON", id="F28-cut"),
    pytest.param("extra_key", "the answer does not fit the output schema", id="F28-extra"),
    pytest.param("nan", "the answer is not JSON", id="F28-nan"),
    pytest.param("empty", "no text in the answer", id="F28-empty"),
]


@pytest.mark.parametrize(("form", "why"), SCHEMA_BROKEN)
def test_an_answer_outside_the_output_schema_is_marked_and_its_text_is_kept(flow: Flow, form: str, why: str) -> None:
    flow.over(output=OUTPUT)
    flow.fault(kind="line_answer", form=form)
    flow.rest()
    flow.delivered(10)
    found = flow.ask("SELECT DISTINCT error_type, error_message, answer IS NULL FROM notes.results")
    assert found == [("invalid_output", why, form == "empty")]
    assert flow.posts == {"200": 1}


# F22-F24: errored lines.


@case("F22")
def test_a_request_that_is_invalid_is_not_asked_again(flow: Flow) -> None:
    flow.over()
    flow.fault(kind="line_error", share=0.3, error_type="invalid_request_error", message="max_tokens: too many")
    flow.rest()
    dead = flow.chunks[0].errored or 0
    flow.delivered(10 - dead, dead={"invalid_request_error": dead})
    assert flow.ask("SELECT DISTINCT error_message FROM notes.dead_letters") == [("max_tokens: too many",)]
    assert flow.posts == {"200": 1}


@pytest.mark.parametrize(
    "kind", [pytest.param("api_error", id="F23-api_error"), pytest.param("overloaded_error", id="F23-overloaded")]
)
def test_the_apis_own_faults_are_asked_again_as_often_as_rounds_allow(flow: Flow, kind: str) -> None:
    flow.over()
    flow.fault(kind="line_error", error_type=kind)
    flow.rest()
    flow.delivered(0, dead={kind: 10})
    assert (len(flow.chunks), flow.posts) == (flow.workload.max_rounds, {"200": flow.workload.max_rounds})


@case("F24")
def test_low_credit_in_lines_stops_what_follows_and_costs_no_round(flow: Flow) -> None:
    flow.over(20)
    flow.fault(kind="low_credit", attempts=1)
    flow.send()
    flow.end()
    flow.told.append(flow.collect().stop or "")
    flow.says("credit balance is too low")
    assert flow.send().sent == []
    flow.told.append(flow.situation.stopped or "")
    flow.says("credit balance is too low", "claude-pipeline resume")
    flow.pass_time(HOUR)
    flow.rest()
    flow.delivered(20)


# F27: much of it.


class Torrent(httpx2.BaseTransport):
    """Results of 64 MB, in one line."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        def pieces() -> Iterator[bytes]:
            for _ in range(64):
                yield b"x" * (1 << 20)

        return httpx2.Response(200, content=pieces(), request=request)


@case("F27")
def test_a_download_of_any_size_takes_no_more_memory_than_a_piece_of_it(flow: Flow, tmp_path: Path) -> None:
    # 1 GB and 100,000 lines would take half a minute here; the memory of one download is the same whatever its size.
    flow.over()
    with client_over(flow, Torrent()) as client:
        tracemalloc.start()
        client.download(BatchId("msgbatch_1"), tmp_path / "results.jsonl")
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (tmp_path / "results.jsonl").stat().st_size == 64 << 20
    assert peak_bytes < 16 << 20


def test_every_case_of_the_catalogue_is_here() -> None:
    assert cases_of(sys.modules[__name__]) >= {f"F{number:02}" for number in range(1, 29)}
