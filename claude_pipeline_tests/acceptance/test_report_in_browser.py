"""The report of a real, simulated run, opened in a browser: on a desk and on a phone, by day and by night, on paper."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from claude_pipeline.home import Home
from claude_pipeline.report_page import (
    choose_other,
    choose_snapshot,
    read_snapshot,
    read_workload_facts,
    snapshot_page,
    workload_page,
)
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import Options, running
from claude_pipeline.stage.desk import Desk, open_desk
from claude_pipeline_tests.acceptance.test_dagster_dev import CHROMIUM_FLAGS
from claude_pipeline_tests.conftest import BATCH_SECONDS, NOW, MovableClock, client_of
from claude_pipeline_tests.factory import note, workload_over, write_dataset
from claude_pipeline_tests.integration.choice_case import TOMORROW, runner

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
NASTY = "<script>document.title='taken'</script><img src=http://203.0.113.1/x onerror=alert(1)> \u202egnp\u2066 شكرا 😀"
SCHEMA = {
    "type": "object",
    "properties": {"queue": {"type": "string", "enum": ["billing", "technical"]}, "reason": {"type": "string"}},
    "required": ["queue", "reason"],
}
CONTRAST_LEAST = 4.5
# Contrast of each text with the nearest ground behind it; [contrast, text] of the faintest.
FAINTEST = """() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const clear = c => c === 'rgba(0, 0, 0, 0)' || c === 'transparent';
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!clear(c)) return c; }
      return 'rgb(255, 255, 255)'; };
  let worst = [99, ''];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), ink = e instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(ink), light(ground(e))], ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst[0]) worst = [ratio, e.textContent.trim().slice(0, 60)];
  }
  return worst; }"""


@dataclass
class Seen:
    """A page in a browser, and all that it complained of or asked for."""

    page: Any
    trouble: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Two snapshots with errors, labels and harmful texts; the second compared with the first."""
    root = tmp_path_factory.mktemp("report")
    clock, home = MovableClock(), Home(root / "home")
    options = Options(
        batch_seconds=(BATCH_SECONDS, BATCH_SECONDS), paused=True, start=NOW, seed=7, permanent_error_rate=0.05
    )
    rows = [note(n) | {"truth": ["billing", "technical"][n % 2]} for n in range(60)]
    rows += [
        {"id": f"{NASTY} {n}", "text": f"{NASTY} {n} {'x' * 100_000 * (n == 0)}", "truth": NASTY} for n in range(8)
    ]
    workload = workload_over(
        root, rows, output=SCHEMA, labels="truth", lane="batch", prompt=f"{NASTY[:40]} {{{{ text }}}}"
    )
    with (
        running(options) as simulator,
        open_desk(Settings(home, settle_seconds=1), client=client_of(simulator), clock=clock) as desk,
    ):
        run = runner(desk, simulator, clock)
        run(workload)
        write_dataset(root / "notes.jsonl", rows[5:])
        run(workload.model_copy(update={"model": "claude-sonnet-5-5"}), TOMORROW)
        yield _written(desk, workload, root)


def _written(desk: Desk, workload: Any, folder: Path) -> dict[str, Path]:
    chosen = choose_snapshot(desk, workload, None)
    facts = read_snapshot(desk, workload, chosen, choose_other(desk, workload, chosen, None))
    made = {"snapshot": snapshot_page(facts), "workload": workload_page(read_workload_facts(desk, workload))}
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


def opened(browser: Any, path: Path, width: int, scheme: Literal["light", "dark"]) -> Seen:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen = Seen(page)
    page.on("console", lambda message: seen.trouble.append(message.text))
    page.on("pageerror", lambda error: seen.trouble.append(str(error)))
    page.on("requestfailed", lambda request: seen.trouble.append(request.url))
    page.on("request", lambda request: seen.asked.append(request.url))
    page.goto(path.as_uri())
    return seen


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["snapshot", "workload"])
def test_a_report_fits_asks_for_nothing_and_can_be_read(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: Literal["light", "dark"], tmp_path: Path
) -> None:
    seen = opened(browser, pages[name], width, scheme)

    seen.page.screenshot(path=tmp_path / "report.png", full_page=True)
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    assert (seen.trouble, [url for url in seen.asked if not url.startswith(("file:", "data:"))]) == ([], [])
    assert seen.page.title().startswith("notes")
    faintest, text = seen.page.evaluate(FAINTEST)
    assert faintest >= CONTRAST_LEAST, text
    shown = seen.page.locator("figure svg:visible")
    assert shown.count() == seen.page.locator("figure").count() >= 3
    assert all((shown.nth(n).bounding_box() or {})["width"] <= width for n in range(shown.count()))
    seen.page.close()


def test_what_is_folded_opens(browser: Any, pages: dict[str, Path]) -> None:
    seen = opened(browser, pages["snapshot"], 390, "light")

    fold = seen.page.locator("details.fold").first
    fold.locator("summary").click()

    assert "more characters are not shown" in fold.inner_text()
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
    seen.page.close()


def test_a_report_prints(browser: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    seen = opened(browser, pages["snapshot"], 1280, "dark")

    seen.page.pdf(path=tmp_path / "report.pdf", format="A4")
    seen.page.emulate_media(media="print")

    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert seen.page.locator("nav").is_hidden()
    seen.page.close()
