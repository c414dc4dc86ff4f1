"""Nights over an append-only table: each sends what is new, and together they send everything once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.draft import drafted
from claude_pipeline.stage.prepare import Prepared, prepare, spec_digest
from claude_pipeline.stage.publish import publish
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS
from claude_pipeline_tests.factory import asked, make_workload
from claude_pipeline_tests.integration.increment_case import SOURCES, Row, Write, write_jsonl, write_parquet


def rows(first: int, last: int, day: int) -> list[Row]:
    return [{"id": n, "text": f"note {n}", "at": f"2026-11-{day:02d}"} for n in range(first, last)]


@dataclass
class Nights:
    """A workload whose table grows from night to night."""

    desk: Desk
    simulator: Simulator
    folder: Path
    write: Write
    changes: dict[str, Any] = field(default_factory=dict)
    billed: int = 0

    def workload(self, table: list[Row], **dataset: Any) -> Workload:
        found = {"id": "id", "watermark": "at", **self.write(self.folder, table), **dataset}
        return make_workload(dataset={k: v for k, v in found.items() if v is not None}, **self.changes)

    def run(self, day: int, table: list[Row], **dataset: Any) -> int:
        """Answer the partition; returns how many requests that sent."""
        workload = self.workload(table, **dataset)
        drive.run(self.desk, workload, self.wait, partition=f"2026-11-{day:02d}", publishes=False)
        before, self.billed = self.billed, self.simulator.invoice()["billed_requests"]
        return self.billed - before

    def wait(self) -> None:
        self.simulator.clock.advance(BATCH_SECONDS)

    def prepare(self, day: int, table: list[Row], *, pilot: int | None = None) -> Prepared:
        return prepare(self.desk, self.workload(table), f"2026-11-{day:02d}", pilot=pilot)

    def records(self) -> dict[str, int]:
        return {snapshot.id: snapshot.records for snapshot in self.desk.ledger.snapshots("notes")}

    def answered(self, view: str = "results") -> list[int]:
        found = self.asked(f"SELECT id::INT FROM notes.{view} WHERE outcome = 'succeeded' ORDER BY 1")
        return [number for (number,) in found]

    def asked(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the warehouse, with all nights so far."""
        if self.desk.ledger.unpublished("notes"):
            publish(self.desk)
        return asked(self.desk, sql)


@pytest.fixture
def nights(desk: Desk, simulator: Simulator, tmp_path: Path) -> Nights:
    return Nights(desk, simulator, tmp_path, write_jsonl)


ONE, TWO, THREE = rows(0, 23, 20), rows(23, 30, 21), rows(30, 34, 22)


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("reuse", [True, False], ids=["reuse", "no-reuse"])
def test_each_night_sends_what_is_new(
    write: Write, reuse: bool, desk: Desk, simulator: Simulator, tmp_path: Path
) -> None:
    nights = Nights(desk, simulator, tmp_path, write, {"reuse": reuse})
    sent = [nights.run(20, ONE), nights.run(21, ONE + TWO), nights.run(22, ONE + TWO + THREE)]
    assert sent == [23, 7, 4]
    assert nights.records() == {"2026-11-20.1": 23, "2026-11-21.1": 7, "2026-11-22.1": 4}
    assert nights.answered() == nights.answered("latest") == list(range(34))
    told = nights.asked("SELECT snapshot, watermark[:10], rests_on FROM ops.snapshots")
    assert told == [
        ("2026-11-20.1", "2026-11-20", None),
        ("2026-11-21.1", "2026-11-21", "2026-11-20.1"),
        ("2026-11-22.1", "2026-11-22", "2026-11-21.1"),
    ]


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_what_comes_late_with_an_equal_value_is_asked_once(
    write: Write, desk: Desk, simulator: Simulator, tmp_path: Path
) -> None:
    nights = Nights(desk, simulator, tmp_path, write, {"reuse": False})
    table = rows(0, 5, 20)
    assert nights.run(20, table) == 5
    for night in (21, 22, 23):  # the value stands still, so that the ties lie in several snapshots
        table += rows(len(table), len(table) + 2, 20)
        assert nights.run(night, table) == 2
    assert nights.run(24, table) == 0
    table += rows(len(table), len(table) + 1, 20)
    assert nights.run(25, table) == 1
    assert nights.answered() == list(range(12))


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_a_partition_taken_again_is_the_same_and_what_came_since(
    write: Write, desk: Desk, simulator: Simulator, tmp_path: Path
) -> None:
    nights = Nights(desk, simulator, tmp_path, write)
    nights.run(20, ONE)
    nights.run(21, ONE + TWO)
    assert nights.run(21, ONE + TWO) == 0
    assert nights.records() == {"2026-11-20.1": 23, "2026-11-21.1": 7}
    assert nights.run(21, ONE + TWO + THREE) == 4
    assert nights.records() == {"2026-11-20.1": 23, "2026-11-21.1": 7, "2026-11-21.2": 11}
    assert nights.run(22, ONE + TWO + THREE) == 0
    assert nights.answered("latest") == list(range(34))


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_a_night_without_anything_new_is_no_error(
    write: Write, desk: Desk, simulator: Simulator, tmp_path: Path
) -> None:
    nights = Nights(desk, simulator, tmp_path, write)
    columns = "SELECT column_name, column_type FROM (DESCRIBE notes.results)"
    assert nights.run(20, ONE) == 23
    before = nights.asked(columns)
    assert [nights.run(21, ONE), nights.run(22, ONE), nights.run(23, ONE + TWO)] == [0, 0, 7]
    assert list(nights.records().values()) == [23, 0, 0, 7]
    assert nights.answered() == list(range(30))
    assert nights.asked(columns) == before


def test_a_night_whose_file_holds_no_line_is_no_error(nights: Nights) -> None:
    assert [nights.run(20, ONE), nights.run(21, []), nights.run(22, TWO)] == [23, 0, 7]
    assert nights.answered() == list(range(30))


def test_a_first_snapshot_without_records_stays_refused(nights: Nights) -> None:
    nothing = {"path": None, "sql": "SELECT 1 AS id, 'a' AS text, '2026-11-20' AS at WHERE false"}
    with pytest.raises(DatasetInvalid, match="holds no records; set allow_empty"):
        nights.run(20, [], **nothing)
    assert nights.run(20, [], allow_empty=True, **nothing) == 0
    assert nights.run(21, ONE) == 23  # nothing is no base


def test_a_partition_that_was_left_out_reads_on_from_the_one_before_it(nights: Nights) -> None:
    nights.run(20, ONE)
    nights.run(22, ONE + TWO)
    assert nights.run(21, ONE + TWO + THREE) == 4  # the seven were answered on the 22nd
    assert nights.records() == {"2026-11-20.1": 23, "2026-11-21.1": 11, "2026-11-22.1": 7}
    assert nights.run(23, ONE + TWO + THREE) == 0
    assert nights.answered("latest") == list(range(34))


def test_a_plan_counts_only_what_is_new(nights: Nights) -> None:
    nights.run(20, ONE)
    with drafted(nights.desk, nights.workload(ONE + TWO), "2026-11-21") as draft:
        assert (draft.total, draft.counts.asked, draft.counts.reused) == (7, 7, 0)
    with drafted(nights.desk, nights.workload(ONE), "2026-11-21") as draft:
        assert (draft.total, draft.counts.asked) == (0, 0)
    assert list(nights.records()) == ["2026-11-20.1"]


def test_what_a_refused_night_read_is_read_by_the_next(nights: Nights) -> None:
    """Nothing of a snapshot with too many unusable records is sent: were it a base, its good ones never would be."""
    nights.run(20, ONE)
    bad = [*TWO[:-1], {**TWO[-1], "text": None}]
    with pytest.raises(DatasetInvalid, match="1 of 7 records"):
        nights.prepare(21, ONE + bad)
    assert nights.run(22, ONE + TWO + THREE) == 11
    assert nights.answered("latest") == list(range(34))


def test_what_a_pilot_left_unasked_is_asked_by_the_next_night(nights: Nights) -> None:
    nights.run(20, ONE)
    nights.prepare(21, ONE + TWO, pilot=2)
    assert nights.run(22, ONE + TWO + THREE) == 11
    assert nights.answered("latest") == list(range(34))


def test_what_a_person_canceled_is_asked_by_the_next_night(nights: Nights) -> None:
    nights.run(20, ONE)
    nights.desk.ledger.snapshot_canceled(nights.prepare(21, ONE + TWO).snapshot, at=nights.desk.clock())
    assert nights.run(22, ONE + TWO + THREE) == 11
    assert nights.answered("latest") == list(range(34))


def test_a_watermark_that_is_new_reads_everything_once_more_at_no_cost(nights: Nights) -> None:
    nights.run(20, ONE, watermark=None)
    assert nights.run(21, ONE + TWO) == 7
    assert nights.run(22, ONE + TWO + THREE) == 4
    assert list(nights.records().values()) == [23, 30, 4]
    assert nights.run(23, ONE + TWO + THREE, watermark=None) == 0  # in full again
    assert list(nights.records().values()) == [23, 30, 4, 34]


def test_a_snapshot_that_was_read_in_full_becomes_a_base_when_it_is_taken_again(nights: Nights) -> None:
    nights.run(20, ONE, watermark=None)
    nights.run(20, ONE)
    assert nights.run(21, ONE + TWO) == 7
    assert list(nights.records().values()) == [23, 7]


def test_a_value_in_the_future_is_refused_before_it_hides_what_comes(nights: Nights) -> None:
    nights.run(20, ONE)
    with pytest.raises(DatasetInvalid, match=r"the highest at lies in the future .* pass for old ones"):
        nights.prepare(21, [*ONE, {"id": 99, "text": "a slip", "at": "2062-11-21"}])
    assert nights.run(21, ONE + TWO) == 7


def test_rejected_records_of_an_increment_name_their_line(nights: Nights) -> None:
    nights.changes = {"max_reject_ratio": 1}
    nights.run(20, ONE)
    nights.run(21, [*TWO[:3], *ONE, *TWO[3:5], {**TWO[5], "text": None}, TWO[6]])
    ((place,),) = nights.asked("SELECT error_message FROM notes.rejected")
    assert place.startswith("notes.jsonl, line 29: ")


def test_numbers_of_an_id_are_a_watermark(desk: Desk, simulator: Simulator, tmp_path: Path) -> None:
    for write in (write_jsonl, write_parquet):
        nights = Nights(desk, simulator, tmp_path, write, {"name": write.__name__}, desk_billed(simulator))
        sent = [nights.run(20, ONE[:9], watermark="id"), nights.run(21, ONE[:12], watermark="id")]
        assert sent == [9, 3]


def desk_billed(simulator: Simulator) -> int:
    return int(simulator.invoice()["billed_requests"])


def test_a_workload_without_a_watermark_has_the_code_version_that_it_had() -> None:
    plain = make_workload()
    assert "watermark" not in plain.model_dump_json()
    marked = make_workload(dataset={"path": "notes.jsonl", "id": "id", "watermark": "at"})
    assert spec_digest(marked) != spec_digest(plain)
