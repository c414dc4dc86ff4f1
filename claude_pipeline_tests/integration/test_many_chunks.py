"""A tick asks a ledger of many chunks no more often than one of few, and by its indexes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from claude_pipeline.ledger import Ledger
from claude_pipeline.stage.desk import Desk
from claude_pipeline_tests.benchmark.many_chunks import fill, look_at, plans, statements
from claude_pipeline_tests.factory import make_workload

GROWING = ("chunk", "intent", "batch", "spend", "part", "event", "snapshot", "snapshot_wait")


@pytest.fixture
def asked(desk: Desk, ledger: Ledger) -> Counter[tuple[str, Any]]:
    """What a tick asks of a ledger with 600 chunks, half of them collected."""
    fill(ledger, 600)
    with statements(ledger) as found:
        look_at(desk, make_workload(lane="batch"))
    return found


def test_a_tick_reads_no_growing_table_from_end_to_end(asked: Counter[tuple[str, Any]], ledger: Ledger) -> None:
    steps = [step for lines in plans(ledger, asked).values() for step in lines]
    assert any(step.startswith("SEARCH chunk USING") for step in steps)
    assert [step for step in steps if step.startswith("SCAN") and step.split()[1] in GROWING] == []


def test_a_tick_asks_a_fixed_number_of_questions(asked: Counter[tuple[str, Any]]) -> None:
    assert sum(asked.values()) < 60
