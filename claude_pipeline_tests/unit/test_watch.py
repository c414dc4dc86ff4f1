"""The live table fits whatever screen it is given, and says most urgent things first."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from claude_pipeline.alert import Sla
from claude_pipeline.cli.live import Flight, Lane, Live, Way, next_of
from claude_pipeline.cli.watch import page, plain
from claude_pipeline.controller import Situation
from claude_pipeline.progress import sentence
from claude_pipeline_tests.conftest import NOW


def way(name: str) -> Way:
    return Way(
        name, "2026-11-22.1", "planned", 3_000, 3_000, 1_200, {"done": 12, "live": 18}, 0.0142, 2.5, at_rest=False
    )


def flight(number: int) -> Flight:
    sla = Sla.WARNED if number == 0 else Sla.IN_TIME
    return Flight(
        f"msgbatch_{number:024d}", "notes", f"2026-11-22.1|r1-{number:04d}", 100, 19.0 - number, 5.0 + number, sla
    )


BUSY = Live(
    at=NOW,
    stopped="nothing is sent since 2026-11-22 14:00 UTC: Your credit balance is too low; mend it, then `resume`",
    ways=tuple(way(f"workload_{n}") for n in range(30)),
    lanes=tuple(Lane(f"workload_{n}", "batch", "claude-haiku-5-5", 3, 300, 12.5, 400.0, 90.0, True) for n in range(30)),
    flights=tuple(flight(n) for n in range(200)),
    notes=("notes: 27 chunks are held by the budget: would pass budget_usd: $0.0092 committed",),
    next=("notes: waits for 18 batches at the API; the oldest has 5 h 0 min left",),
    alerts=("11-22 14:02 sla_warned: notes: batch msgbatch_0 has run for 19 h 0 min",),
)
QUIET = replace(
    BUSY,
    stopped=None,
    ways=(way("notes"),),
    lanes=(replace(BUSY.lanes[0], workload="notes"),),
    flights=BUSY.flights[:1],
    notes=(),
    alerts=(),
)
EMPTY = Live(NOW, None, (), (), (), (), (), ())


def drawn(live: Live, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(page(live, "/data/home", width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    "live", [pytest.param(BUSY, id="busy"), pytest.param(QUIET, id="quiet"), pytest.param(EMPTY, id="empty")]
)
@pytest.mark.parametrize("size", [(80, 24), (140, 40), (200, 60), (60, 24)], ids=str)
def test_it_fits_the_screen(live: Live, size: tuple[int, int]) -> None:
    lines = drawn(live, *size)
    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]


# Bold, underlined, red, magenta, and the end of each. Green, yellow, cyan and white vanish on one ground or the other, and
# what is dim on a light one.
CALM_CODES = {"0", "1", "4", "31", "35"}


def test_colours_show_on_light_and_dark_and_nothing_is_dim() -> None:
    at_rest = replace(BUSY, ways=(replace(way("notes"), at_rest=True),))
    console = Console(file=io.StringIO(), width=140, height=60, force_terminal=True, color_system="standard")
    console.print(page(at_rest, "/data/home", 140, 60))
    assert isinstance(console.file, io.StringIO)
    codes = {code for found in re.findall(r"\x1b\[([\d;]*)m", console.file.getvalue()) for code in found.split(";")}
    assert {"31", "35"} < codes <= CALM_CODES
    assert "at rest: 12 done, 18 live" in console.file.getvalue()  # said in words, not by a fainter ink


def test_what_does_not_fit_is_counted_and_the_batch_with_least_time_left_stays() -> None:
    lines = drawn(BUSY, 80, 40)
    text = "\n".join(lines)
    assert "STOPPED: nothing is sent" in text
    assert any("r1-0000" in line and "WARNED" in line for line in lines)
    assert [line for line in lines if line.startswith("+") and line.rstrip().endswith("more")]


@pytest.mark.parametrize("width", [80, 140])
def test_numbers_are_whole_at_both_widths(width: int) -> None:
    text = "\n".join(drawn(QUIET, width, 40))
    for figure in ("1,200/3,000  40%", "$0.0142 of $2.50", "300 in 3 batches", "~12.5", "19 h 00 min", "5 h 00 min"):
        assert figure in text


def test_a_log_gets_one_line_per_snapshot() -> None:
    assert plain(QUIET) == [
        "2026-11-22 14:30:00 notes 2026-11-22.1: 1,200/3,000  40% done, $0.0142 of $2.50, ~12.5 requests/min; "
        "waits for 18 batches at the API; the oldest has 5 h 0 min left"
    ]
    assert plain(EMPTY) == ["2026-11-22 14:30:00 nothing has run yet"]


def situation(**changes: object) -> Situation:
    fields: dict[str, object] = {
        "workload": "notes", "progress": (), "sendable": 0, "waiting_for_room": 0, "held": 0, "held_that_fit": 0,
        "wall": None, "in_flight": 0, "in_flight_requests": 0, "doubtful": 0, "ended": 0, "failed": 0,
        "next_expiry": None,
    }  # fmt: skip
    return Situation(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "next_thing"),
    [
        pytest.param({"sendable": 3}, "3 chunks to be sent, by the sensor or by `run`", id="to-send"),
        pytest.param(
            {"ended": 1, "in_flight": 2}, "1 ended batch to be collected, by the sensor or by `run`", id="to-collect"
        ),
        pytest.param({"in_flight": 2}, "waits for 2 batches at the API", id="at-the-api"),
        pytest.param({"stopped": "no credit", "sendable": 3}, "waits for the account", id="stopped"),
        pytest.param({"wall": "would pass budget_usd", "held": 3}, "waits for the budget's wall", id="walled"),
    ],
)
def test_the_next_thing_is_what_the_controller_would_do(now: dict[str, object], next_thing: str) -> None:
    assert next_of(situation(**now), NOW) == next_thing


@pytest.mark.parametrize(
    ("done", "total", "seconds", "said"),
    [
        pytest.param(5_000, None, 0.2, "loading: 5,000 records", id="too-early-for-a-rate"),
        pytest.param(450_000, None, 10, "loading: 450,000 records, 45,000/s", id="of-an-unknown-number"),
        pytest.param(
            450_000, 900_000, 10, "loading: 450,000 of 900,000 records, 45,000/s, 10 s left", id="with-time-left"
        ),
        pytest.param(10, 130, 10, "loading: 10 of 130 records, 60/min, 2 min 0 s left", id="slow"),
    ],
)
def test_progress_has_a_rate_and_the_time_left(done: int, total: int | None, seconds: float, said: str) -> None:
    assert sentence("loading", done, total, "records", seconds, done) == said
