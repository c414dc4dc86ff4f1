"""What every endpoint shares: request id, key, workspace, faults, errors as the API writes them."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from claude_pipeline.simulator.api import Api
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

    async def body(self, most_bytes: int) -> bytes:
        """The whole body. Raises 413 beyond `most_bytes`."""
        parts = []
        size = 0
        async for part in self.request.stream():
            size += len(part)
            if size > most_bytes:
                raise too_large(most_bytes)
            parts.append(part)
        return b"".join(parts)

    async def json_body(self, most_bytes: int) -> Any:
        try:
            return orjson.loads(await self.body(most_bytes))
        except orjson.JSONDecodeError as wrong:
            raise ApiError(400, f"The request body is not valid JSON: {wrong}") from wrong


Handler = Callable[[Call], Awaitable[Response]]


def too_large(most_bytes: int) -> ApiError:
    return ApiError(413, f"Request exceeds the maximum size of {most_bytes:,} bytes")


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
        request_id = f"req_01{secrets.token_hex(11)}"
        workspace = None
        try:
            workspace = workspace_of(request)
            response = await self._answer(request, request_id, workspace)
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
        except Dropped:
            await drop(scope, receive, politely=True)

    async def _answer(self, request: Request, request_id: str, workspace: str) -> Response:
        version = request.headers.get("anthropic-version", "")
        if version not in VERSIONS:
            what = f'"{version}" is not a valid version' if version else "header is required"
            raise ApiError(400, f"anthropic-version: {what}")
        rules = self._api.faults.take(self._name)
        if any(rule.kind == "other_workspace" for rule in rules):
            workspace = _workspace_named(f"not {workspace}")
        call = Call(
            api=self._api,
            request=request,
            request_id=request_id,
            workspace=workspace,
            version=version,
            betas=request.headers.get("anthropic-beta", ""),
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


def workspace_of(request: Request) -> str:
    """The workspace of the key; each key has its own. Raises 401 without a key, or with a real one."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "").strip()
    if not key:
        raise ApiError(401, "x-api-key header is required")
    if key.startswith("sk-ant-"):
        raise ApiError(401, "this is a simulator: it refuses keys that look real; set ANTHROPIC_API_KEY=simulator")
    return _workspace_named(key)


def _workspace_named(key: str) -> str:
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
            return _bad_body(rule.form or "html", response)
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


def _bad_body(form: str, response: Response) -> Response:
    body = bytes(response.body)
    match form:
        case "html":
            return Response(b"<html><body>gateway</body></html>", 200, media_type="text/html")
        case "empty":
            return Response(b"", 200, media_type="application/json")
        case "cut":
            return Response(body[: len(body) // 2], 200, media_type="application/json")
    content = orjson.loads(body)
    if form == "counts":
        content["request_counts"]["processing"] -= 1
    else:
        content.pop("id", None)
    return json_response(content)


async def _slowly(response: Response, bytes_per_second: int) -> AsyncIterator[bytes]:
    """The body in tenths of a second."""
    step = max(1, bytes_per_second // 10)
    if isinstance(response, StreamingResponse):
        async for part in response.body_iterator:
            data = part.encode() if isinstance(part, str) else bytes(part)
            for start in range(0, len(data), step):
                yield data[start : start + step]
                await asyncio.sleep(0.1)
        return
    body = bytes(response.body)
    for start in range(0, len(body), step):
        yield body[start : start + step]
        await asyncio.sleep(0.1)


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
