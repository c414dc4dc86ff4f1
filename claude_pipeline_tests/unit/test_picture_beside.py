"""Pictures drawn by another process are those drawn here, and one that dies costs none of them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import orjson
import pytest

from claude_pipeline.picture import CostDay, Flow
from claude_pipeline.picture.beside import MODULE, DrawingProcess, drawn_beside, pictures_of, serve
from claude_pipeline.picture.summary import SummaryRows, draw_summary

NINE = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
ROWS = SummaryRows(
    [Flow(NINE + timedelta(minutes=n), "batch", 120.0, 9_000.0, n > 3) for n in range(9)],
    [CostDay(date(2026, 11, day), 'haïku "5"', day / 10) for day in (1, 2)],
    [0.02, 1.5, 26.0],
    600,
)


@pytest.fixture
def process() -> Iterator[DrawingProcess]:
    process = DrawingProcess()
    yield process
    process.end()


def test_rows_come_back_from_json_as_they_were() -> None:
    assert SummaryRows.from_json(ROWS.to_json()) == ROWS


@pytest.mark.parametrize("rows", [ROWS, SummaryRows([], [], [], 300)], ids=["some", "none"])
def test_each_line_of_rows_is_answered_by_its_pictures(rows: SummaryRows) -> None:
    drawn = io.BytesIO()
    serve(io.BytesIO(rows.to_json() + b"\n" + ROWS.to_json() + b"\n"), drawn)
    assert [orjson.loads(line) for line in drawn.getvalue().splitlines()] == [draw_summary(rows), draw_summary(ROWS)]


def test_another_process_draws_the_same_again_and_again(process: DrawingProcess) -> None:
    assert process.draw(ROWS) == process.draw(ROWS) == draw_summary(ROWS)


def test_of_one_that_died_nothing_comes(process: DrawingProcess) -> None:
    os.kill(process.id, signal.SIGKILL)
    assert process.draw(ROWS) is None
    assert process.draw(ROWS) is None


def test_a_row_without_a_json_form_is_left_to_whoever_asks(process: DrawingProcess) -> None:
    assert process.draw(SummaryRows([], [CostDay(date(2026, 11, 1), "haiku", Decimal("0.1"))], [], 600)) is None  # type: ignore[arg-type]


def test_it_ends_with_whoever_could_ask() -> None:
    with subprocess.Popen([sys.executable, "-m", MODULE], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        with closing(process.stdin):
            assert process.poll() is None
        assert process.wait(60) == 0


def test_where_matplotlib_is_imported_no_process_starts() -> None:
    import matplotlib.figure  # noqa: F401  what it is about

    with drawn_beside() as process:
        assert process is None
        assert pictures_of(ROWS) == draw_summary(ROWS)


def test_a_process_that_has_no_matplotlib_draws_beside_and_after_a_death_here() -> None:
    """In a Python of its own, as this one has imported it."""
    code = f"""
import os, signal, sys
from claude_pipeline.picture.beside import drawn_beside, pictures_of
from claude_pipeline.picture.summary import SummaryRows
rows = SummaryRows.from_json({ROWS.to_json()!r})
with drawn_beside() as process:
    beside = pictures_of(rows)
    assert "matplotlib" not in sys.modules
    os.kill(process.id, signal.SIGKILL)
    here = pictures_of(rows)
assert "matplotlib" in sys.modules
assert list(beside) == ["throughput", "cost_by_day", "batch_turnaround"]
assert beside == here == pictures_of(rows)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_where_no_process_can_start_they_are_drawn_here() -> None:
    code = f"""
import resource, sys
from claude_pipeline.picture.beside import drawn_beside, pictures_of
from claude_pipeline.picture.summary import SummaryRows
open_files = len(__import__("os").listdir("/proc/self/fd"))
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, most))  # no pipe to be had
with drawn_beside() as process:
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    assert process is None
    assert list(pictures_of(SummaryRows.from_json({ROWS.to_json()!r}))) == ["throughput", "cost_by_day", "batch_turnaround"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
