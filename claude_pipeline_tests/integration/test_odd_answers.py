"""Answers of other shapes than the API documents: each decides nothing, none becomes a stack trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from claude_pipeline.chunk import Body
from claude_pipeline.errors import ApiUnclear
from claude_pipeline.lane.client import BatchClient, Doubtful, Refused
from claude_pipeline.ledger import BatchId
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests.factory import note, prepared_snapshot, workload_over


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Thirty records in three chunks."""
    return workload_over(tmp_path, [note(n) for n in range(30)])


def canned(status: int, body: Any, **headers: str) -> BatchClient:
    """A client whose every call gets this answer."""
    content = body if isinstance(body, bytes) else None
    document = None if isinstance(body, bytes) else body

    def answer(request: httpx2.Request) -> httpx2.Response:
        if content is not None:
            return httpx2.Response(status, content=content, headers=headers)
        return httpx2.Response(status, json=document, headers=headers)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return BatchClient(connect=lambda: anthropic.Anthropic(api_key="k", max_retries=0, http_client=http))


BATCH: dict[str, Any] = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "ended",
    "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0},
    "created_at": "2026-11-22T14:30:00Z",
    "expires_at": "2026-11-23T14:30:00Z",
    "ended_at": None,
    "archived_at": None,
    "results_url": None,
}
ODD_BATCHES: list[Any] = [
    pytest.param(BATCH | {"request_counts": None}, id="counts-null"),
    pytest.param(BATCH | {"request_counts": [1, 2]}, id="counts-a-list"),
    pytest.param(BATCH | {"request_counts": {"succeeded": "many"}}, id="counts-a-word"),
    pytest.param(BATCH | {"request_counts": {"succeeded": None}}, id="count-null"),
    pytest.param(
        b'{"id": "m", "created_at": "2026-11-22T14:30:00Z", "request_counts": {"succeeded": 1e400}}',
        id="count-infinite",
    ),
    pytest.param(BATCH | {"id": 17}, id="id-a-number"),
    pytest.param(BATCH | {"id": ""}, id="id-empty"),
    pytest.param(BATCH | {"created_at": "yesterday"}, id="created-at-a-word"),
    pytest.param(BATCH | {"created_at": None}, id="created-at-null"),
    pytest.param(BATCH | {"ended_at": 5}, id="ended-at-a-number"),
    pytest.param({}, id="empty"),
    pytest.param([], id="a-list"),
    pytest.param("batch", id="a-word"),
    pytest.param(b"<html>nginx</html>", id="html"),
    pytest.param(b"", id="nothing"),
    pytest.param(b'{"id": "msgb', id="cut"),
]


@pytest.mark.parametrize("body", ODD_BATCHES)
def test_an_odd_batch_decides_nothing(body: Any) -> None:
    with pytest.raises(ApiUnclear, match="decided nothing"):
        canned(200, body).retrieve(BatchId("msgbatch_1"))
    page = body if isinstance(body, bytes) else {"data": [body], "has_more": False}
    with pytest.raises(ApiUnclear, match="decided nothing"):
        canned(200, page).page()


ODD_PAGES: list[Any] = [{"data": None}, {"data": {"a": 1}}, {"data": "abc"}, {"has_more": True}, {"data": [None]}, []]


@pytest.mark.parametrize("body", ODD_PAGES, ids=str)
def test_an_odd_list_decides_nothing(body: Any) -> None:
    with pytest.raises(ApiUnclear, match="decided nothing"):
        canned(200, body).page()


@pytest.mark.parametrize(
    ("said", "waits"), [("nan", None), ("inf", None), ("soon", None), ("1e12", 86_400), ("-5", 0), ("7.5", 7.5)]
)
def test_an_odd_retry_after_waits_no_longer_than_a_day(workload: Workload, desk: Desk, said: str, waits: Any) -> None:
    chunk = prepared_snapshot(desk, workload).chunks[0]
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    answer = canned(429, error, **{"retry-after": said}).create(Body(desk.path(chunk.params_path), "t"))
    assert isinstance(answer, Refused)
    assert answer.retry_after_seconds == waits


@pytest.mark.parametrize("body", ODD_BATCHES)
def test_an_odd_answer_to_create_is_a_doubt(workload: Workload, desk: Desk, body: Any) -> None:
    chunk = prepared_snapshot(desk, workload).chunks[0]
    assert isinstance(canned(200, body).create(Body(desk.path(chunk.params_path), "t")), Doubtful)
