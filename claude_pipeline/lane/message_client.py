"""The Messages API through the asynchronous SDK: one POST, one `Reply`, whatever happens.

| what happened | fate | error_type |
|---|---|---|
| a message came | answered | |
| an error of the API, as JSON | refused | its type |
| the same with 408 or 409 | lost | its type |
| 404, 413, 429 without the API's JSON (the edge answers so) | refused | by the status |
| any other status without the API's JSON: a proxy's | lost | `no_api_answer` |
| 2xx that is no message, or cannot be read | lost | `unreadable_result` |
| no connection could be made | unsent | `not_connected` |
| time-out, reset, half an answer | lost | `connection_lost`, `no_answer_in_time` |

What is lost may have been paid. Errors of the SDK and of its transport carry the request with its
headers, so none of them leaves this module: a `Reply` holds words of ours and of the API only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import orjson

from claude_pipeline.lane.access import connect_async, without_key
from claude_pipeline.lane.headers import rates_told, retry_after_seconds
from claude_pipeline.lane.reply import Fate, Reply, TokenUse
from claude_pipeline.lane.waits import USUAL, Waits

if TYPE_CHECKING:
    import anthropic
    import httpx2

MESSAGES = "/v1/messages"
DOUBTFUL_STATUSES = frozenset({408, 409})
# Without the API's JSON these come from the edge before the API saw the request (413: Cloudflare, SDK 2.12).
CLEAR_STATUSES = {404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}


class MessageClient:
    """`async with MessageClient(clock) as client: reply = await client.ask(params, 600)`; of one event loop.

    `connect` makes the SDK's client when it is entered. `clock` tells when an answer was known.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        connect: Callable[[], anthropic.AsyncAnthropic] = connect_async,
        waits: Waits = USUAL,
    ) -> None:
        self._clock, self._connect, self._waits = clock, connect, waits
        self._sdk: anthropic.AsyncAnthropic | None = None

    async def __aenter__(self) -> Self:
        """Raises KeyRefused or SettingInvalid where key and address cannot be used; sends nothing."""
        self._sdk = self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sdk, self._sdk = self._sdk, None
        if sdk is not None:
            await sdk.close()

    async def ask(self, params: bytes, timeout_seconds: float) -> Reply:
        """POST the params as they are, exactly once; never raises for what the API or the network does.

        Once there is a connection the whole answer has `timeout_seconds`, however it trickles.
        """
        import anthropic
        import httpx2

        if self._sdk is None:
            raise RuntimeError("the client is closed; ask inside `async with MessageClient(...)`")
        options: Any = {
            "headers": {"content-type": "application/json"},
            "timeout": httpx2.Timeout(timeout_seconds, connect=self._waits.connect, pool=self._waits.connect),
        }
        try:
            async with asyncio.timeout(self._waits.connect + timeout_seconds):
                response = await self._sdk.post(MESSAGES, content=params, cast_to=httpx2.Response, options=options)
        except anthropic.APIStatusError as error:
            return self._refused(error.response)
        except (anthropic.AnthropicError, httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            return self._failed(error)
        return self._answered(response)

    def _answered(self, response: httpx2.Response) -> Reply:
        headers = _plain(response)
        body = response.content
        message = json_object(body)
        if message is None or message.get("type") != "message" or not isinstance(message.get("content"), list):
            sentence = f"the API answered {response.status_code} with what is no message; it may have been paid"
            return self._reply(Fate.LOST, response.status_code, headers, "unreadable_result", sentence)
        return Reply(
            Fate.ANSWERED,
            self._clock(),
            response.status_code,
            body,
            _usage(message.get("usage")),
            rates=rates_told(headers),
            request_id=headers.get("request-id"),
        )

    def _refused(self, response: httpx2.Response) -> Reply:
        status, headers = response.status_code, _plain(response)
        document = json_object(response.content) or {}
        error = document.get("error") if document.get("type") == "error" else None
        if isinstance(error, dict) and isinstance(error.get("type"), str):
            details = error.get("details")
            code = details.get("error_code") if isinstance(details, dict) else None
            return self._reply(
                Fate.LOST if status in DOUBTFUL_STATUSES else Fate.REFUSED,
                status,
                headers,
                error["type"],
                without_key(str(error.get("message") or "no reason given"), response.request.headers),
                code=code if isinstance(code, str) else None,
                request_id=document.get("request_id"),
            )
        if (kind := CLEAR_STATUSES.get(status)) is not None:
            return self._reply(Fate.REFUSED, status, headers, kind, f"answered {status} before the API was reached")
        sentence = f"answered {status} by something other than the API; it may have been paid"
        return self._reply(Fate.LOST, status, headers, "no_api_answer", sentence)

    def _failed(self, error: Exception) -> Reply:
        """No answer, or half of one."""
        import httpx2

        # The SDK's errors are caused by its transport's; our own time-out is caused by the cancelling it did.
        cause = error if isinstance(error, TimeoutError) or error.__cause__ is None else error.__cause__
        if _never_left(cause):
            host = self._sdk.base_url.host if self._sdk is not None else "the API"
            return self._reply(Fate.UNSENT, None, {}, "not_connected", f"cannot connect to {host}; nothing was sent")
        if isinstance(cause, httpx2.DecodingError):
            return self._reply(Fate.LOST, None, {}, "unreadable_result", "the answer cannot be decompressed")
        late = isinstance(cause, httpx2.TimeoutException | TimeoutError)
        kind = "no_answer_in_time" if late else "connection_lost"
        return self._reply(Fate.LOST, None, {}, kind, f"no answer ({type(cause).__name__}); it may have been paid")

    def _reply(
        self,
        fate: Fate,
        status: int | None,
        headers: Mapping[str, str],
        error_type: str,
        message: str,
        *,
        code: str | None = None,
        request_id: object = None,
    ) -> Reply:
        now = self._clock()
        return Reply(
            fate,
            now,
            status,
            error_type=error_type,
            error_message=message,
            error_code=code,
            retry_after_seconds=retry_after_seconds(headers, now),
            rates=rates_told(headers),
            request_id=headers.get("request-id") or (request_id if isinstance(request_id, str) else None),
        )


def _never_left(cause: BaseException) -> bool:
    """Whether the request surely never left: no connection was there to send it on.

    The SDK's aiohttp transport calls a connection that broke after the POST a ConnectError as well
    (2.12, `AIOHTTP_EXC_MAP`), so what aiohttp itself said decides.
    """
    import aiohttp
    import httpx2

    said = cause.__cause__
    if isinstance(said, aiohttp.ClientError):
        return isinstance(
            said,
            aiohttp.ClientConnectorError
            | aiohttp.ConnectionTimeoutError
            | aiohttp.ClientHttpProxyError
            | aiohttp.ServerFingerprintMismatch
            | aiohttp.InvalidURL,
        )
    return isinstance(
        cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.UnsupportedProtocol
    )


def _plain(response: httpx2.Response) -> dict[str, str]:
    """Headers by their names in small letters; one look at a header costs as much in the library's own form."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}


def json_object(body: bytes) -> dict[str, Any] | None:
    """A JSON object; lone surrogates, which orjson refuses, are no reason to lose a paid answer."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return document if isinstance(document, dict) else None


def _usage(usage: object) -> TokenUse | None:
    if not isinstance(usage, dict):
        return None
    fresh, out = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    if fresh is None or out is None:
        return None
    written, read = (_count(usage.get(f"cache_{kind}_input_tokens")) or 0 for kind in ("creation", "read"))
    return TokenUse(fresh, out, written, read)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
