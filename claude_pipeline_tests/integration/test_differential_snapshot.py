"""A night whose records hardly differ is kept as what differs; everybody reads it as if it were whole."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from claude_pipeline import crash
from claude_pipeline.errors import DuplicateIds, LedgerDamaged
from claude_pipeline.home import STALE_TEMPORARY_SECONDS, sha256_of, sweep
from claude_pipeline.ledger import SnapshotRow
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.draft import drafted
from claude_pipeline.stage.pilot import read_pilot
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS
from claude_pipeline_tests.dataset_factory import all_records
from claude_pipeline_tests.factory import asked, note, prepared_snapshot, token_of, workload_over, write_dataset

COUNT = 1_200
NIGHTS = ["2026-11-22", "2026-11-23", "2026-11-24"]
Records = list[dict[str, Any]]
Night = Callable[[int, Records], SnapshotRow]


def records(*changed: int) -> Records:
    return [note(n, f"changed {n}" if n in changed else "") for n in range(COUNT)]


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    return workload_over(tmp_path, records(), chunk={"requests": COUNT})


@pytest.fixture
def night(desk: Desk, tmp_path: Path, workload: Workload) -> Night:
    """Plans a night's records, which are sent only where a test does so."""

    def planned(number: int, rows: Records) -> SnapshotRow:
        write_dataset(tmp_path / "notes.jsonl", rows)
        return prepare(desk, workload, NIGHTS[number]).snapshot

    return planned


def own_rows(desk: Desk, snapshot: SnapshotRow) -> int:
    rows: int = pq.read_metadata(desk.path(snapshot.path)).num_rows
    return rows


def as_known(rows: Records) -> Records:
    return [{"record_id": row["id"], **row} for row in rows]


def test_each_night_differs_from_the_full_one_and_not_from_the_night_before(desk: Desk, night: Night) -> None:
    nights = [records(), records(5), [*records(5, 7)[:-1], note(9_000)]]
    found = [night(number, rows) for number, rows in enumerate(nights)]
    assert [snapshot.full_snapshot for snapshot in found] == [None, found[0].id, found[0].id]
    assert [own_rows(desk, snapshot) for snapshot in found] == [COUNT, 1, 3]
    for snapshot, rows in zip(found, nights, strict=True):
        assert all_records(desk.path(snapshot.path), rows=500) == as_known(rows)
        assert snapshot.digest == sha256_of(desk.path(snapshot.path))


def test_nights_are_asked_and_published_as_whole_ones_are(
    desk: Desk, workload: Workload, simulator: Simulator, tmp_path: Path
) -> None:
    nights = [records(), records(3, 700), [*records(3, 800)[1:], note(9_000, "changed 9000")]]
    billed = [COUNT, COUNT + 2, COUNT + 4]
    for number, rows in enumerate(nights):
        write_dataset(tmp_path / "notes.jsonl", rows)
        drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS), partition=NIGHTS[number])
        invoice = simulator.invoice()
        assert (invoice["billed_requests"], invoice["billed_twice"]) == (billed[number], 0)
    for number, rows in enumerate(nights):
        found = asked(
            desk, f"SELECT id, text, answer FROM notes.results WHERE snapshot = '{NIGHTS[number]}.1' ORDER BY ALL"
        )
        assert [(one, text) for one, text, _ in found] == sorted((row["id"], row["text"]) for row in rows)
        assert all(answer.startswith(token_of(f"Sort: {text}")) for _, text, answer in found)


def test_what_was_asked_of_the_full_one_is_not_asked_for_the_night_after(desk: Desk, night: Night) -> None:
    night(0, records())
    second = night(1, records(8))
    assert (second.asked, second.awaited) == (1, COUNT - 1)


@pytest.mark.parametrize("again", [0, 1])
def test_equal_records_are_the_same_snapshot(desk: Desk, night: Night, again: int) -> None:
    found = [night(0, records()), night(1, records(4))]
    assert night(again, records(4) if again else records()) == found[again]
    assert len(desk.ledger.snapshots("notes")) == 2


def test_a_night_that_is_loaded_again_differs_from_its_own_full_one(desk: Desk, night: Night) -> None:
    first = night(0, records())
    night(1, records(4))
    again = night(0, records(6))
    assert (again.id, again.full_snapshot) == (f"{NIGHTS[0]}.2", first.id)
    assert night(0, records(6)) == again
    assert night(0, records()).id == f"{NIGHTS[0]}.3"  # as it was at first


def test_where_much_has_changed_the_night_is_full_and_those_after_it_differ_from_it(desk: Desk, night: Night) -> None:
    many = range(COUNT // 2)
    found = [night(0, records()), night(1, records(*many)), night(2, records(*many, COUNT - 1))]
    assert [snapshot.full_snapshot for snapshot in found] == [None, None, found[1].id]


def test_a_differential_file_that_is_lost_is_made_again(desk: Desk, night: Night) -> None:
    night(0, records())
    second = night(1, records(4))
    path = desk.path(second.path)
    whole = path.read_bytes()
    path.unlink()
    assert night(1, records(4)) == second
    assert path.read_bytes() == whole


def flip(path: Path) -> None:
    written = path.read_bytes()
    assert b"note 1100" in written
    path.write_bytes(written.replace(b"note 1100", b"note 1l00", 1))


@pytest.mark.parametrize("harm", [flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_without_its_full_one_a_night_is_not_loaded_again_and_another_one_is_full(
    desk: Desk, night: Night, harm: Callable[[Path], None]
) -> None:
    """Nobody can tell whether the records are the same: else all of them could be asked again."""
    first = night(0, records())
    second = night(1, records(4))
    whole = desk.path(first.path).read_bytes()
    harm(desk.path(first.path))
    with pytest.raises(LedgerDamaged, match=r"restore .* from a backup"):
        night(1, records(4))
    third = night(2, records(4))
    assert (third.full_snapshot, third.awaited) == (None, COUNT)
    desk.path(first.path).write_bytes(whole)
    assert night(1, records(4)) == second


def test_records_that_are_numbered_differ_as_others_do(desk: Desk, tmp_path: Path) -> None:
    """Without an id column a record is named by its content, and equal ones by numbers."""
    texts = [f"text {number // 2}" for number in range(COUNT)]  # each twice
    nights = [texts, [*texts[:-3], "text 0", *texts[-3:]]]
    workload = workload_over(tmp_path, [], dataset={"path": str(tmp_path / "notes.jsonl")})
    found = []
    for number, each in enumerate(nights):
        write_dataset(tmp_path / "notes.jsonl", [{"text": text} for text in each])
        found.append(prepared_snapshot(desk, workload, NIGHTS[number]).snapshot)
    assert [snapshot.full_snapshot for snapshot in found] == [None, found[0].id]
    before, after = (all_records(desk.path(snapshot.path), rows=5_000) for snapshot in found)
    assert [row["text"] for row in after] == nights[1]
    assert after[:-4] == before[:-3]
    assert [row["record_id"].partition("-")[2] for row in after[-4:]] == ["3", "2", "", "2"]
    assert len({row["record_id"] for row in after}) == COUNT + 1
    assert own_rows(desk, found[1]) == 4


def test_ids_that_stand_twice_are_refused_wherever_they_come_from(desk: Desk, night: Night) -> None:
    night(0, records())
    with pytest.raises(DuplicateIds, match=r"'n5' occurs 2 times \(notes.jsonl, line 6 and notes.jsonl, line 1,201\)"):
        night(1, [*records(), note(5, "new")])
    with pytest.raises(
        DuplicateIds, match=r"'n9999' occurs 2 times \(notes.jsonl, line 1,201 and notes.jsonl, line 1,202\)"
    ):
        night(1, [*records(), note(9_999, "new"), note(9_999, "newer")])
    assert len(desk.ledger.snapshots("notes")) == 1


def test_records_may_change_their_places_with_their_ids(desk: Desk, night: Night) -> None:
    """And an id may go to another record: what had it is no longer there."""
    night(0, records())
    first, second, third, *others = records()
    found = night(1, [second, first, {**third, "id": "n9999"}, *others[:-1], {**others[-1], "id": third["id"]}])
    assert own_rows(desk, found) == 4


CHANGES = pytest.mark.parametrize(
    "changes",
    [
        {"route": [{"when": "text LIKE '%7%'", "model": "claude-sonnet-5-5"}, {"model": "claude-haiku-5-5"}]},
        {"watermark": "number"},
    ],
    ids=["route", "watermark"],
)


def changed_workload(tmp_path: Path, changes: dict[str, Any], **others: Any) -> Workload:
    """With a route or a watermark, over what is there."""
    dataset = {"path": str(tmp_path / "notes.jsonl"), "id": "id"}
    if "watermark" in changes:
        changes = {"dataset": dataset | changes}
    rows = [json.loads(line) for line in (tmp_path / "notes.jsonl").read_text().splitlines()]
    return workload_over(tmp_path, rows, **({"model": None} if "route" in changes else {}), **changes, **others)


def numbered(rows: Records) -> Records:
    return [row | {"number": number} for number, row in enumerate(rows)]


@CHANGES
def test_routes_and_watermarks_have_full_snapshots(desk: Desk, tmp_path: Path, changes: dict[str, Any]) -> None:
    write_dataset(tmp_path / "notes.jsonl", numbered(records()))
    workload = changed_workload(tmp_path, changes)
    for partition in NIGHTS[:2]:
        assert prepared_snapshot(desk, workload, partition).snapshot.full_snapshot is None


@CHANGES
def test_a_route_or_a_watermark_that_is_new_makes_no_other_snapshot_of_equal_records(
    desk: Desk, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Without `reuse` all of them would be asked, and paid, once more."""
    workload = workload_over(tmp_path, numbered(records()), chunk={"requests": COUNT}, reuse=False)
    prepared_snapshot(desk, workload, NIGHTS[0])
    write_dataset(tmp_path / "notes.jsonl", numbered(records(4)))
    second = prepared_snapshot(desk, workload, NIGHTS[1]).snapshot
    assert second.full_snapshot is not None
    again = prepared_snapshot(desk, changed_workload(tmp_path, changes, reuse=False), NIGHTS[1])
    assert (again.snapshot.id, again.snapshot.digest) == (second.id, second.digest)


@pytest.mark.parametrize("changed", [3, -1], ids=["below-the-mark", "at-the-mark"])
def test_a_watermark_s_next_night_knows_the_records_of_a_differential_one(
    desk: Desk, tmp_path: Path, changed: int
) -> None:
    """Those at the mark are not read once more, whichever file they stand in."""
    rows = [row | {"number": min(number, COUNT - 2)} for number, row in enumerate(records())]
    workload = workload_over(tmp_path, rows)
    prepared_snapshot(desk, workload, NIGHTS[0])
    rows[changed] |= {"text": "changed"}
    write_dataset(tmp_path / "notes.jsonl", rows)
    prepared_snapshot(desk, workload, NIGHTS[1])
    later = changed_workload(tmp_path, {"watermark": "number"})
    second = prepared_snapshot(desk, later, NIGHTS[1]).snapshot
    assert (second.full_snapshot, second.watermark_value) == (f"{NIGHTS[0]}.1", str(COUNT - 2))
    write_dataset(tmp_path / "notes.jsonl", [*rows, note(9_000) | {"number": COUNT - 2}])
    third = prepared_snapshot(desk, later, NIGHTS[2]).snapshot
    assert [row["record_id"] for row in all_records(desk.path(third.path), rows=10)] == ["n9000"]


def test_a_plan_without_consequences_is_that_of_the_night(desk: Desk, workload: Workload, night: Night) -> None:
    first = night(0, records())
    with drafted(desk, workload, NIGHTS[0]) as draft:
        assert draft.snapshot == first.id
        old = time.time() - 2 * STALE_TEMPORARY_SECONDS
        os.utime(desk.path(first.path), (old, old))
        assert sweep(desk.home) == 0  # the link to the full one is as young as the plan
    second = night(1, records(4))
    with drafted(desk, workload, NIGHTS[1]) as draft:
        assert draft.snapshot == second.id
    with drafted(desk, workload, NIGHTS[2]) as draft:
        assert (draft.snapshot, draft.counts.awaited) == (None, COUNT)


def test_a_pilot_shows_the_records_it_asked_wherever_they_stand(
    desk: Desk, workload: Workload, simulator: Simulator, tmp_path: Path
) -> None:
    drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS), partition=NIGHTS[0])
    rows = [*records(4), note(9_000, "new")]
    write_dataset(tmp_path / "notes.jsonl", rows)
    prepare(desk, workload, NIGHTS[1], pilot=2)
    drive.carry_on(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS))
    snapshot = desk.ledger.snapshots("notes")[-1]
    assert snapshot.full_snapshot is not None
    shown = read_pilot(desk, workload, snapshot)
    assert [row[:3] for row in shown.shown] == [("n4", "changed 4", "succeeded"), ("n9000", "new", "succeeded")]


def test_a_plan_that_is_lost_does_not_matter_to_what_rests_on_its_records(desk: Desk, night: Night) -> None:
    first = night(0, records())
    second = night(1, records(4))
    assert first.plan_path is not None
    desk.path(first.plan_path).unlink()
    assert night(1, records(4)) == second
    path = desk.path(second.path)
    whole = path.read_bytes()
    path.unlink()
    assert night(1, records(4)) == second
    assert path.read_bytes() == whole
    assert night(2, records(4)).full_snapshot == first.id


def test_the_file_that_is_damaged_is_named_where_answers_are_merged(
    desk: Desk, workload: Workload, simulator: Simulator, tmp_path: Path
) -> None:
    drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS), partition=NIGHTS[0])
    write_dataset(tmp_path / "notes.jsonl", records(4))
    prepare(desk, workload, NIGHTS[1])
    flip(desk.path(desk.ledger.snapshots("notes")[0].path))
    with pytest.raises(LedgerDamaged, match=rf"{NIGHTS[0]}.1.parquet cannot be read .*; restore it from a backup"):
        drive.carry_on(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS))


def test_a_run_killed_once_the_night_is_noted_goes_on_with_it(desk: Desk, workload: Workload, night: Night) -> None:
    first = night(0, records())

    def stop(name: str) -> None:
        if name == "prepare.after_snapshot":
            raise KeyboardInterrupt

    with crash.told(stop), pytest.raises(KeyboardInterrupt):
        night(1, records(4))
    second = desk.ledger.snapshots("notes")[-1]
    assert (second.full_snapshot, second.plan_number) == (first.id, 0)
    assert not desk.path(second.path).exists()
    again = night(1, records(4))
    assert (again.id, again.digest, again.asked) == (second.id, second.digest, 1)


def test_a_full_one_that_was_rendered_otherwise_serves_as_well(
    desk: Desk, workload: Workload, night: Night, tmp_path: Path
) -> None:
    """What a snapshot is written from has nothing to do with what is asked of it."""
    first = night(0, records())
    other = workload.model_copy(update={"max_tokens": 77})
    write_dataset(tmp_path / "notes.jsonl", records(4))
    assert prepare(desk, other, NIGHTS[1]).snapshot.full_snapshot == first.id
