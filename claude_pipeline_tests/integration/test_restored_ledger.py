"""A ledger put back from yesterday's copy, or another one in its place: it sends nothing that was sent before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_pipeline import crash
from claude_pipeline.chunk import Body
from claude_pipeline.controller import decide, survey
from claude_pipeline.errors import LedgerOutdated
from claude_pipeline.home import Home
from claude_pipeline.lane.client import Accepted
from claude_pipeline.ledger import Ledger
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.backup import backup
from claude_pipeline.stage.cancel import cancel
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.retry import retry
from claude_pipeline.stage.submit import rebuild_ledger, send, settle
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import BATCH_SECONDS, SETTLE_SECONDS, MovableClock
from claude_pipeline_tests.factory import (
    asked,
    note,
    prepared_snapshot,
    send_ready,
    sent_chunks,
    states,
    workload_over,
    write_dataset,
)
from claude_pipeline_tests.integration.command_case import CommandLine, workload_file
from claude_pipeline_tests.integration.hand_case import calmly
from claude_pipeline_tests.integration.submit_case import batches_at, creates

Restore = Callable[[], None]


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Thirty records in three chunks."""
    return workload_over(tmp_path, [note(n) for n in range(30)])


@pytest.fixture
def copied(desk: Desk, tmp_path: Path) -> Restore:
    """Copies the ledger when first called, puts the copy back each time after that."""
    copy = tmp_path / "copy.db"

    def copy_or_put_back() -> None:
        if not copy.exists():
            backup(desk, copy)
            return
        for name in ("ledger.db-wal", "ledger.db-shm"):
            (desk.home.root / name).unlink(missing_ok=True)
        shutil.copyfile(copy, desk.home.ledger)

    return copy_or_put_back


def check_paid_once(desk: Desk, simulator: Simulator, *, records: int) -> None:
    invoice = simulator.invoice()
    assert (invoice["billed_requests"], invoice["billed_twice"]) == (records, 0)
    assert asked(desk, "SELECT count(answer), count(DISTINCT record_id) FROM notes.latest") == [(records, records)]


def test_a_ledger_that_forgot_what_it_sent_sends_nothing(
    desk: Desk, workload: Workload, simulator: Simulator, copied: Restore
) -> None:
    prepared_snapshot(desk, workload)
    copied()
    send_ready(desk, workload)
    copied()

    with pytest.raises(LedgerOutdated, match=r"knows 0 creates, this home has made 3 .*reconcile --rebuild"):
        send_ready(desk, workload)

    assert creates(simulator) == {"200": 3}
    situation = survey(desk, workload)
    assert decide(situation) == []
    assert "restored from a backup?" in (situation.stopped or "")


def test_a_rebuild_waits_for_running_batches_then_everything_is_collected_and_billed_once(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, copied: Restore
) -> None:
    prepared_snapshot(desk, workload)
    copied()
    send_ready(desk, workload)
    copied()

    early = rebuild_ledger(desk)
    assert (len(early.running), early.remembered, early.whole) == (3, [], False)
    with pytest.raises(LedgerOutdated):
        send_ready(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    late = rebuild_ledger(desk)
    assert ([chunk.key for chunk, _ in late.remembered], late.whole) == (["r1-0003", "r1-0002", "r1-0001"], True)

    assert states(desk, workload) == ["ended"] * 3
    calmly(desk, workload, simulator, clock)
    check_paid_once(desk, simulator, records=30)
    assert creates(simulator) == {"200": 3}


def test_what_was_not_sent_goes_on_after_a_rebuild(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, copied: Restore
) -> None:
    prepared_snapshot(desk, workload)
    copied()
    simulator.faults.add(kind=429, endpoint="create", after=1, count=1)
    send_ready(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    copied()

    assert rebuild_ledger(desk).whole
    assert states(desk, workload) == ["ended", "ready", "ready"]

    calmly(desk, workload, simulator, clock)
    check_paid_once(desk, simulator, records=30)


def test_a_rebuild_repeated_changes_nothing(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, copied: Restore
) -> None:
    prepared_snapshot(desk, workload)
    copied()
    send_ready(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    copied()
    rebuild_ledger(desk)

    again = rebuild_ledger(desk)

    assert (again.remembered, again.orphaned, again.whole) == ([], [], True)
    calmly(desk, workload, simulator, clock)
    assert rebuild_ledger(desk).whole
    check_paid_once(desk, simulator, records=30)


def test_batches_collected_before_the_restore_are_collected_again_and_counted_once(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, copied: Restore
) -> None:
    prepared_snapshot(desk, workload)
    copied()
    calmly(desk, workload, simulator, clock)
    published = desk.ledger.last_publication()
    copied()

    assert len(rebuild_ledger(desk).remembered) == 3
    calmly(desk, workload, simulator, clock)

    check_paid_once(desk, simulator, records=30)
    assert published is not None
    costs = asked(desk, "SELECT sum(requests), sum(cost_usd) FROM ops.costs")[0]
    assert costs == (30, pytest.approx(float(simulator.invoice()["total_usd"]), abs=1e-9))


def test_a_second_round_sent_before_the_restore_is_found_when_it_is_cut_again(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, copied: Restore
) -> None:
    simulator.faults.add(kind="line_error", share=0.3, attempts=1)
    prepared_snapshot(desk, workload)
    copied()
    calmly(desk, workload, simulator, clock)
    sent = batches_at(simulator)
    copied()

    assert len(rebuild_ledger(desk).orphaned) == 1  # the second round: its chunk is not cut yet
    calmly(desk, workload, simulator, clock)

    assert batches_at(simulator) == sent
    check_paid_once(desk, simulator, records=30)


def test_without_the_mark_an_ended_batch_of_its_own_tag_stops_it(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, copied: Restore
) -> None:
    sent_chunks(desk, workload_over(desk.home.root, [note(100)], name="before"))
    prepared_snapshot(desk, workload)
    copied()
    simulator.faults.add(kind=429, endpoint="create", after=2, count=1)
    send_ready(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    copied()
    desk.ledger.mark.unlink()

    with pytest.raises(LedgerOutdated, match="carries a tag of this ledger that it does not know"):
        send_ready(desk, workload)

    assert "reconcile --rebuild" in (survey(desk, workload).stopped or "")
    assert decide(survey(desk, workload)) == []  # from now on, without asking again
    assert creates(simulator) == {"200": 3, "429": 1}
    assert rebuild_ledger(desk).whole
    calmly(desk, workload, simulator, clock)
    check_paid_once_of(desk, simulator, "notes", 30)


def check_paid_once_of(desk: Desk, simulator: Simulator, name: str, records: int) -> None:
    assert simulator.invoice()["billed_twice"] == 0
    assert asked(desk, f"SELECT count(answer) FROM {name}.latest") == [(records,)]


def test_low_credit_lines_do_not_hide_that_the_ledger_is_outdated(
    desk: Desk, workload: Workload, clock: MovableClock
) -> None:
    desk.ledger.account_stopped("outdated", "forgotten", at=clock())
    desk.ledger.account_stopped("lines", "low credit", at=clock())
    stop = desk.ledger.stop()
    assert stop is not None
    assert (stop.kind, stop.reason) == ("outdated", "forgotten")


def test_answers_of_a_snapshot_made_after_the_copy_are_taken_when_it_is_made_again(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, copied: Restore
) -> None:
    copied()
    sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    copied()
    found = rebuild_ledger(desk)
    assert (len(found.orphaned), found.remembered, found.whole) == (3, [], True)

    prepared_snapshot(desk, workload)
    calmly(desk, workload, simulator, clock)

    assert creates(simulator) == {"200": 3}
    check_paid_once(desk, simulator, records=30)


def test_changed_records_take_the_place_of_a_forgotten_snapshots_file(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, copied: Restore
) -> None:
    copied()
    sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    copied()
    rebuild_ledger(desk)
    write_dataset(Path(workload.dataset.path or ""), [note(n) for n in range(100, 110)])

    prepared_snapshot(desk, workload)
    calmly(desk, workload, simulator, clock)

    assert asked(desk, "SELECT count(answer), min(record_id) FROM notes.latest") == [(10, "n100")]


def test_another_ledger_in_an_old_home_sends_nothing_and_is_not_made_right_by_a_rebuild(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    sent_chunks(desk, workload)
    before = desk.ledger.id
    for file in desk.home.root.glob("ledger.db*"):
        file.unlink()
    with Ledger.open(None, path=desk.home.ledger) as ledger:
        fresh = Desk(desk.settings, ledger, desk.catalog, desk.client, desk.clock)
        prepared_snapshot(fresh, workload)
        told = rf"sent 3 chunks under ledger {before}, .*everything would be paid again; bring the old one back"
        with pytest.raises(LedgerOutdated, match=told):
            send_ready(fresh, workload)
        simulator.clock.advance(BATCH_SECONDS)
        with pytest.raises(LedgerOutdated, match=told):
            rebuild_ledger(fresh)
        with pytest.raises(LedgerOutdated, match=told):
            send_ready(fresh, workload)
    assert creates(simulator) == {"200": 3}


@pytest.mark.both_databases
def test_an_unreadable_mark_stops_with_the_way_out(desk: Desk, workload: Workload) -> None:
    sent_chunks(desk, workload)
    desk.ledger.mark.write_bytes(b"\xff")
    with pytest.raises(LedgerOutdated, match=r"ledger\.mark cannot be read; restore it, or delete it"):
        send_ready(desk, workload)


def test_batches_of_others_are_looked_at_once_and_noted(
    desk: Desk, workload: Workload, simulator: Simulator, copied: Restore
) -> None:
    chunk = prepared_snapshot(desk, workload).chunks[0]
    desk.ledger.put_setting("first_watermark", "", at=desk.clock(), move="test")
    foreign = desk.client.create(Body(desk.path(chunk.params_path), "another-program"))
    assert isinstance(foreign, Accepted)
    simulator.clock.advance(BATCH_SECONDS)

    send_ready(desk, workload)
    send_ready(desk, workload)

    noted = desk.ledger.batch(foreign.batch.id)
    assert noted is not None
    assert noted.chunk_id is None
    assert simulator.invoice()["calls"]["results"] == {"200": 1}


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "not-accepted"])
def test_a_create_in_doubt_when_the_copy_was_taken_is_settled_by_the_rebuild(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, copied: Restore, accepted: bool
) -> None:
    simulator.faults.add(kind="lost_after" if accepted else "reset_before", endpoint="create", count=1)
    prepared_snapshot(desk, workload)
    chunks = desk.ledger.chunks("notes")
    send(desk, workload, chunks[:1])
    copied()
    send(desk, workload, chunks[1:])
    simulator.clock.advance(BATCH_SECONDS)
    clock.advance(SETTLE_SECONDS)
    copied()

    with pytest.raises(LedgerOutdated):  # the doubt meets a batch that it forgot
        settle(desk)
    assert rebuild_ledger(desk).whole

    calmly(desk, workload, simulator, clock)
    check_paid_once(desk, simulator, records=30)
    assert batches_at(simulator) == 3


def test_an_intent_still_open_in_the_copy_is_no_second_payment(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, copied: Restore
) -> None:
    def copy_then_die(name: str) -> None:
        if name == "submit.after_intent":
            copied()

    prepared_snapshot(desk, workload)
    with crash.told(copy_then_die):
        first = desk.ledger.chunks("notes")[:1]
        send(desk, workload, first)
    simulator.clock.advance(BATCH_SECONDS)
    copied()
    assert states(desk, workload)[0] == "sending"

    assert rebuild_ledger(desk).whole

    assert desk.ledger.paid_twice() == []
    calmly(desk, workload, simulator, clock)
    check_paid_once(desk, simulator, records=30)


def test_a_canceled_or_retried_chunk_that_was_sent_before_is_remembered(
    desk: Desk, simulator: Simulator, clock: MovableClock, copied: Restore, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(10)])
    snapshot = prepared_snapshot(desk, workload).snapshot
    cancel(desk, workload, snapshot.id)
    copied()
    calmly(desk, workload, simulator, clock)
    retry(desk, workload)
    send_ready(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    copied()

    assert len(rebuild_ledger(desk).remembered) == 1

    calmly(desk, workload, simulator, clock)
    check_paid_once(desk, simulator, records=10)


# Through the command line.


def test_backup_restore_rebuild_as_a_person_does_it(
    quick: Simulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Home
) -> None:
    line = CommandLine(capsys, monkeypatch)
    file = str(workload_file(tmp_path))
    assert line("backup", "--to", str(tmp_path / "copy.db")).code == 0
    assert line("run", file, "--poll-seconds", "0.1").code == 0
    for old in home.root.glob("ledger.db*"):
        old.unlink()
    shutil.copyfile(tmp_path / "copy.db", home.ledger)

    refused = line("run", file, "--poll-seconds", "0.1")
    assert (refused.code, "reconcile --rebuild" in refused.last) == (3, True)
    assert "STOPPED: the ledger is older than what was sent" in line("status").out
    assert line("resume").code == 3
    rebuilt = line("reconcile", "--rebuild")
    assert (rebuilt.code, "rebuilt; sending goes on" in rebuilt.out) == (0, True)
    assert line("run", file, "--poll-seconds", "0.1").code == 0

    invoice = quick.invoice()
    assert (invoice["billed_requests"], invoice["batches"]) == (20, 2)
