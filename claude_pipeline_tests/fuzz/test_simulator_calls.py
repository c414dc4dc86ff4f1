"""Whatever is sent to the simulator: never a 500 that it was not told to give, always the API's shapes, a true invoice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
from anthropic.types import Message
from anthropic.types.messages import MessageBatch
from hypothesis import note
from hypothesis import strategies as st
from starlette.applications import Starlette

from claude_pipeline.simulator import Options
from claude_pipeline.simulator.api import Api
from claude_pipeline.simulator.app import create_app
from claude_pipeline.simulator.error import STATUS_OF_TYPE
from claude_pipeline_tests.fuzz.call import BATCHES, Answer, Call, answered, calls
from claude_pipeline_tests.fuzz.claim import claim

OPTIONS = Options(batch_seconds=(60, 60), paused=True, seed=7, start=datetime(2026, 11, 22, tzinfo=UTC), tier="custom")
ADMIN = "/_simulator/"
STATUSES = frozenset(STATUS_OF_TYPE.values()) - {500, 504, 529} | {405}


@cache
def simulated() -> Starlette:
    """One application for all examples; each begins with an empty one whose clock goes on."""
    return create_app(OPTIONS)


def play(steps: Sequence[Call]) -> list[Answer]:
    app = simulated()
    api: Api = app.state.api
    api.reset()
    api.clock.speed = OPTIONS.speed
    api.clock.pause()

    async def all_of_them() -> list[Answer]:
        found: list[Answer] = []
        batch_id = "msgbatch_none"
        for step in steps:
            found.append(await answered(app, step, batch_id))
            if step.path == BATCHES and step.method == "POST" and found[-1].status == 200:
                batch_id = found[-1].json["id"]
            api.faults.clear()  # what it is told to do wrong has a claim of its own
            api.clock.pause()
        return found

    return asyncio.run(all_of_them())


def check_answer(call: Call, answer: Answer) -> None:
    said = (call.method, call.path, answer.status, answer.body[:300])
    assert answer.status == 200 or answer.status in STATUSES, said
    if call.path.startswith(ADMIN) and answer.status in (200, 400):
        content = (
            [orjson.loads(line) for line in answer.body.splitlines()] if call.path.endswith("lines") else answer.json
        )
        assert answer.status == 200 or isinstance(content["error"], str), said
        return
    assert answer.headers["request-id"].startswith("req_"), said
    if answer.status != 200:
        error = answer.json
        assert error["type"] == "error", said
        assert error["request_id"] == answer.headers["request-id"], said
        assert isinstance(error["error"]["message"], str), said
        assert answer.status == 405 or STATUS_OF_TYPE[error["error"]["type"]] == answer.status, said
        return
    if call.path == "/v1/messages" and answer.headers["content-type"] == "application/json":
        Message.model_validate(answer.json)
        assert answer.json["usage"]["output_tokens"] >= 0
    elif call.path == BATCHES and call.method == "POST":
        MessageBatch.model_validate(answer.json)
    elif call.path.endswith("/results"):
        for line in answer.body.splitlines():
            assert orjson.loads(line)["result"]["type"] in ("succeeded", "errored", "canceled", "expired"), said


@claim(150, steps=st.lists(calls(), min_size=1, max_size=4))
def test_any_calls_get_the_documented_answers_and_are_billed_once(steps: list[Call]) -> None:
    note(repr(steps))
    answers = play(steps)
    for call, answer in zip(steps, answers, strict=True):
        check_answer(call, answer)
    check_invoice(steps, answers)


def check_invoice(steps: Sequence[Call], answers: Sequence[Answer]) -> None:
    """What was accepted is on it, and nothing else."""
    from claude_pipeline.simulator.admin import invoice_of

    found = invoice_of(simulated().state.api)
    good = [(call, answer) for call, answer in zip(steps, answers, strict=True) if answer.status == 200]
    made = [answer.json for call, answer in good if call.path == BATCHES and call.method == "POST"]
    messages = [answer for call, answer in good if call.path == "/v1/messages" and call.method == "POST"]
    assert found["batches"] == len(made)
    assert found["messages"]["succeeded"] == len(messages)
    assert found["accepted_requests"] == len(messages) + sum(sum(batch["request_counts"].values()) for batch in made)


_RULE_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "status": st.sampled_from([400, 429, 500, 529, 599]),
    "count": st.integers(0, 3),
    "after": st.integers(0, 2),
    "share": st.floats(0, 1),
    "seed": st.integers(),
    "attempts": st.integers(0, 2),
    "accepted": st.booleans(),
    "should_retry": st.booleans(),
    "retry_after": st.integers(0, 10**9) | st.floats(0, 1e300),
    "message": st.text(max_size=5),
    "error_type": st.text(max_size=5),
    "error_code": st.text(max_size=5),
    "seconds": st.integers(0, 10**40) | st.floats(0, 1e300),
    "location": st.text(max_size=5),
    "model": st.text(max_size=5),
}
_KINDS = ("status", "take", "expire", "list_lag", "line_error", "line_answer", "odd_characters", "status_word", "foreign_url", "redirect", "html_413", "bad_body", "short_list", "other_workspace", "low_credit", "early_404")  # fmt: skip
_RULES = st.builds(
    lambda kind, values, endpoint: {"kind": kind, **values, **endpoint},
    st.sampled_from(_KINDS),
    st.lists(st.sampled_from(sorted(_RULE_VALUES)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: _RULE_VALUES[name] for name in names})
    ),
    st.sampled_from([{}, {"endpoint": "create"}, {"endpoint": "*"}, {"endpoint": "messages"}]),
)


@claim(80, rule=_RULES)
def test_a_fault_that_is_accepted_does_what_it_says(rule: dict[str, Any]) -> None:
    """A life of one batch and one message under any rule: no answer is an accident of the simulator's own."""
    headers = ((b"x-api-key", b"simulator"), (b"anthropic-version", b"2026-10-21"), (b"host", b"127.0.0.1"))
    params = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    batch = {"requests": [{"custom_id": name, "params": params} for name in "ab"]}
    app = simulated()
    api: Api = app.state.api
    api.reset()

    async def life() -> list[Answer]:
        async def call(method: str, path: str, body: Any = None) -> Answer:
            data = b"" if body is None else orjson.dumps(body)
            return await answered(app, Call(method, path, b"", headers, data), batch_id)

        batch_id = "msgbatch_none"
        told = await call("POST", "/_simulator/faults", rule)
        if told.status == 400:
            return []
        made = await call("POST", BATCHES, batch)
        if made.status == 200 and made.body.startswith(b"{") and b'"id"' in made.body and made.body.endswith(b"}"):
            batch_id = str(made.json.get("id"))
        api.clock.advance(90_000)
        rest = [("GET", BATCHES, None), ("GET", f"{BATCHES}/<id>", None), ("GET", f"{BATCHES}/<id>/results", None),
                ("POST", "/v1/messages", params), ("GET", "/_simulator/invoice", None), ("GET", "/_simulator/state", None)]  # fmt: skip
        return [made, *[await call(*step) for step in rest]]

    for answer in asyncio.run(life()):
        assert answer.status != 500 or rule.get("status") == 500 or rule["kind"] in ("line_error", "status"), (
            answer.body
        )
        assert answer.status != 500 or b"Internal server error" not in answer.body
