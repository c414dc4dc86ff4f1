"""What every endpoint shares: request id, key, workspace, faults, errors as the API writes them."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from claude_pipeline.simulator.api import Api
from claude_pipeline.simulator.encoding import decoded
from claude_pipeline.simulator.error import ApiError, Dropped, error_body
from claude_pipeline.simulator.fault import Rule
from claude_pipeline.simulator.params import VERSIONS

ORGANIZATION_ID = "5eed0000-51b0-4a70-9000-c1a0de000001"
TRANSPORT = "claude_pipeline.simulator.transport"  # scope extension: the connection, to drop it
_HTML_413 = b"<html><head><title>413 Request Entity Too Large</title></head><body>cloudflare</body></html>"


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated call of an endpoint, and the faults that strike it."""

    api: Api
    request: Request
    request_id: str
    workspace: str
    version: str
    betas: str
    rules: list[Rule]

    @property
    def base_url(self) -> str:
        """As the client named this server, so that results_url leads back here."""
        return f"{self.request.url.scheme}://{self.request.headers.get('host', 'localhost')}"

    def rule(self, kind: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.kind == kind), None)

    def body(self, most_bytes: int) -> AsyncIterator[bytes]:
        """The body in parts, decoded. Raises 413 beyond `most_bytes`."""
        return decoded(self.request.stream(), self.request.headers.get("content-encoding", ""), most_bytes)

    async def json_body(self, most_bytes: int) -> dict[str, Any]:
        try:
            content = orjson.loads(b"".join([part async for part in self.body(most_bytes)]))
        except orjson.JSONDecodeError as wrong:
            raise ApiError(400, f"The request body is not valid JSON: {wrong}") from wrong
        try:
            orjson.dumps(content)
        except orjson.JSONEncodeError as wrong:  # nested more deeply than can be written again
            raise ApiError(400, f"The request body is not valid JSON: {wrong}") from wrong
        if not isinstance(content, dict):
            raise ApiError(400, "body: Input should be a valid dictionary")
        return content


Handler = Callable[[Call], Awaitable[Response]]


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


class Endpoint:
    """An ASGI application around one handler; `name` is what faults and the invoice call it."""

    def __init__(self, api: Api, name: str, handler: Handler) -> None:
        self._api = api
        self._name = name
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = new_request_id()
        workspace = None
        try:
            key = key_of(request)
            workspace = workspace_named(key)
            response = await self._answer(request, request_id, key, workspace)
        except ApiError as error:
            body = error_body(error.type, error.message, request_id, error.details)
            response = json_response(body, error.status, error.headers)
        except Dropped:
            self._api.store.count_call(self._name, "dropped")
            await drop(scope, receive)
            return
        except ClientDisconnect:
            self._api.store.count_call(self._name, "disconnected")
            return
        except Exception:
            traceback.print_exc()  # a fault of the simulator itself: say so where it was started
            response = json_response(error_body("api_error", "Internal server error", request_id), 500)
        response.headers["request-id"] = request_id
        response.headers["anthropic-organization-id"] = ORGANIZATION_ID
        if workspace is not None:
            response.headers.setdefault("anthropic-workspace-id", workspace)
        self._api.store.count_call(self._name, str(response.status_code))
        try:
            await response(scope, receive, send)
        except Dropped as dropped:
            await drop(scope, receive, politely=not dropped.abruptly)

    async def _answer(self, request: Request, request_id: str, key: str, workspace: str) -> Response:
        version = request.headers.get("anthropic-version", "")
        if version not in VERSIONS:
            what = f'"{version}" is not a valid version' if version else "header is required"
            raise ApiError(400, f"anthropic-version: {what}")
        batch_id = str(request.path_params.get("id", ""))
        state = ""
        if batch_id and self._api.faults.ask_state(self._name):
            state = await to_thread.run_sync(self._api.state_of, batch_id, workspace)
        rules = self._api.faults.take(self._name, (key, workspace), batch_id, state)
        if any(rule.kind == "other_workspace" for rule in rules):
            workspace = workspace_named(f"not {workspace}")
        call = Call(
            api=self._api,
            request=request,
            request_id=request_id,
            workspace=workspace,
            version=version,
            betas=",".join(request.headers.getlist("anthropic-beta")).replace(" ", ""),
            rules=rules,
        )
        for rule in rules:
            early = await _before(rule)
            if early is not None:
                return early
        response = await self._handler(call)
        for rule in rules:
            response = await _after(rule, response)
        response.headers["anthropic-workspace-id"] = workspace
        return response


class Unrouted:
    """Answers what leads nowhere, with or without a key: 405 where another method would do, else 404."""

    def __init__(self, api: Api, routes: Sequence[BaseRoute]) -> None:
        self._api = api
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        near = [route for route in self._routes if route.matches(scope)[0] is Match.PARTIAL]
        methods = {method for route in near if isinstance(route, Route) for method in route.methods or ()}
        status, kind, message = 404, "not_found_error", "Not Found"
        headers = {"x-should-retry": "false", "anthropic-organization-id": ORGANIZATION_ID}
        if methods:
            status, kind, message = 405, "invalid_request_error", "Method Not Allowed"
            headers["allow"] = ", ".join(sorted(methods))
        headers["request-id"] = new_request_id()
        self._api.store.count_call("unknown", str(status))
        await json_response(error_body(kind, message, headers["request-id"]), status, headers)(scope, receive, send)


def new_request_id() -> str:
    return f"req_01{secrets.token_hex(11)}"


def key_of(request: Request) -> str:
    """The key, in either of its two headers. Raises 401 without one, or with a real one."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "").strip()
    if not key:
        raise ApiError(401, "x-api-key header is required")
    if key.startswith("sk-ant-"):
        raise ApiError(401, "this is a simulator: it refuses keys that look real; set ANTHROPIC_API_KEY=simulator")
    return key


def workspace_named(key: str) -> str:
    """The workspace of a key; each key has its own."""
    return f"wrkspc_01{hashlib.sha256(key.encode()).hexdigest()[:22]}"


async def _before(rule: Rule) -> Response | None:
    """What a fault does before anything is done; an answer stops the call here."""
    match rule.kind:
        case "hang":
            await asyncio.sleep(rule.seconds)
        case "reset_before":
            raise Dropped
        case "status" if not rule.accepted:
            raise _error_of(rule)
        case "html_413":
            return Response(_HTML_413, 413, media_type="text/html")
        case "redirect":
            return RedirectResponse(rule.location or "http://127.0.0.1:9/", 307)
    return None


async def _after(rule: Rule, response: Response) -> Response:
    """What a fault does once the work is done."""
    match rule.kind:
        case "lost_after":
            raise Dropped
        case "status" if rule.accepted:
            raise _error_of(rule)
        case "hang_after":
            await asyncio.sleep(rule.seconds)
        case "bad_body":
            return await _bad_body(rule.form or "html", response)
        case "slow_bytes":
            return StreamingResponse(
                _slowly(response, rule.bytes_per_second), response.status_code, dict(response.headers)
            )
    return response


def _error_of(rule: Rule) -> ApiError:
    headers = {}
    if rule.retry_after is not None:
        headers["retry-after"] = f"{rule.retry_after:g}"
    if rule.should_retry is not None:
        headers["x-should-retry"] = str(rule.should_retry).lower()
    details = {"error_code": rule.error_code} if rule.error_code else None
    message = rule.message or "The simulator was told to answer this"
    return ApiError(rule.status or 500, message, rule.error_type, details=details, headers=headers)


async def _bad_body(form: str, response: Response) -> Response:
    match form:
        case "html":
            return Response(b"<html><body>gateway</body></html>", 200, media_type="text/html")
        case "empty":
            return Response(b"", 200, media_type="application/json")
        case "cut":
            body = await _first_piece(response)
            return Response(body[: len(body) // 2], 200, media_type=response.media_type)
    if isinstance(response, StreamingResponse):
        return response  # neither an id nor counts of its own
    content = orjson.loads(bytes(response.body))
    for entry in content.get("data", [content]):
        if form == "no_id":
            entry.pop("id", None)
        elif "request_counts" in entry:
            entry["request_counts"]["processing"] -= 1
    return json_response(content)


async def _first_piece(response: Response) -> bytes:
    """The body, or of a stream what it sends first: results may be larger than memory."""
    if not isinstance(response, StreamingResponse):
        return bytes(response.body)
    async for part in response.body_iterator:
        if part:
            return part.encode() if isinstance(part, str) else bytes(part)
    return b""


async def _slowly(response: Response, bytes_per_second: int) -> AsyncIterator[bytes]:
    """The body in tenths of a second, or byte by byte where that is slower."""
    step = max(1, bytes_per_second // 10)
    pause_seconds = step / bytes_per_second
    if isinstance(response, StreamingResponse):
        async for part in response.body_iterator:
            data = part.encode() if isinstance(part, str) else bytes(part)
            for start in range(0, len(data), step):
                yield data[start : start + step]
                await asyncio.sleep(pause_seconds)
        return
    body = bytes(response.body)
    for start in range(0, len(body), step):
        yield body[start : start + step]
        await asyncio.sleep(pause_seconds)


async def drop(scope: Scope, receive: Receive, *, politely: bool = False) -> None:
    """Close the connection under the client: a reset, or (politely) an end after what was sent."""
    transport: asyncio.Transport | None = scope.get("extensions", {}).get(TRANSPORT)
    if transport is None:  # no socket: an ASGI client in the same process
        raise ConnectionResetError("the simulator was told to drop this connection")
    if politely:
        transport.close()
    else:
        # With no time to linger the kernel sends a reset instead of an orderly end.
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
