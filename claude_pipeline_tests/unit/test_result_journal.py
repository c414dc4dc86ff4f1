"""A journal becomes the same rows as a download."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from claude_pipeline.catalog import Rates, TokenRates
from claude_pipeline.catalog.price import NO_BAND
from claude_pipeline.errors import ResultsIncomplete
from claude_pipeline.lane.api_error import verdict_of
from claude_pipeline.lane.journal import Journal, results
from claude_pipeline.lane.reply import Fate, Reply
from claude_pipeline.result import AskedFacts, OutputReader, Parsed, parse_results
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.unit.test_result_parse import index_of, message

KEY = "r1-0001"
FACTS = AskedFacts(
    snapshot="2026-11-22.1", chunk=KEY, attempt=1, tag=KEY, batch_id=None, model="claude-asked", max_tokens=64,
    lane="realtime",
)  # fmt: skip


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def answer(text: str, at: datetime = NOW) -> Reply:
    return Reply(Fate.ANSWERED, at, 200, orjson.dumps(message(text)), request_id="req_1")


def refusal(kind: str, text: str = "no", fate: Fate = Fate.REFUSED) -> Reply:
    return Reply(fate, later(9), 400, error_type=kind, error_message=text)


def journal_of(path: Path, *ends: tuple[int, Reply], requests: int, closed: bool = False) -> Path:
    journal = Journal.open(path / "journal", KEY, requests)

    async def settle() -> None:
        for position, reply in ends:
            journal.sending(position)
            await journal.settled(position, reply)

    asyncio.run(settle())
    if closed:
        journal.canceled(later(60))
    journal.close()
    return journal.path


def parse(path: Path, requests: int) -> Parsed:
    def rates_of(model: str, geo: str | None, day: date) -> Rates:
        of_output = TokenRates(0, 100 * (1 + (day - NOW.date()).days), 0, 0, 0)  # dearer by the day
        return Rates(of_output, of_output, NO_BAND, 1)

    return parse_results(
        results(path), index_of(requests), FACTS, OutputReader(None, []), rates_of=rates_of,
        verdict_of=lambda kind, text: verdict_of(kind, text).value,
    )  # fmt: skip


def test_each_row_tells_its_own_moment_and_is_priced_by_it(tmp_path: Path) -> None:
    tomorrow = later(24 * 3600)
    path = journal_of(tmp_path, (1, answer("b", tomorrow)), (0, answer("a", later(3))), requests=2)
    rows = parse(path, 2).table.to_pylist()
    assert [(r["position"], r["answer"], r["answered_at"], r["cost_usd"]) for r in rows] == [
        (0, "a", later(3), 500 / 1e10),
        (1, "b", tomorrow, 1_000 / 1e10),
    ]
    assert {(r["lane"], r["answer_source"], r["batch_id"], r["custom_id"]) for r in rows} == {
        ("realtime", "realtime", None, None)
    }
    assert rows[0]["message_id"] == "msg_1"


def test_errors_have_the_verdicts_of_batches(tmp_path: Path) -> None:
    ends = (
        (0, refusal("overloaded_error")), (1, refusal("invalid_request_error")),
        (2, refusal("rate_limit_error", "You have reached your specified API usage limits")),
        (3, refusal("unreadable_result", fate=Fate.LOST)),
    )  # fmt: skip
    parsed = parse(journal_of(tmp_path, *ends, requests=5, closed=True), 5)
    rows = parsed.table.to_pylist()
    assert [(r["outcome"], r["verdict"], r["error_type"], r["answer_source"]) for r in rows] == [
        ("errored", "retry", "overloaded_error", None),
        ("errored", "permanent", "invalid_request_error", None),
        ("errored", "stop", "rate_limit_error", None),
        ("errored", "permanent", "unreadable_result", None),
        ("canceled", "retry", "canceled", None),
    ]
    assert rows[4]["error_message"] == "the chunk was closed before it was asked"
    assert [r["answered_at"] for r in rows] == [later(9)] * 4 + [later(60)]
    assert (parsed.retryable, len(parsed.stops)) == (3, 1)


def test_only_the_first_end_of_a_request_counts(tmp_path: Path) -> None:
    ends = ((0, answer("first")), (0, answer("second")), (0, refusal("api_error")))
    parsed = parse(journal_of(tmp_path, *ends, requests=1), 1)
    assert parsed.table.column("answer").to_pylist() == ["first"]
    assert parsed.outcomes == Counter(succeeded=1)


def test_a_journal_without_every_end_is_no_result(tmp_path: Path) -> None:
    path = journal_of(tmp_path, (0, answer("a")), requests=3)
    with pytest.raises(ResultsIncomplete, match=r"the journal of chunk .* has no end of 2 of 3 requests"):
        parse(path, 3)


def test_a_spoiled_line_is_missing_and_not_guessed(tmp_path: Path) -> None:
    path = journal_of(tmp_path, (0, answer("a")), (1, answer("b")), requests=2)
    path.write_bytes(path.read_bytes().replace(b'"text":"b"', b'"text":"c"'))
    with pytest.raises(ResultsIncomplete, match="no end of 1 of 2"):
        parse(path, 2)


def test_a_lone_surrogate_costs_nothing_but_itself(tmp_path: Path) -> None:
    body = orjson.dumps(message("X")).replace(b'"X"', b'"a\\ud800b"')
    path = journal_of(tmp_path, (0, Reply(Fate.ANSWERED, NOW, 200, body)), requests=1)
    assert parse(path, 1).table.column("answer").to_pylist() == ["a?b"]
