"""The Message Batches API through the `anthropic` SDK.

Each method is one HTTP request, never retried here: a lost answer to `create` may hide a paid
batch, and everything else is asked again by the next look. Errors of the SDK carry the request
with its headers, so they are never chained: what leaves this module are our own, with the API's
request id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from claude_pipeline.chunk import Body
from claude_pipeline.errors import AccountStopped, ApiRefused, ApiUnclear, KeyRefused, in_short
from claude_pipeline.lane.access import connect, without_key
from claude_pipeline.lane.api_error import Verdict, verdict_of
from claude_pipeline.lane.headers import retry_after_seconds
from claude_pipeline.lane.sdk import load_sdk
from claude_pipeline.ledger import BatchId, BatchSeen

if TYPE_CHECKING:
    import anthropic
    import httpx2

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)  # of a document with other shapes
BATCHES = "/v1/messages/batches"
LIST_LIMIT = 1000  # most per page, catalog/limits.yaml
LOOK_SECONDS = 12.0  # time-out of a look; a sensor has 60 s for all of its looks
CREATE_SECONDS = 600.0  # the SDK's own read time-out
DOWNLOAD_SECONDS = 120.0  # between two pieces of a download


@dataclass(frozen=True)
class Page:
    """One page of the list of batches, newest first."""

    batches: tuple[BatchSeen, ...]
    has_more: bool
    workspace_id: str | None


@dataclass(frozen=True)
class Accepted:
    """The API accepted a create and named the batch."""

    batch: BatchSeen
    workspace_id: str | None


@dataclass(frozen=True)
class Refused:
    """The API refused a create clearly, or it never left this machine: nothing was accepted."""

    sentence: str
    error_type: str
    verdict: Verdict
    retry_after_seconds: float | None = None
    key_refused: bool = False


@dataclass(frozen=True)
class Doubtful:
    """No clear answer to a create: only the API's list can tell whether it was accepted."""

    sentence: str


@dataclass
class BatchClient:
    """The calls of the batch lane. `repr` shows no key.

    `connect` makes the SDK's client when it is first needed; by default from the environment.
    """

    connect: Callable[[], anthropic.Anthropic] = field(default=connect, repr=False)
    _client: anthropic.Anthropic | None = field(default=None, repr=False)

    @property
    def sdk(self) -> anthropic.Anthropic:
        if self._client is None:
            self._client = self.connect()
        return self._client

    def connected(self) -> None:
        """Raises KeyRefused or SettingInvalid where key and address cannot be used; sends nothing."""
        _ = self.sdk

    def close(self) -> None:
        """Close its connections; the next call would open new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def create(self, body: Body) -> Accepted | Refused | Doubtful:
        """POST one batch, exactly once; never raises for what the API or the network does."""
        load_sdk()
        import anthropic
        import httpx2

        try:
            response = self.sdk.post(
                BATCHES,
                cast_to=httpx2.Response,
                content=body,
                options={
                    "headers": {"content-type": "application/json", "content-length": str(body.length)},
                    "timeout": httpx2.Timeout(CREATE_SECONDS, connect=LOOK_SECONDS),
                },
            )
        except anthropic.APIStatusError as error:
            return _answer_to_create(error)
        except anthropic.APIConnectionError as error:
            if isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol):
                return Refused(f"cannot connect to {self.host}; nothing was sent", "not_connected", Verdict.RETRY)
            return Doubtful(f"no answer to create ({_kind(error)})")
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            return Doubtful(f"no answer to create ({type(error).__name__})")
        try:
            seen = batch_seen(orjson.loads(response.content))
        except UNREADABLE:
            return Doubtful(f"create was answered {response.status_code} without a batch ({_request_id(response)})")
        return Accepted(seen, response.headers.get("anthropic-workspace-id"))

    def page(self, *, limit: int = LIST_LIMIT, after_id: BatchId | None = None) -> Page:
        """One page of the list, newest first, after the batch `after_id`.

        Raises:
            ApiUnclear: no answer that decides anything.
            KeyRefused, AccountStopped: nothing will work until a person acts.
        """
        params: dict[str, object] = {"limit": limit}
        if after_id is not None:
            params["after_id"] = after_id
        document, headers = self.look(BATCHES, params)
        try:
            batches = tuple(batch_seen(item) for item in document["data"])
            return Page(batches, bool(document.get("has_more")), headers.get("anthropic-workspace-id"))
        except UNREADABLE:
            raise ApiUnclear("the list of batches cannot be read; decided nothing") from None

    def retrieve(self, batch_id: BatchId) -> BatchSeen:
        """One batch. Raises as `page`; a 404 is ApiRefused with status 404 (seen briefly after a create)."""
        document, _headers = self.look(f"{BATCHES}/{batch_id}", {})
        try:
            return batch_seen(document)
        except UNREADABLE:
            raise ApiUnclear(f"the answer about {batch_id} cannot be read; decided nothing") from None

    def cancel(self, batch_id: BatchId) -> None:
        """Ask the API to cancel a batch. Raises as `retrieve`."""
        import httpx2

        self._guarded(lambda: self.sdk.post(f"{BATCHES}/{batch_id}/cancel", cast_to=httpx2.Response))

    def results(self, batch_id: BatchId) -> Iterator[bytes]:
        """The results as the API sends them, in pieces, from our own path under the base URL.

        Never from `results_url`: the SDK would send the key to whatever host it names.
        Raises as `retrieve`, also in the middle.
        """
        import httpx2

        response = self._guarded(
            lambda: self.sdk.get(
                f"{BATCHES}/{batch_id}/results",
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=None,
                options={
                    "headers": {"accept": "application/binary"},
                    "timeout": httpx2.Timeout(DOWNLOAD_SECONDS, connect=LOOK_SECONDS),
                },
            )
        )
        try:
            yield from response.iter_bytes()
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise ApiUnclear(f"the results of {batch_id} broke off ({type(error).__name__})") from None
        finally:
            response.close()

    def download(self, batch_id: BatchId, path: Path) -> None:
        """`results` into a file."""
        with path.open("wb") as file:
            for piece in self.results(batch_id):
                file.write(piece)

    def first_result(self, batch_id: BatchId) -> dict[str, Any] | None:
        """The first line of the results; None where there is none (which decides nothing)."""
        line = b""
        for piece in self.results(batch_id):
            line += piece
            if b"\n" in line:
                break
        line = line.split(b"\n", 1)[0].strip()
        try:
            document = orjson.loads(line) if line else None
        except orjson.JSONDecodeError:
            return None
        return document if isinstance(document, dict) else None

    @property
    def host(self) -> str:
        return str(self.sdk.base_url.host)

    def look(self, path: str, params: Mapping[str, object]) -> tuple[dict[str, Any], Mapping[str, str]]:
        """GET a JSON object and the headers that came with it. Raises as `page`."""
        import httpx2

        options: Any = {"params": params, "timeout": httpx2.Timeout(LOOK_SECONDS)}
        return self._document(f"GET {path}", lambda: self.sdk.get(path, cast_to=httpx2.Response, options=options))

    def ask(self, path: str, body: bytes) -> tuple[dict[str, Any], Mapping[str, str]]:
        """POST JSON where that costs nothing and changes nothing. Raises as `page`."""
        import httpx2

        headers = {"content-type": "application/json"}
        options: Any = {"headers": headers, "timeout": httpx2.Timeout(LOOK_SECONDS)}
        return self._document(
            f"POST {path}", lambda: self.sdk.post(path, cast_to=httpx2.Response, content=body, options=options)
        )

    def _document(self, what: str, call: Callable[[], httpx2.Response]) -> tuple[dict[str, Any], Mapping[str, str]]:
        response = self._guarded(call)
        try:
            document = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise ApiUnclear(f"{what} was answered {response.status_code} without JSON; decided nothing")
        return document, response.headers

    def _guarded(self, call: Callable[[], httpx2.Response]) -> httpx2.Response:
        """One look at the API, its errors turned into ours."""
        load_sdk()
        import anthropic
        import httpx2

        try:
            return call()
        except anthropic.APIStatusError as error:
            _raise_for(error)
        except anthropic.APIConnectionError as error:
            raise ApiUnclear(f"no answer from {self.host} ({_kind(error)})") from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise ApiUnclear(f"no answer from {self.host} ({type(error).__name__})") from None


def batch_seen(document: Mapping[str, Any]) -> BatchSeen:
    """A MessageBatch's JSON as a record; raises one of UNREADABLE where it is none."""
    counts = {str(outcome): int(count) for outcome, count in document["request_counts"].items()}
    if not isinstance(document["id"], str) or not document["id"]:
        raise ValueError("a batch without id")
    created_at = _moment(document["created_at"])
    if created_at is None:
        raise ValueError("a batch without created_at")
    return BatchSeen(
        id=BatchId(document["id"]),
        status=str(document["processing_status"]),
        requests=sum(counts.values()),
        counts=counts,
        created_at=created_at,
        expires_at=_moment(document.get("expires_at")),
        ended_at=_moment(document.get("ended_at")),
        archived_at=_moment(document.get("archived_at")),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _answer_to_create(error: anthropic.APIStatusError) -> Refused | Doubtful:
    """A 4xx is a refusal (but 408 and 409); anything else may have been accepted."""
    status, kind = error.status_code, _text(error.type)
    told = in_short(f"{status} {kind}")
    sentence = f"create was answered {told}: {_reason(error)} ({_request_id(error.response)})"
    if not 400 <= status < 500 or status in (408, 409):
        return Doubtful(sentence)
    kind = kind or _type_of(status)
    verdict = verdict_of(kind, _text(error.api_message), error.error_code)
    if status in (401, 402, 403):
        verdict = Verdict.STOP
    if status == 429 and verdict is not Verdict.STOP:
        verdict = Verdict.RETRY
    retry_after = retry_after_seconds(error.response.headers)
    return Refused(sentence, kind, verdict, retry_after, key_refused=status in (401, 403))


def _raise_for(error: anthropic.APIStatusError) -> NoReturn:
    status, message, kind = error.status_code, _reason(error), _text(error.type)
    where = f"{error.request.method} {error.request.url.path}"
    if status in (401, 403):
        raise KeyRefused(f"the API refused the key ({status}: {message}); check ANTHROPIC_API_KEY") from None
    if status == 402 or verdict_of(kind, _text(error.api_message), error.error_code) is Verdict.STOP:
        raise AccountStopped(f"the API stops this account ({status}: {message})") from None
    sentence = f"{where} was answered {status}: {message} ({_request_id(error.response)})"
    if status in (400, 404, 410):
        raise ApiRefused(sentence, status=status, error_type=kind, request_id=error.request_id) from None
    raise ApiUnclear(sentence, retry_after_seconds=retry_after_seconds(error.response.headers)) from None


def _text(value: object) -> str:
    """Nothing where the API sent another shape than it documents."""
    return value if isinstance(value, str) else ""


def _reason(error: anthropic.APIStatusError) -> str:
    """Why the API did not do it, in its words."""
    if 300 <= error.status_code < 400:
        host = error.response.headers.get("location", "").partition("://")[2].partition("/")[0]
        return f"a redirect to {in_short(host) or 'another place'}, which is not followed; check ANTHROPIC_BASE_URL"
    return in_short(without_key(_text(error.api_message), error.request.headers)) or "no reason given"


def _type_of(status: int) -> str:
    return {413: "request_too_large", 404: "not_found_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error"
    )


def _kind(error: anthropic.APIConnectionError) -> str:
    return type(error.__cause__).__name__ if error.__cause__ else type(error).__name__


def _request_id(response: httpx2.Response) -> str:
    return f"request-id {response.headers.get('request-id', 'none')}"
