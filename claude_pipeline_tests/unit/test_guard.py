"""What the guard before Dagster's UI lets pass: the rules alone, and as ASGI middleware before a small app."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from claude_pipeline.cli.guard import Asked, Guard, refusal

OWN = "127.0.0.1:3000"
PAGE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
JSON = {"content-type": "application/json"}


def asked(method: str, target: str, websocket: bool = False, **headers: str) -> Asked:
    path, _, query = target.partition("?")
    named = {"host": OWN} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Asked(method, path, query.encode(), Headers(named), websocket)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(asked("GET", "/"), id="the page"),
        pytest.param(asked("GET", "/", host="localhost:3000"), id="by its name"),
        pytest.param(asked("GET", "/", host="LOCALHOST"), id="on port 80"),
        pytest.param(asked("GET", "/", host="[::1]:3000"), id="by IPv6"),
        pytest.param(asked("GET", "/runs?view=all", **{"host": "localhost:8443"}), id="through ssh -L to another port"),
        pytest.param(asked("POST", "/graphql", origin=f"http://{OWN}", **JSON), id="what the UI asks"),
        pytest.param(asked("POST", "/graphql", content_type="application/json; charset=utf-8"), id="with a charset"),
        pytest.param(asked("POST", "/graphql?op=Runs", sec_fetch_site="same-origin", **JSON), id="named operation"),
        pytest.param(asked("POST", "/graphql", **JSON), id="a program on this machine"),
        pytest.param(asked("GET", "/graphql"), id="GraphiQL"),
        pytest.param(asked("GET", "/graphql", True, origin=f"http://{OWN}"), id="its websocket"),
        pytest.param(asked("GET", "/runs", **PAGE), id="a link followed from another site"),
        pytest.param(asked("GET", "/", sec_fetch_site="none"), id="an address typed in"),
    ],
)  # fmt: skip
def test_what_the_ui_and_its_users_do_passes(request_: Asked) -> None:
    assert refusal(request_) is None


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(asked("GET", "/", host="evil.example"), 403, id="foreign host"),
        pytest.param(asked("GET", "/", host="evil.example:3000"), 403, id="rebound name"),
        pytest.param(asked("GET", "/", host="127.0.0.1.evil.example"), 403, id="own address in a foreign name"),
        pytest.param(asked("GET", "/", host="localhost.evil.example:3000"), 403, id="own name in a foreign one"),
        pytest.param(asked("GET", "/", host="evil.example@127.0.0.1"), 403, id="user part"),
        pytest.param(asked("GET", "/", host="127.0.0.1:3000\tx"), 403, id="more after it"),
        pytest.param(asked("GET", "/", host=""), 403, id="no host"),
        pytest.param(asked("POST", "/graphql", origin="https://evil.example", **JSON), 403, id="foreign origin"),
        pytest.param(asked("POST", "/graphql", origin="null", **JSON), 403, id="origin of a sandboxed frame"),
        pytest.param(asked("POST", "/graphql", origin="http://127.0.0.1:8888", **JSON), 403, id="another port"),
        pytest.param(asked("POST", "/graphql", origin="http://localhost:3000", **JSON), 403, id="another name"),
        pytest.param(asked("POST", "/graphql", origin=f"http://{OWN}.evil.example", **JSON), 403, id="longer origin"),
        pytest.param(asked("GET", "/graphql", True, origin="https://evil.example"), 403, id="websocket of another site"),
        pytest.param(asked("GET", "/graphql", True, origin="null"), 403, id="websocket of a sandboxed frame"),
        pytest.param(asked("GET", "/graphql", True, host="evil.example"), 403, id="websocket to a rebound name"),
        pytest.param(asked("GET", "/logs/x", sec_fetch_site="cross-site"), 403, id="script tag"),
        pytest.param(asked("GET", "/", sec_fetch_site="same-site"), 403, id="another port, no origin"),
        pytest.param(asked("GET", "/", **PAGE | {"sec-fetch-dest": "iframe"}), 403, id="frame"),
        pytest.param(asked("GET", "/graphql?query=mutation{x}"), 405, id="mutation over GET"),
        pytest.param(asked("GET", "/graphql/?query=mutation{x}"), 405, id="with a slash at the end"),
        pytest.param(asked("GET", "/graphql?query={x}", **PAGE), 405, id="link to a query"),
        pytest.param(asked("HEAD", "/graphql"), 405, id="HEAD"),
        pytest.param(asked("PUT", "/graphql", **JSON), 405, id="PUT"),
        pytest.param(asked("POST", "/graphql?query=mutation{x}", content_type="text/plain"), 415, id="text"),
        pytest.param(asked("POST", "/graphql", content_type="text/plain; application/json"), 415, id="JSON in its parameters"),
        pytest.param(asked("POST", "/graphql", content_type="application/x-www-form-urlencoded"), 415, id="form"),
        pytest.param(asked("POST", "/graphql?query=mutation{x}"), 415, id="no type"),
        pytest.param(asked("POST", "/report_asset_materialization/a"), 415, id="report of an asset without a body"),
    ],
)  # fmt: skip
def test_what_a_page_of_another_site_can_do_is_refused(request_: Asked, status: int) -> None:
    refused = refusal(request_)

    assert refused is not None
    assert refused.status == status


@pytest.mark.parametrize("header", ["host", "origin", "content-type"])
def test_a_header_that_comes_twice_is_refused(header: str) -> None:
    values = {"host": OWN, "origin": f"http://{OWN}", "content-type": "application/json"}
    raw = [(name.encode(), value.encode()) for name, value in [*values.items(), (header, values[header])]]

    assert refusal(Asked("POST", "/graphql", b"", Headers(raw=raw))) is not None


@pytest.mark.parametrize(
    ("request_", "passes"),
    [
        pytest.param(asked("POST", "/graphql", **JSON), True, id="a query, whose mutations Dagster refuses"),
        pytest.param(asked("POST", "/report_asset_materialization/a", **JSON), False, id="report of an asset"),
    ],
)
def test_a_read_only_ui_takes_queries_only(request_: Asked, passes: bool) -> None:
    assert (refusal(request_, read_only=True) is None) == passes


@pytest.fixture
def behind() -> tuple[TestClient, list[str]]:
    """A client of a guarded app, and what reached the app."""
    reached: list[str] = []

    async def page(request: Request) -> PlainTextResponse:
        reached.append((await request.body()).decode())
        return PlainTextResponse("here")

    async def socket(websocket: WebSocket) -> None:
        reached.append("socket")
        await websocket.accept()
        await websocket.send_text("here")
        await websocket.close()

    app = Starlette(routes=[Route("/graphql", page, methods=["GET", "POST"]), WebSocketRoute("/graphql", socket)])
    return TestClient(Guard(app), base_url=f"http://{OWN}"), reached


def test_what_passes_arrives_whole_and_no_other_site_may_frame_the_answer(behind: tuple[TestClient, list[str]]) -> None:
    client, reached = behind

    answer = client.post("/graphql", json={"query": "{x}"})

    assert (answer.text, answer.headers["x-frame-options"]) == ("here", "SAMEORIGIN")
    assert reached == ['{"query":"{x}"}']


def test_what_is_refused_never_arrives_and_says_why(behind: tuple[TestClient, list[str]]) -> None:
    client, reached = behind

    answer = client.post("/graphql", json={}, headers={"origin": "https://evil.example"})

    assert answer.status_code == 403
    assert answer.text == "a page of another site asked this UI for something; open the UI itself in a tab of its own\n"
    assert reached == []


def test_a_websocket_passes_from_the_ui_only(behind: tuple[TestClient, list[str]]) -> None:
    client, reached = behind
    with client.websocket_connect("/graphql", headers={"origin": f"http://{OWN}", "host": OWN}) as socket:
        assert socket.receive_text() == "here"
    reached.clear()

    foreign = {"origin": "https://evil.example", "host": OWN}
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/graphql", headers=foreign):
        pass

    assert denied.value.status_code == 403
    assert reached == []
