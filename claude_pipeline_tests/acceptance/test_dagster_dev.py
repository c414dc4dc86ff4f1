"""Real Dagster: webserver, daemon and code location as processes, against the simulator.

One `dagster dev` serves all tests of this module. Workload `hand` is launched as a person does,
in a browser where there is one; workload `minutely` by its schedule; `broken` cannot be loaded. Until
rows are added some of `hand`'s lines come back errored, and are asked again.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import websockets

from claude_pipeline.cli.dagster_dev import DagsterDev
from claude_pipeline.home import Home
from claude_pipeline.ledger import Ledger
from claude_pipeline.simulator import Options, running
from claude_pipeline_tests.acceptance.dev_site import LAUNCH, Site, until, write_rows, write_workload

pytestmark = pytest.mark.acceptance
CHROMIUM = shutil.which("chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ERRING_MODEL, SOUND_MODEL = "claude-haiku-5-5", "claude-sonnet-5"
ASSETS = """query { assetNodes { assetKey { path } groupName description } }"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    data, folder, home = root / "data", root / "workloads", Home(root / "home")
    data.mkdir()
    write_rows(data / "hand.csv", 50)
    write_rows(data / "minutely.csv", 30)
    write_workload(folder, "hand", data, model=ERRING_MODEL)
    write_workload(folder, "minutely", data, schedule="* * * * *", partition="hourly", model=SOUND_MODEL)
    write_workload(folder, "broken", data, modle="claude-haiku-5-5")
    with running(Options(speed=300, batch_seconds=(60, 180), seed=5)) as simulator:
        simulator.faults.add(kind="line_error", share=0.05, attempts=1, model=ERRING_MODEL)
        environment = {
            "ANTHROPIC_BASE_URL": simulator.base_url,
            "ANTHROPIC_API_KEY": simulator.api_key,
            "CLAUDE_PIPELINE_DEFS": str(folder),
            "CLAUDE_PIPELINE_TICK_SECONDS": "2",
        }
        with DagsterDev(home, environment=environment) as dagster:
            dagster.wait_until_ready()
            yield Site(dagster, home, simulator, data)


def launch_in_the_browser(site: Site, shots: Path) -> None:
    """Materialize > Latest > Launch on the first asset, by clicks."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(f"{site.dagster.url}/assets/hand/requests?view=partitions")
        page.get_by_role("button", name=re.compile("Materialize")).first.click()
        dialog = page.locator(".bp5-portal").filter(has_text="Launch runs to materialize")
        dialog.get_by_role("button", name="Latest").click()
        dialog.get_by_role("button", name=re.compile("Launch")).click()
        page.wait_for_timeout(2_000)
        page.screenshot(path=shots / "launched.png")
        browser.close()


def test_launching_the_first_asset_fills_the_warehouse(site: Site, tmp_path: Path) -> None:
    if CHROMIUM:
        launch_in_the_browser(site, tmp_path)
    else:
        site.materialize_requests("hand")

    found = until(
        lambda: site.rows("SELECT count(*), count(kind), count(DISTINCT record_id) FROM hand.results"), "published"
    )

    assert found == [(50, 50, 50)]
    assert site.materialized("hand", "batches") == site.materialized("hand", "results") >= 3
    assert (site.materialized("hand", "merged"), site.materialized("hand", "summary")) == (1, 1)


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_the_failed_records_of_a_batch_are_three_clicks_away(site: Site, tmp_path: Path) -> None:
    """The catalogue says what runs and what is missing; the newest results lead to the records and their errors."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(site.dagster.url)
        page.get_by_role("link", name="Catalog").first.click()
        page.locator('a[href="/assets/hand/results"]').first.click()
        page.get_by_role("link", name=re.compile(r"\d+ of \d+ in r1-")).first.click()
        page.get_by_text("failed_records").first.wait_for()
        page.get_by_text(re.compile("overloaded_error: ")).first.wait_for()
        page.screenshot(path=tmp_path / "failed.png")
        assert "/assets/hand/results?view=partitions&partition=" in page.url
        browser.close()


def raw(site: Site, method: str, target: str, body: str | None = None, **headers: str) -> int:
    """The status of a request whose headers are all ours, Host included."""
    named = {"Host": f"127.0.0.1:{site.dagster.port}"} | {n.replace("_", "-"): v for n, v in headers.items()}
    connection = HTTPConnection("127.0.0.1", site.dagster.port, timeout=30)
    try:
        connection.request(method, target, body, named)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        pytest.param("GET", {}, 405, id="mutation over GET"),
        pytest.param("GET", {"Host": "evil.example", "Origin": "http://evil.example"}, 403, id="as measured on Dagster"),
        pytest.param("POST", {"Content_Type": "text/plain"}, 415, id="simple POST with the mutation in its address"),
        pytest.param("POST", {"Content_Type": "application/json", "Origin": "http://evil.example"}, 403, id="foreign origin"),
        pytest.param("POST", {"Content_Type": "application/json", "Host": "evil.example"}, 403, id="rebound name"),
    ],
)  # fmt: skip
def test_a_forged_launch_starts_nothing(site: Site, method: str, headers: dict[str, str], status: int) -> None:
    before = site.launched()
    launch = {"query": LAUNCH, "variables": json.dumps({"p": site.execution("hand")})}
    in_address = "application/json" not in headers.values()

    target = f"/graphql?{urlencode(launch)}" if in_address else "/graphql"
    answer = raw(site, method, target, None if in_address else json.dumps(launch), **headers)

    assert answer == status
    assert site.launched() == before


async def first_words(site: Site, origin: str, query: str) -> dict[str, Any]:
    """What Dagster says first to a query over a websocket from a page of that origin."""
    address = f"ws://127.0.0.1:{site.dagster.port}/graphql"
    async with websockets.connect(address, origin=origin, subprotocols=["graphql-ws"]) as socket:  # type: ignore[arg-type,list-item]
        await socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await socket.recv()) == {"type": "connection_ack"}
        await socket.send(json.dumps({"type": "start", "id": "1", "payload": {"query": query}}))
        said: dict[str, Any] = json.loads(await socket.recv())
        return said


def test_live_updates_come_over_a_websocket_of_the_ui_only(site: Site) -> None:
    updates = "subscription { locationStateChangeEvents { event { eventType } } }"
    unknown = 'subscription { pipelineRunLogs(runId: "none", cursor: null) { __typename } }'

    assert asyncio.run(first_words(site, site.dagster.url, unknown))["type"] == "data"
    with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
        asyncio.run(first_words(site, "http://evil.example", updates))


def test_a_websocket_launches_nothing(site: Site) -> None:
    before = site.launched()

    assert asyncio.run(first_words(site, site.dagster.url, launching(site)))["type"] == "error"
    assert site.launched() == before


EVIL = """<img src="{ui}/graphql?query={launch}"><script>
  const launch = {body};
  const tries = [
    ["text/plain", "no-cors"], ["application/x-www-form-urlencoded", "no-cors"], ["application/json", "cors"],
  ].map(([type, mode]) => fetch("{ui}/graphql?query={launch}", {{method: "POST", mode, body: launch,
    headers: {{"content-type": type}}}}).catch(() => 0));
  const socket = new Promise((done) => {{
    const opened = new WebSocket("{ui}/graphql".replace("http", "ws"), "graphql-ws");
    opened.onopen = () => done("open"); opened.onerror = () => done("refused");
  }});
  Promise.all([...tries, socket]).then((all) => {{ document.title = "socket " + all[3]; }});
</script>"""


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_a_page_of_another_site_can_launch_nothing(site: Site) -> None:
    """In a real browser, with no guard of its own in the way: the page is on this machine, on another port."""
    from playwright.sync_api import sync_playwright

    before = site.launched()
    query = launching(site)
    page_text = EVIL.format(ui=site.dagster.url, launch=quote(query), body=json.dumps(json.dumps({"query": query})))
    with sync_playwright() as playwright, serving(page_text) as address:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        page = browser.new_page()
        statuses: list[int] = []
        page.on("response", lambda response: statuses.append(response.status))
        page.goto(address)
        page.wait_for_function("document.title.startsWith('socket')", timeout=60_000)
        title = page.title()
        browser.close()

    assert title == "socket refused"
    assert statuses.count(403) >= 3  # the image, text and form; for JSON the browser asks first, and is not allowed
    assert site.launched() == before


def launching(site: Site) -> str:
    """A launch as one document, for ways that take no variables."""
    params = as_graphql(site.execution("hand"))
    return f"mutation {{ launchPipelineExecution(executionParams: {params}) {{ __typename }} }}"


def as_graphql(value: Any) -> str:
    """A value as a GraphQL literal: names without quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {as_graphql(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_graphql(each) for each in value) + "]"
    return json.dumps(value)


@contextmanager
def serving(page: str) -> Iterator[str]:
    """A site of its own, on this machine, with one page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_a_schedule_tick_does_the_same(site: Site) -> None:
    found = until(lambda: site.rows("SELECT count(*), count(kind) FROM minutely.results"), "the schedule's results")

    assert found[0][0] in (30, 60)  # the hour may turn meanwhile: a partition, and so a snapshot, more
    assert site.asked("minutely") == 30  # the ticks of each minute since sent nothing again
    site.stop_schedules()  # each of its runs would take its seconds from those below


def test_added_rows_send_only_themselves(site: Site) -> None:
    site.simulator.faults.clear()
    write_rows(site.data / "hand.csv", 60)
    site.materialize_requests("hand")

    until(lambda: site.rows("SELECT count(*) FROM hand.latest") == [(60,)], "the added rows")

    assert site.asked("hand") == 60


def test_the_same_rows_send_nothing(site: Site) -> None:
    before = site.asked("hand")
    runs = 'query { runsOrError(filter: {pipelineName: "__ASSET_JOB", statuses: [SUCCESS]}) { ... on Runs { count } } }'
    finished = site.dagster.ask(runs, {})["runsOrError"]["count"]
    site.materialize_requests("hand")

    until(lambda: site.dagster.ask(runs, {})["runsOrError"]["count"] > finished, "the run's end")

    assert site.at_rest("hand")
    assert site.asked("hand") == before


def test_a_broken_workload_shows_itself_and_takes_no_other_down(site: Site) -> None:
    nodes = {"/".join(n["assetKey"]["path"]): n for n in site.dagster.ask(ASSETS, {})["assetNodes"]}

    assert "unknown field modle (did you mean model?)" in nodes["broken_workload/broken"]["description"]
    assert {"hand/requests", "minutely/summary", "tickets/requests", "warehouse"} <= nodes.keys()


def test_the_costs_equal_the_invoice(site: Site) -> None:
    until(lambda: site.at_rest("hand") and site.at_rest("minutely"), "rest")
    assert site.simulator.invoice()["billed_twice"] == 0

    with Ledger.open(None, path=site.home.ledger) as ledger:
        units = sum(c.cost_units or 0 for w in ("hand", "minutely") for c in ledger.chunks(w))
    assert units / 1e10 == pytest.approx(float(site.simulator.invoice()["total_usd"]), abs=1e-9)


def test_no_run_failed(site: Site) -> None:
    runs = "query { runsOrError(filter: {statuses: [FAILURE]}) { ... on Runs { results { jobName } } } }"
    assert site.dagster.ask(runs, {})["runsOrError"]["results"] == []


def test_the_graph_reads_as_the_journey(site: Site) -> None:
    nodes = site.dagster.ask("query { assetNodes { assetKey { path } dependencyKeys { path } } }", {})["assetNodes"]
    upstream = {"/".join(n["assetKey"]["path"]): {"/".join(d["path"]) for d in n["dependencyKeys"]} for n in nodes}

    assert upstream["hand/batches"] == {"hand/requests"}
    assert upstream["hand/results"] == {"hand/batches"}
    assert upstream["hand/merged"] == {"hand/results"}
    assert upstream["hand/summary"] == {"hand/merged"}
    assert upstream["warehouse"] == {"hand/summary", "minutely/summary", "tickets/summary"}


def test_no_key_and_nothing_of_a_record_is_in_what_dagster_keeps(site: Site) -> None:
    """Its databases, its logs and those of every run."""
    files = [path for path in site.home.dagster.rglob("*") if path.is_file()]
    words = (site.simulator.api_key.encode(), b"hand number", b"minutely number")

    assert any(path.name == "runs.db" for path in files)
    assert [path for path in files if any(word in path.read_bytes() for word in words)] == []
