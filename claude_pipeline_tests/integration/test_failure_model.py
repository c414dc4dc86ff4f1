"""What else goes wrong around a run: disks, locks, clocks, odd answers, a second process, an older ledger."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from claude_pipeline import crash
from claude_pipeline.catalog import load
from claude_pipeline.errors import LedgerUnreachable
from claude_pipeline.home import Home
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import Ledger
from claude_pipeline.ledger.migration import VERSION
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.stage.collect import look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.publish import publish
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, NOW, SETTLE_SECONDS, MovableClock
from claude_pipeline_tests.factory import (
    PARTITION,
    asked,
    attributes,
    note,
    prepared_snapshot,
    send_ready,
    sent_chunks,
    workload_over,
    write_dataset,
)
from claude_pipeline_tests.integration.broken_case import NEWER, SmallDisk, impatient, small_disk, to_first_schema
from claude_pipeline_tests.integration.command_case import CommandLine, workload_file
from claude_pipeline_tests.integration.hand_case import calmly, check_costs


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Thirty records in three chunks."""
    return workload_over(tmp_path, [note(n) for n in range(30)])


def check_whole(desk: Desk, simulator: Simulator, records: int = 30) -> None:
    invoice = simulator.invoice()
    assert (invoice["billed_requests"], invoice["billed_twice"]) == (records, 0)
    assert asked(desk, "SELECT count(answer), count(*) FROM notes.results") == [(records, records)]
    check_costs(desk, simulator)


# A full disk.


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.mark.parametrize(
    "point",
    [
        "prepare.after_snapshot",
        "prepare.after_plan",
        "submit.before_intent",
        "submit.after_post",
        "poll.after",
        "collect.after_download",
        "finalize.before_record",
        "publish.before_switch",
    ],
)
def test_a_full_disk_loses_nothing_once_there_is_room_again(
    tmp_path: Path, disk: SmallDisk, client: BatchClient, simulator: Simulator, clock: MovableClock, point: str
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(30)])
    settings = Settings(Home(disk.folder / "home"), settle_seconds=SETTLE_SECONDS)
    struck: list[str] = []

    def fill_there(name: str) -> None:
        if name == point and not struck:
            struck.append(name)
            disk.fill()

    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(SETTLE_SECONDS)

    settings.home.root.mkdir()
    with Ledger.open(None, path=settings.home.ledger) as ledger:
        desk = Desk(settings, ledger, load(), client, clock)
        with crash.told(fill_there), pytest.raises(Exception, match=r"(?i)no space left|full|disk i/o"):
            drive.run(desk, workload, wait)
    disk.empty()
    with Ledger.open(None, path=settings.home.ledger) as ledger:
        desk = Desk(settings, ledger, load(), client, clock)
        assert drive.run(desk, workload, wait).at_rest
        check_whole(desk, simulator)


def test_a_full_disk_is_told_in_one_sentence(
    tmp_path: Path,
    disk: SmallDisk,
    simulator: Simulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = CommandLine(capsys, monkeypatch)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
    file = str(workload_file(tmp_path))
    with crash.told(lambda name: disk.fill() if name == "prepare.after_plan" else None):
        said = line("run", file, "--home", str(disk.folder / "home"), "--poll-seconds", "0.1")
    disk.empty()
    assert said.code in (1, 4)
    assert "No space left" in said.last or "disk" in said.last
    assert "Traceback" not in said.out + said.err


# A ledger that another process keeps locked.


@pytest.mark.parametrize("moment", ["before-intent", "after-post"])
def test_a_ledger_locked_too_long_is_told_and_nothing_is_lost(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, moment: str
) -> None:
    prepared_snapshot(desk, workload)
    impatient(desk)
    other = sqlite3.connect(desk.home.ledger, isolation_level=None, check_same_thread=False)
    point = {"before-intent": "submit.before_intent", "after-post": "submit.after_post"}[moment]

    def lock_there(name: str) -> None:
        if name == point and not other.in_transaction:
            other.execute("BEGIN IMMEDIATE")

    told = r"gave no answer: database is locked; what was not recorded is done again when it answers: run again"
    with crash.told(lock_there), pytest.raises(LedgerUnreachable, match=told):
        send_ready(desk, workload)
    other.execute("ROLLBACK")
    other.close()

    calmly(desk, workload, simulator, clock)
    check_whole(desk, simulator)


# Clocks that do not agree.


@pytest.mark.both_databases
@pytest.mark.parametrize("skew", [timedelta(days=-1), timedelta(days=1)], ids=["a-day-behind", "a-day-ahead"])
def test_a_clock_a_day_off_pays_nothing_twice_and_comes_to_rest(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, skew: timedelta
) -> None:
    clock.at = NOW + skew
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    simulator.faults.add(kind="line_error", share=0.2, attempts=1)
    prepared_snapshot(desk, workload)

    calmly(desk, workload, simulator, clock)

    check_whole(desk, simulator)


def test_a_clock_that_is_set_back_between_merge_and_publication_hides_no_merge(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    prepared_snapshot(desk, workload)
    calmly(desk, workload, simulator, clock)
    clock.at -= timedelta(days=1)
    more = workload_over(Path(workload.dataset.path or "").parent, [note(n) for n in range(35)])
    prepared_snapshot(desk, more)

    calmly(desk, more, simulator, clock)

    assert asked(desk, "SELECT count(answer) FROM notes.latest") == [(35,)]


# Two at once.


def test_two_processes_on_one_home_pay_each_record_once(tmp_path: Path) -> None:
    write_dataset(tmp_path / "notes.jsonl", [note(n) for n in range(60)])
    file = tmp_path / "notes.yaml"
    fields = attributes(chunk={"requests": 5})
    file.write_text(yaml.safe_dump({"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}))
    home = Home(tmp_path / "home")
    with running(Options(speed=600, batch_seconds=(30, 200), seed=3)) as simulator:
        environment = os.environ | {
            "ANTHROPIC_BASE_URL": simulator.base_url,
            "ANTHROPIC_API_KEY": simulator.api_key,
            "CLAUDE_PIPELINE_SETTLE_SECONDS": "0.2",
        }
        command = [sys.executable, "-m", "claude_pipeline_tests.drive", str(file), str(home.root)]
        both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        ends = [(process.communicate(timeout=90)[1], process.returncode) for process in both]
        with Ledger.open(None, path=home.ledger) as ledger:
            desk = Desk(Settings(home), ledger, load())
            assert [code for _, code in ends] == [0, 0], ends
            check_whole(desk, simulator, 60)


def test_two_looks_at_once_record_an_end_once(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    errors: list[BaseException] = []

    def again() -> None:
        try:
            with Ledger.open(None, path=desk.home.ledger) as other:
                look(replace(desk, ledger=other))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=again) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    ends = [row for row in desk.ledger.dump("event") if row["move"] == "batch ended"]
    assert len(ends) == 3


# A ledger of the first schema.


@pytest.fixture
def migrated(desk: Desk) -> Callable[[], Desk]:
    """The desk again, over its ledger of the first schema."""
    opened: list[Ledger] = []

    def reopened() -> Desk:
        to_first_schema(desk.home.ledger)
        opened.append(Ledger.open(None, path=desk.home.ledger))
        return replace(desk, ledger=opened[-1])

    return reopened


def test_a_ledger_of_the_first_schema_gains_its_columns_and_keeps_what_was_merged(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, migrated: Callable[[], Desk]
) -> None:
    prepared_snapshot(desk, workload)
    calmly(desk, workload, simulator, clock)

    later = migrated()

    assert later.ledger.get_setting("schema_version") == str(VERSION)
    raw = sqlite3.connect(desk.home.ledger)
    for table, columns in NEWER.items():
        assert {row[1] for row in raw.execute(f"PRAGMA table_info({table})")} >= {
            c for c in columns if c != "max_tokens"
        }
    raw.close()
    publish(later)
    check_whole(later, simulator)
    calmly(later, workload, simulator, clock)
    check_whole(later, simulator)


def test_what_was_not_merged_at_the_migration_is_not_published_before_it_is(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, migrated: Callable[[], Desk]
) -> None:
    from claude_pipeline.stage.collect import collect

    simulator.faults.add(kind="take", seconds=10 * BATCH_SECONDS, after=2, count=1)
    sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    look(desk)
    assert len(collect(desk, workload).done) == 2

    later = migrated()

    assert later.ledger.merged_parts("notes") == []
    prepare(later, workload, PARTITION)
    simulator.clock.advance(10 * BATCH_SECONDS)
    calmly(later, workload, simulator, clock)
    check_whole(later, simulator)
