"""Whatever comes as results: each request keeps its one row, its own answer, and a cost that is right or unknown."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import note
from hypothesis import strategies as st

from claude_pipeline.catalog import load
from claude_pipeline.errors import CatalogMissing, ResultsIncomplete
from claude_pipeline.lane.api_error import verdict_of
from claude_pipeline.result import AskedFacts, OutputReader, Parsed, output_fields, parse_results
from claude_pipeline.stage.answers import Pricing
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import make_workload
from claude_pipeline_tests.fuzz.claim import claim
from claude_pipeline_tests.fuzz.result_line import (
    MODELS,
    OUTPUT,
    TAG,
    Download,
    downloads,
    read_again,
    right_units,
    text_of,
)
from claude_pipeline_tests.fuzz.value import CANARY
from claude_pipeline_tests.unit.test_result_parse import index_of

MESSAGE_CHARACTERS_MAX = 600
WORKLOAD = make_workload(output=OUTPUT)
FIELDS = output_fields(WORKLOAD)


def read(data: bytes, requests: int, counts: dict[str, int]) -> Parsed | ResultsIncomplete | CatalogMissing:
    """The rows, or why nothing of it is used. Any other error is the parser's fault."""
    facts = AskedFacts(
        snapshot="2026-11-22.1", chunk="r1-0001", attempt=1, tag=TAG, batch_id="msgbatch_1", model=MODELS[0],
        max_tokens=64, answered_at=NOW, counts=counts, billed_at=NOW,
    )  # fmt: skip
    pricing = Pricing(load(), facts.model, facts.lane)
    reader = OutputReader(WORKLOAD.output, FIELDS)
    try:
        return parse_results(
            io.BytesIO(data), index_of(requests), facts, reader, rates_of=pricing.rates_of,
            verdict_of=lambda kind, text: verdict_of(kind, text).value,
        )  # fmt: skip
    except (ResultsIncomplete, CatalogMissing) as refused:
        return refused


def check_rows(parsed: Parsed, data: bytes, requests: int) -> None:
    rows: list[dict[str, Any]] = parsed.table.to_pylist()
    assert [(r["position"], r["record_id"], r["custom_id"]) for r in rows] == [
        (n, f"n{n}", f"{TAG}-{n}") for n in range(requests)
    ]
    assert parsed.outcomes.total() == requests
    assert parsed.table.validate(full=True) is None
    documents, whole = read_again(data, requests)
    for row in rows:
        if found := documents.get(row["position"]):
            check_row(row, found[0]["result"])
        elif whole:
            assert (row["outcome"], row["error_type"], row["cost_usd"]) == ("errored", "unreadable_result", None)


def check_row(row: dict[str, Any], result: dict[str, Any]) -> None:
    message = result.get("message")
    if result.get("type") == "succeeded" and isinstance(message, dict):
        assert row["outcome"] == "succeeded"
        units = right_units(message, batch=True)
        if message.get("model") in MODELS:
            assert row["cost_usd"] == (None if units is None else units / 1e10)
        text = text_of(message)
        assert text is None or row["answer"] == text
        assert row["verdict"] == "answered"
    elif result.get("type") in ("errored", "expired", "canceled"):
        assert (row["outcome"], row["cost_usd"], row["answer"]) == (result["type"], 0.0, None)
    else:
        assert (row["outcome"], row["error_type"], row["cost_usd"]) == ("errored", "unknown_result_type", None)


def check_download(data: bytes, requests: int, counts: dict[str, int], *, sound: bool = False) -> None:
    found = read(data, requests, counts)
    if isinstance(found, Parsed):
        check_rows(found, data, requests)
        return
    assert not sound, found
    assert CANARY not in str(found)
    assert len(str(found)) <= MESSAGE_CHARACTERS_MAX


@claim(120, download=downloads())
def test_each_request_keeps_its_row_and_no_cost_is_wrong(download: Download) -> None:
    note(repr(download.data))
    check_download(download.data, download.requests, download.counts, sound=download.sound)


@claim(100, data=st.binary(max_size=200), requests=st.integers(1, 3))
def test_bytes_that_are_no_results_are_refused_or_cost_their_own_record(data: bytes, requests: int) -> None:
    check_download(data, requests, {"succeeded": requests})
