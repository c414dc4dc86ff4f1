"""Calls of the simulated API without a socket: any method, path, header and body, and what came back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from claude_pipeline_tests.fuzz.value import DEEP, FLOATS, JSON, SCALARS, TEXTS, WIDE, spoiled

BATCHES = "/v1/messages/batches"
ID = "<id>"  # of the last batch that was made
MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-nope", "claude-opus-4-8")


@dataclass(frozen=True)
class Call:
    """One HTTP request, as bytes on the wire would say it."""

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


async def answered(app: ASGIApp, call: Call, batch_id: str) -> Answer:
    """What the application sends back."""
    path = call.path.replace(ID, batch_id)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": call.method, "scheme": "http",
        "path": path, "raw_path": path.encode("utf-8", "replace"), "query_string": call.query.replace(ID.encode(), batch_id.encode()),
        "root_path": "", "headers": list(call.headers), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    sent: list[Message] = []
    parts = [call.body[n : n + 4_000] for n in range(0, len(call.body), 4_000)] or [b""]
    incoming = iter([{"type": "http.request", "body": p, "more_body": n < len(parts)} for n, p in enumerate(parts, 1)])

    async def receive() -> Message:
        message = next(incoming, None)
        if message is None:
            await asyncio.Event().wait()
            raise AssertionError
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


_ODD = st.one_of(SCALARS, WIDE, FLOATS, JSON)
_SCHEMAS = st.one_of(
    JSON, st.just({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False})
)
_BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "document", "tool_use", "tool_result", "thinking", "nope"]) | _ODD},
    optional={
        "text": TEXTS | _ODD,
        "id": TEXTS | _ODD,
        "tool_use_id": TEXTS,
        "name": TEXTS,
        "cache_control": JSON,
        "citations": JSON,
    },
)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "user", "assistant", "system"]) | _ODD,
            "content": TEXTS | st.lists(_BLOCKS, max_size=3) | _ODD,
        }
    ),
    min_size=1,
    max_size=3,
)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "system": TEXTS | st.lists(_BLOCKS, max_size=2) | _ODD,
    "temperature": st.sampled_from([0, 1]) | _ODD,
    "top_k": _ODD,
    "stop_sequences": st.lists(TEXTS, max_size=2) | _ODD,
    "metadata": st.dictionaries(st.sampled_from(["user_id", "x"]), _ODD) | _ODD,
    "thinking": st.fixed_dictionaries({"type": st.sampled_from(["enabled", "disabled", "adaptive", "between_tools"]) | _ODD}, optional={"budget_tokens": st.just(1024) | _ODD, "display": _ODD}) | _ODD,
    "tools": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["a", "b"]) | _ODD, "input_schema": _SCHEMAS}, optional={"type": st.sampled_from(["custom", "web_search_20250305"]) | _ODD, "strict": _ODD, "cache_control": JSON}), max_size=2) | _ODD,
    "tool_choice": st.fixed_dictionaries({"type": st.sampled_from(["auto", "any", "tool", "none"]) | _ODD}, optional={"name": st.sampled_from(["a", "b"]) | _ODD}) | _ODD,
    "output_config": st.fixed_dictionaries({}, optional={"format": st.fixed_dictionaries({"type": st.just("json_schema") | _ODD, "schema": _SCHEMAS}) | _ODD, "effort": _ODD}) | _ODD,
    "cache_control": st.just({"type": "ephemeral"}) | JSON,
    "inference_geo": st.sampled_from(["us", "global"]) | _ODD,
    "service_tier": _ODD,
    "stream": st.booleans() | _ODD,
    "billing_policy": _ODD,
    "nope": _ODD,
}  # fmt: skip
PARAMS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS) | st.just(MODELS[0]) | _ODD,
        "max_tokens": st.sampled_from([1, 16, 256]) | _ODD,
        "messages": st.just([{"role": "user", "content": "hello"}]) | _MESSAGES | _ODD,
    },
    optional=_FIELDS,
)
_IDS = st.sampled_from(["a", "b", "a", "A-1_", "x" * 64, "x" * 65, "", "é", "a\n"]) | _ODD
_REQUESTS = st.lists(
    st.fixed_dictionaries({"custom_id": _IDS, "params": PARAMS | _ODD}, optional={"more": _ODD}), max_size=3
)
_CREATES = st.one_of(st.fixed_dictionaries({"requests": _REQUESTS | _ODD}, optional={"more": _ODD}), JSON)
_CLOCKS = (
    st.dictionaries(
        st.sampled_from(["advance_seconds", "speed", "pause", "x"]),
        st.sampled_from([0, 60, 3600, 90_000, 1e9]) | _ODD,
        max_size=2,
    )
    | JSON
)
_RULES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["status", "529", "take", "expire", "list_lag", "line_error", "nope", "²", "9" * 5_000])
        | _ODD
    },
    optional={
        "endpoint": st.sampled_from(["create", "*", "nope"]) | _ODD,
        **dict.fromkeys(
            ("count", "after", "share", "seconds", "seed", "attempts", "status", "message", "form", "retry_after"), _ODD
        ),
    },
)
_LIMITS = st.dictionaries(st.sampled_from(["share", "told"]), st.sampled_from([0.5, 1, True]) | _ODD, max_size=2) | JSON


def _written(value: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """A body: JSON as Python writes it, with escapes of half characters, spoiled, or no JSON at all."""
    said = value.map(lambda content: json.dumps(content).encode())
    return st.one_of(
        said, said, said, said.map(lambda data: data.replace(b"hello", b"\\ud800")), said.map(lambda data: data.replace(b'"more"', b'"\\ud800"')),
        said.map(lambda data: data[:1] + b'"\\ud800":1,' + data[1:]), said.flatmap(spoiled), DEEP.map(str.encode), st.binary(max_size=20),
    )  # fmt: skip


_ENDPOINTS: list[tuple[str, str, st.SearchStrategy[bytes]]] = [
    ("POST", "/v1/messages", _written(PARAMS)),
    ("POST", "/v1/messages", _written(PARAMS)),
    ("POST", "/v1/messages/count_tokens", _written(PARAMS)),
    ("POST", BATCHES, _written(_CREATES)),
    ("POST", BATCHES, _written(_CREATES)),
    ("GET", BATCHES, st.just(b"")),
    ("GET", f"{BATCHES}/{ID}", st.just(b"")),
    ("GET", f"{BATCHES}/{ID}/results", st.just(b"")),
    ("POST", f"{BATCHES}/{ID}/cancel", st.just(b"") | st.binary(max_size=5)),
    ("DELETE", f"{BATCHES}/{ID}", st.just(b"")),
    ("GET", "/v1/models", st.just(b"")),
    ("GET", "/v1/models/claude-haiku-5-5", st.just(b"")),
    ("POST", "/_simulator/clock", _written(_CLOCKS)),
    ("POST", "/_simulator/clock", st.just(b'{"advance_seconds": 90000}')),
    ("POST", "/_simulator/faults", _written(_RULES | st.lists(_RULES, max_size=2) | JSON | TEXTS)),
    ("POST", "/_simulator/limits", _written(_LIMITS)),
    *(
        ("GET", f"/_simulator/{name}", st.just(b""))
        for name in ("invoice", "invoice/lines", "state", "clock", "faults")
    ),
]
_QUERIES = st.one_of(
    st.just(b"beta=true"),
    st.builds(lambda name, value: f"{name}={value}".encode(), st.sampled_from(["limit", "after_id", "before_id", "lifecycle", "lifecycle[]", "x"]),
              st.sampled_from(["1", "0", "-1", "1000", "1001", "9" * 5_000, "²", "%d9%a3", "", ID, "%00", "%ff", "retired", "claude-haiku-5-5"])),
    st.binary(max_size=8),
)  # fmt: skip
_KEYS = st.sampled_from([(b"x-api-key", b"simulator"), (b"authorization", b"Bearer simulator")])
_HEADERS = st.lists(
    st.sampled_from(
        [(b"x-api-key", b""), (b"x-api-key", b"sk-ant-x"), (b"authorization", b"Basic x"), (b"x-api-key", b"\xff\xe9"), (b"anthropic-version", b"1999-01-01"),
         (b"anthropic-beta", b"output-300k-2026-03-24, x"), (b"anthropic-beta", b"\xff"), (b"content-encoding", b"gzip"), (b"content-encoding", b"br"),
         (b"content-encoding", b"\xff"), (b"content-length", b"9" * 40), (b"content-length", b"9" * 5_000), (b"content-length", b"\xb2"), (b"host", b"\xff:\x00"), (b"host", b"")]
    ),
    max_size=1,
)  # fmt: skip


@st.composite
def calls(draw: st.DrawFn) -> Call:
    method, path, bodies = draw(st.sampled_from(_ENDPOINTS))
    if draw(st.integers(0, 9)) == 0:
        method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "NOPE"]))
    if draw(st.integers(0, 9)) == 0:
        path = draw(
            st.sampled_from(
                [
                    "/",
                    "/v1",
                    f"{BATCHES}/",
                    f"{BATCHES}/nope",
                    f"{BATCHES}/\x00/results",
                    f"{BATCHES}/é",
                    "/v1/models/\ud7ff",
                    "//v1/messages",
                    f"{BATCHES}/../x",
                ]
            )
        )
    first = draw(_HEADERS) if draw(st.integers(0, 3)) == 0 else []
    headers = (*first, draw(_KEYS), (b"anthropic-version", b"2026-10-21"), (b"host", b"127.0.0.1:80"))
    listing = path in (BATCHES, "/v1/models") and method == "GET"
    return Call(method, path, draw(_QUERIES) if listing else b"", headers, draw(bodies))
