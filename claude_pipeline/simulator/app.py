"""The simulated API as a Starlette application: which path leads to which operation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson
from anyio import to_thread
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from claude_pipeline.simulator.admin import admin_routes
from claude_pipeline.simulator.api import DEFAULT_PAGE, MOST_PER_PAGE, Api
from claude_pipeline.simulator.batch import Batch, batch_json
from claude_pipeline.simulator.character import with_surrogates
from claude_pipeline.simulator.encoding import too_large
from claude_pipeline.simulator.endpoint import Call, Endpoint, Unrouted, json_response
from claude_pipeline.simulator.error import ApiError, Dropped
from claude_pipeline.simulator.event import events
from claude_pipeline.simulator.intake import MOST_BATCH_BYTES, MOST_MESSAGE_BYTES
from claude_pipeline.simulator.options import Options
from claude_pipeline.simulator.pace import message_seconds
from claude_pipeline.simulator.result import stream

_late: set[asyncio.Task[None]] = set()  # keeps late acceptances from being collected as garbage


def create_app(options: Options | None = None, api: Api | None = None) -> Starlette:
    """The ASGI application. Whoever serves it closes it: `app.state.api.close()`."""
    api = api or Api(options or Options())
    batches = "/v1/messages/batches"
    routes = [
        Route("/v1/messages", Endpoint(api, "messages", _message), methods=["POST"]),
        Route("/v1/messages/count_tokens", Endpoint(api, "count_tokens", _count_tokens), methods=["POST"]),
        Route(batches, Endpoint(api, "create", _create), methods=["POST"]),
        Route(batches, Endpoint(api, "list", _list), methods=["GET"]),
        Route(f"{batches}/{{id}}", Endpoint(api, "retrieve", _retrieve), methods=["GET"]),
        Route(f"{batches}/{{id}}", Endpoint(api, "delete", _delete), methods=["DELETE"]),
        Route(f"{batches}/{{id}}/cancel", Endpoint(api, "cancel", _cancel), methods=["POST"]),
        Route(f"{batches}/{{id}}/results", Endpoint(api, "results", _results), methods=["GET"]),
        Route("/v1/models", Endpoint(api, "models", _models), methods=["GET"]),
        Route("/v1/models/{id}", Endpoint(api, "models", _model), methods=["GET"]),
        *admin_routes(api),
    ]
    app = Starlette(routes=[*routes, Route("/{path:path}", Unrouted(api, routes))])
    app.state.api = api
    return app


async def _create(call: Call) -> Response:
    declared = call.request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and _over(declared, MOST_BATCH_BYTES):
        raise too_large(MOST_BATCH_BYTES)
    path = call.api.store.upload_path(call.request_id)
    late = call.rule("accept_late")
    try:
        with path.open("wb") as file:
            async for part in call.body(MOST_BATCH_BYTES):
                file.write(part)
        if late is None:
            batch = await to_thread.run_sync(_take_in, call, abandon_on_cancel=True)  # when the server stops
            return json_response(_batch(call, batch))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    task = asyncio.create_task(_accept_late(call, late.seconds))
    _late.add(task)
    task.add_done_callback(_late.discard)
    raise Dropped


def _take_in(call: Call) -> Batch:
    path = call.api.store.upload_path(call.request_id)
    try:
        return call.api.create_batch(
            path, workspace=call.workspace, version=call.version, betas=call.betas, rules=call.rules
        )
    finally:
        path.unlink(missing_ok=True)


async def _accept_late(call: Call, seconds: float) -> None:
    await asyncio.sleep(seconds)
    with contextlib.suppress(ApiError):  # nobody is there to hear it
        await to_thread.run_sync(_take_in, call)


async def _list(call: Call) -> Response:
    limit, after_id, before_id = _page(call)
    workspace = call.workspace
    page, more = await to_thread.run_sync(lambda: call.api.batches(workspace, limit, after_id, before_id))
    if call.rule("empty_list"):
        page, more = [], False
    elif call.rule("short_list"):
        page, more = page[: len(page) // 2], False
    return json_response(_listing([_batch(call, batch) for batch in page], more))


async def _retrieve(call: Call) -> Response:
    batch = await to_thread.run_sync(call.api.batch, call.request.path_params["id"], call.workspace)
    return json_response(_batch(call, batch))


async def _cancel(call: Call) -> Response:
    batch = await to_thread.run_sync(call.api.cancel_batch, call.request.path_params["id"], call.workspace)
    return json_response(_batch(call, batch))


async def _delete(call: Call) -> Response:
    batch_id = call.request.path_params["id"]
    await to_thread.run_sync(call.api.delete_batch, batch_id, call.workspace)
    return json_response({"id": batch_id, "type": "message_batch_deleted"})


async def _results(call: Call) -> Response:
    path = await to_thread.run_sync(call.api.results, call.request.path_params["id"], call.workspace)
    return StreamingResponse(stream(path, call.rules), media_type="application/x-jsonl")


async def _message(call: Call) -> Response:
    params = await call.json_body(MOST_MESSAGE_BYTES)
    options = call.api.options
    if options.message_seconds:
        await asyncio.sleep(message_seconds(params, options.seed, options.message_seconds))
    reply, headers = await to_thread.run_sync(
        lambda: call.api.message(
            params,
            workspace=call.workspace,
            version=call.version,
            betas=call.betas,
            request_id=call.request_id,
            rules=call.rules,
        )
    )
    written = with_surrogates if call.rule("odd_characters") else bytes
    if params.get("stream"):
        return StreamingResponse(
            _each(map(written, events(reply.message))), headers=headers, media_type="text/event-stream"
        )
    return Response(written(orjson.dumps(reply.message)), headers=headers, media_type="application/json")


async def _each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The pieces as they are: a plain iterable would cost a change of thread for each of them."""
    for piece in pieces:
        yield piece


async def _count_tokens(call: Call) -> Response:
    params = await call.json_body(MOST_MESSAGE_BYTES)
    return json_response({"input_tokens": call.api.count_tokens(params, version=call.version, betas=call.betas)})


async def _model(call: Call) -> Response:
    return json_response(call.api.model(call.request.path_params["id"]))


async def _models(call: Call) -> Response:
    query = call.request.query_params
    lifecycles = {*query.getlist("lifecycle[]"), *query.getlist("lifecycle")}
    if lifecycles - {"active", "deprecated", "retired"}:
        raise ApiError(400, "lifecycle: Input should be 'active', 'deprecated' or 'retired'")
    models = call.api.models(lifecycles)
    limit, after_id, before_id = _page(call)
    ids = [model["id"] for model in models]
    for cursor in (after_id, before_id):
        if cursor is not None and cursor not in ids:
            raise ApiError(404, f"model: {cursor}")
    if before_id is not None:
        models = models[: ids.index(before_id)]
        return json_response(_listing(models[-limit:], len(models) > limit))
    models = models[ids.index(after_id) + 1 :] if after_id is not None else models
    return json_response(_listing(models[:limit], len(models) > limit))


def _over(digits: str, most: int) -> bool:
    """Whether a number is over `most`; there may be more digits than Python turns into one."""
    return len(digits.lstrip("0")) > len(str(most)) or int(digits[-len(str(most)) :]) > most


def _page(call: Call) -> tuple[int, str | None, str | None]:
    """limit, after_id and before_id of a listing."""
    query = call.request.query_params
    text = query.get("limit", str(DEFAULT_PAGE))
    if not (text.isascii() and text.isdigit()):
        raise ApiError(400, "limit: Input should be a valid integer")
    if _over(text, MOST_PER_PAGE) or int(text) < 1:
        raise ApiError(400, f"limit: Input should be from 1 to {MOST_PER_PAGE}")
    after_id, before_id = query.get("after_id") or None, query.get("before_id") or None
    if after_id is not None and before_id is not None:
        raise ApiError(400, "after_id, before_id: only one of the two may be given")
    return int(text), after_id, before_id


def _listing(data: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    return {
        "data": data,
        "has_more": more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def _batch(call: Call, batch: Batch) -> dict[str, Any]:
    content = batch_json(batch, call.api.clock.now_us(), call.base_url)
    foreign = call.rule("foreign_url")
    if foreign is not None and content["results_url"]:
        content["results_url"] = f"{foreign.location or 'http://127.0.0.1:9'}/v1/messages/batches/{batch.id}/results"
    word = call.rule("status_word")
    if word is not None:
        content["processing_status"] = word.form or "paused"
    return content
