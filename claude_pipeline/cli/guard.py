"""What stands before Dagster's UI: a check of Host, Origin and method in front of its ASGI app, in its own process.

Dagster's webserver has no login and runs what it is asked, also by a GET with a foreign Origin and Host
(1.13.27), so that any page open in the user's browser could start a paid run. Refused here:

| request | status | why |
|---|---|---|
| its Host names no loopback address | 403 | a name that was rebound to 127.0.0.1 (DNS rebinding) |
| its Origin is another one than its Host's | 403 | a page of another site, or of another port; also `null` |
| the browser calls it cross-site, and it opens no page | 403 | the same without an Origin: images, scripts, frames |
| /graphql by anything but POST | 405 | a link would be enough; the GraphiQL page alone is served |
| a body that is not JSON | 415 | text, forms and no type at all are sent by pages without asking |
| in a read-only UI, a POST to anything but /graphql | 403 | there Dagster itself refuses mutations |

What is no browser sends no Origin, and is let in: it is on this machine. Websockets are checked likewise.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("claude_pipeline.guard")
# Any port: ssh -L changes it.
HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
ANOTHER_SITE = "a page of another site asked this UI for something; open the UI itself in a tab of its own"
GRAPHQL = "/graphql"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# No frame of another site may hold the UI (clickjacking), and no page of one may embed what it serves.
ADDED = {"x-frame-options": "SAMEORIGIN", "cross-origin-resource-policy": "same-origin"}


@dataclass(frozen=True)
class Asked:
    """What decides about a request. `method` is GET for a websocket, as on the wire."""

    method: str
    path: str
    query: bytes
    headers: Headers
    websocket: bool = False


@dataclass(frozen=True)
class Refused:
    """An HTTP status and a sentence for whoever meant well."""

    status: int
    sentence: str


def refusal(asked: Asked, *, read_only: bool = False) -> Refused | None:
    """Why a request is not passed on; None: it is."""
    headers = asked.headers
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        return Refused(
            403, "this UI answers to 127.0.0.1 and localhost only; from another machine reach it through ssh -L"
        )
    if origins and (len(origins) != 1 or origins[0].lower() not in _own_origins(hosts[0].lower())):
        return Refused(403, ANOTHER_SITE)
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not _opens_a_page(asked):
        return Refused(403, ANOTHER_SITE)
    if asked.websocket:
        return None
    if asked.path.rstrip("/") == GRAPHQL and asked.method != "POST" and (asked.query or asked.method != "GET"):
        return Refused(405, "/graphql takes queries and mutations by POST only, as application/json")
    if asked.method not in SAFE and not _is_json(headers):
        return Refused(415, "what is sent to this UI must be JSON, with content-type application/json")
    if read_only and asked.method not in SAFE and asked.path != GRAPHQL:
        return Refused(403, "this UI is read-only; start it without --read-only to change something")
    return None


def _own_origins(host: str) -> tuple[str, str]:
    return f"http://{host}", f"https://{host}"


def _opens_a_page(asked: Asked) -> bool:
    """Whether somebody followed a link to the UI, in a window of its own."""
    headers = asked.headers
    return (
        asked.method == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _is_json(headers: Headers) -> bool:
    """By the type itself: `text/plain; application/json` is text to a browser, and JSON to who looks for the word."""
    types = headers.getlist("content-type")
    return len(types) == 1 and types[0].partition(";")[0].strip().lower() == "application/json"


class Guard:
    """ASGI middleware: `Guard(app)`; what it lets pass reaches `app` as it came."""

    def __init__(self, app: ASGIApp, *, read_only: bool = False) -> None:
        self._app, self._read_only = app, read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        websocket = scope["type"] == "websocket"
        asked = Asked(
            "GET" if websocket else scope["method"],
            scope["path"],
            scope["query_string"],
            Headers(scope=scope),
            websocket,
        )
        refused = refusal(asked, read_only=self._read_only)
        if refused is not None:
            LOG.warning(
                "refused, status=%d, method=%s, path=%r: %s", refused.status, asked.method, asked.path, refused.sentence
            )
            await PlainTextResponse(f"{refused.sentence}\n", refused.status)(scope, receive, send)
            return

        async def send_framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(ADDED)
            await send(message)

        await self._app(scope, receive, send_framed)
