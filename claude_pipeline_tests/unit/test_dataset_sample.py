"""The sample dataset is what its script makes, and is as its README says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline_tests.dataset_factory import records_in, records_of, snapshot_of

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
COLUMNS = ["ticket_id", "created_at", "channel", "language", "customer", "subject", "body", "tags"]


@pytest.fixture(scope="module")
def tickets() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLE / "tickets.jsonl").read_bytes().splitlines()]


def test_the_committed_file_is_what_the_script_makes(tmp_path: Path) -> None:
    made = tmp_path / "made.jsonl"
    subprocess.run([sys.executable, str(SAMPLE / "make_tickets.py"), str(made)], check=True, capture_output=True)
    assert made.read_bytes() == (SAMPLE / "tickets.jsonl").read_bytes()


def test_every_ticket_has_the_columns_an_own_id_and_a_body(tickets: list[dict[str, Any]]) -> None:
    assert len(tickets) == 1_200
    assert all(list(ticket) == COLUMNS for ticket in tickets)
    assert len({ticket["ticket_id"] for ticket in tickets}) == 1_200
    assert all(ticket["body"].strip() for ticket in tickets)
    assert (SAMPLE / "tickets.jsonl").stat().st_size < 1_200_000


def test_forty_tickets_ask_the_same_and_all_others_differ(tickets: list[dict[str, Any]]) -> None:
    times = Counter((ticket["subject"], ticket["body"]) for ticket in tickets)
    assert sorted(times.values())[-2:] == [1, 40]


def test_the_tickets_are_as_untidy_as_the_readme_says(tickets: list[dict[str, Any]]) -> None:
    bodies = [ticket["body"] for ticket in tickets]
    for awkward in (
        "\n",
        "\r\n",
        "\u2028",
        '"',
        "\\",
        "<p>",
        "{{ ",
        "{x}",
        "😡",
        "\u200d",
        "ا",
        "ж",
        "の",
        "\t",
        "=HYPER",
    ):
        assert sum(awkward in body for body in bodies) >= 3, awkward
    assert sum(8_000 < len(body.encode()) < 21_000 for body in bodies) == 5
    assert len({ticket["language"] for ticket in tickets}) == 8
    for column in ("channel", "customer", "tags"):
        assert 0 < sum(ticket[column] is None for ticket in tickets) < 120
    assert 10 < sum(ticket["subject"] == "" for ticket in tickets) < 60


def test_a_snapshot_of_the_sample_holds_every_ticket_exactly(tmp_path: Path, tickets: list[dict[str, Any]]) -> None:
    assert records_in(tmp_path, path=str(SAMPLE / "tickets.jsonl"), id="ticket_id") == tickets
    without_id = snapshot_of(tmp_path, path=str(SAMPLE / "tickets.jsonl"))
    assert len({record["record_id"] for record in records_of(without_id)}) == 1_200
