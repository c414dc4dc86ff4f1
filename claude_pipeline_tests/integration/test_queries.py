"""The questions in `data/queries.sql`, asked of the sample workload's warehouse; the README quotes the first ten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from claude_pipeline.catalog import load
from claude_pipeline.home import Home
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import Ledger
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload_file import read_workload
from claude_pipeline_tests.conftest import MovableClock, messages_of
from claude_pipeline_tests.integration.warehouse_case import run

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = [
    text.strip()
    for text in re.split(r"\n(?=-- \d+\. )", (ROOT / "data" / "queries.sql").read_text(encoding="utf-8"))[1:]
]
QUOTED = 10
BEGIN, END = "<!-- queries: begin -->", "<!-- queries: end -->"


@pytest.fixture(scope="module")
def warehouse(
    tmp_path_factory: pytest.TempPathFactory, simulator_server: Simulator, simulator_client: BatchClient
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The first 150 tickets on two days, some without an answer."""
    simulator_server.reset()
    simulator_server.faults.add(kind="line_error", share=0.1, error_type="invalid_request_error", message="too odd")
    root = tmp_path_factory.mktemp("queries")
    tickets = read_workload(ROOT / "claude_pipeline" / "defs" / "tickets" / "defs.yaml")
    rows = (ROOT / "data" / "sample" / "tickets.jsonl").read_text(encoding="utf-8").split("\n")[:150]
    (root / "tickets.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    dataset = tickets.dataset.model_copy(update={"path": str(root / "tickets.jsonl")})
    home = Home(root / "home")
    home.root.mkdir()
    with Ledger.open(None, path=home.ledger) as ledger:
        desk = Desk(Settings(home), ledger, load(), simulator_client, MovableClock(), messages_of(simulator_server))
        for partition in ("2026-11-21", "2026-11-22"):
            prompt = f"{tickets.prompt}\nToday is {partition}."
            run(desk, tickets.model_copy(update={"dataset": dataset, "prompt": prompt}), simulator_server, partition)
    with duckdb.connect(str(home.warehouse.resolve()), read_only=True) as duck:
        yield duck


def test_there_are_twenty() -> None:
    assert [int(text.split(".")[0].removeprefix("-- ")) for text in QUESTIONS] == list(range(1, 21))


@pytest.mark.parametrize("question", QUESTIONS, ids=[text.split("\n")[0][3:60] for text in QUESTIONS])
def test_each_has_an_answer(warehouse: duckdb.DuckDBPyConnection, question: str) -> None:
    assert len(warehouse.execute(question).fetchall()) > 0


def test_the_readme_quotes_the_first_ten() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert BEGIN in readme
    quoted = readme.partition(BEGIN)[2].partition(END)[0]
    assert "\n\n".join(QUESTIONS[:QUOTED]) in quoted
