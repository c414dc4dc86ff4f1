"""Which earlier snapshots a new one rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from claude_pipeline.ledger import SnapshotId, SnapshotRow
from claude_pipeline.stage.load import chain_before
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import snapshot_row


def snapshot(day: int, number: int = 1, *, base: int | str | None = None, column: str = "at") -> SnapshotRow:
    """A snapshot of November that is planned; `base` is the day (or id) of the one it rests on."""
    partition = f"2026-11-{day:02d}"
    rests_on = f"2026-11-{base:02d}.1" if isinstance(base, int) else base
    return snapshot_row(
        id=SnapshotId(f"{partition}.{number}"), partition=partition, number=number, planned_at=NOW,
        watermark_column=column, watermark_type="whole number", watermark_value=str(day), watermark_base=rests_on,
    )  # fmt: skip


def chain(snapshots: list[SnapshotRow], day: int) -> list[SnapshotId]:
    return [each.id for each in chain_before(snapshots, f"2026-11-{day:02d}", "at")]


NIGHTS = [snapshot(20), snapshot(21, base=20), snapshot(22, base=21)]

UNSURE: list[Any] = [
    pytest.param({"planned_at": None}, id="refused-before-its-plan"),
    pytest.param({"pilot": 5}, id="a-pilot"),
    pytest.param({"canceled_at": NOW}, id="canceled"),
]


def test_a_snapshot_rests_on_the_newest_of_an_earlier_partition() -> None:
    assert chain(NIGHTS, 23) == ["2026-11-22.1", "2026-11-21.1", "2026-11-20.1"]
    assert chain(NIGHTS, 22) == ["2026-11-21.1", "2026-11-20.1"]
    assert chain(NIGHTS, 20) == []


def test_the_last_of_a_partition_is_newer_whatever_its_number_has_for_digits() -> None:
    assert chain([snapshot(20, n) for n in (10, 9)], 21) == ["2026-11-20.10"]


@pytest.mark.parametrize("change", UNSURE)
def test_a_snapshot_whose_records_may_never_be_asked_is_no_base(change: dict[str, Any]) -> None:
    assert chain([*NIGHTS[:2], replace(NIGHTS[2], **change)], 23) == ["2026-11-21.1", "2026-11-20.1"]


@pytest.mark.parametrize("change", UNSURE)
def test_neither_is_what_rests_on_such_a_one(change: dict[str, Any]) -> None:
    assert chain([NIGHTS[0], replace(NIGHTS[1], **change), NIGHTS[2]], 23) == ["2026-11-20.1"]


@pytest.mark.parametrize("other", [snapshot(22, column="other"), snapshot(22, column="at", base="gone.1")])
def test_another_column_or_an_unknown_base_begins_anew(other: SnapshotRow) -> None:
    assert chain([other], 23) == []


def test_a_snapshot_read_in_full_is_no_base() -> None:
    assert chain([replace(snapshot(22), watermark_column=None)], 23) == []
