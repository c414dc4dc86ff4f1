"""Files, ledger and warehouse that are not what they should be: cases G01 to G14 of the catalogue of bad inputs."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from claude_pipeline.errors import LedgerDamaged, LedgerError, LedgerNewer, LedgerOutdated, LedgerUnreachable
from claude_pipeline.home import Home, sweep
from claude_pipeline.ledger import Ledger, SnapshotState
from claude_pipeline.ledger.migration import VERSION
from claude_pipeline.stage.collect import collect_chunk
from claude_pipeline.stage.finalize import finalize
from claude_pipeline.stage.publish import publish
from claude_pipeline_tests.bad_input.flow import DAY, Flow, case, cases_of
from claude_pipeline_tests.bad_input.ground import Ground, good_rows
from claude_pipeline_tests.factory import PARTITION, asked
from claude_pipeline_tests.integration.broken_case import (
    Killed,
    SmallDisk,
    at_point,
    die,
    impatient,
    small_disk,
    to_first_schema,
)

# G01, G10: killed in the middle of a file.

KILLED = """
import os, signal, sys
from pathlib import Path
from claude_pipeline.home import written
with written(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"PAR1, and then the power went")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@case("G01")
def test_a_file_half_written_is_never_read_and_is_swept_away(flow: Flow) -> None:
    flow.over()
    flow.send()
    attempts = flow.desk.home.results("notes", flow.snapshot.id, "r1-0001.parquet")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(attempts)])
    assert killed.returncode == -9
    left = list(attempts.parent.glob(".*.tmp"))
    assert (len(left), attempts.exists()) == (1, False)
    flow.rest()
    flow.delivered(10)
    os.utime(left[0], (0, 0))  # old enough to be nobody's any more
    assert sweep(flow.desk.home) == 1
    assert attempts.exists()


@pytest.mark.parametrize(
    "point", [pytest.param(f"publish.before_{step}", id=f"G10-before-{step}") for step in ("switch", "record")]
)
def test_a_publication_killed_half_way_leaves_a_whole_version(flow: Flow, point: str) -> None:
    flow.over()
    flow.rest()
    with at_point(point, die), pytest.raises(Killed):
        publish(flow.desk)
    assert asked(flow.desk, "SELECT count(*) FROM earlier.latest") == [(2,)]
    assert flow.ask("SELECT count(*) FROM earlier.latest") == [(2,)]
    flow.rest()
    flow.delivered(10)


# G02: a full disk.


@contextmanager
def on_a_small_disk(flow: Flow) -> Iterator[SmallDisk]:
    """The flow's home lies on a disk that can be filled; afterwards it is the usual one again."""
    usual = flow.desk
    with small_disk(flow.folder / "disk") as disk:
        home = Home(disk.folder / "home")
        shutil.copytree(usual.home.root, home.root, symlinks=True, ignore=shutil.ignore_patterns("dagster"))
        with Ledger.open(None, path=home.ledger) as ledger:
            flow.reborn(settings=replace(usual.settings, home=home), ledger=ledger)
            yield disk
            flow.sound()
        flow.reborn(settings=usual.settings, ledger=usual.ledger)


def delivered_and_published(flow: Flow) -> None:
    flow.rest()
    publish(flow.desk)


FULL: list[Any] = [
    pytest.param("collect.after_download", id="G02-parquet"),
    pytest.param("submit.before_intent", id="G02-ledger"),
    pytest.param("publish.before_switch", id="G02-warehouse"),
]


@pytest.mark.parametrize("point", FULL)
def test_a_full_disk_costs_nothing_but_time(flow: Flow, point: str) -> None:
    with on_a_small_disk(flow) as disk:
        flow.over()
        with at_point(point, disk.fill), pytest.raises(Exception, match=r"(?i)no space left|full|disk i/o"):
            delivered_and_published(flow)
        disk.empty()
        delivered_and_published(flow)
        flow.delivered(10)
        assert flow.posts == {"200": 1}


@pytest.mark.parametrize("ground", [pytest.param(None, id="G02-told")], indirect=True)
def test_a_full_disk_is_told_in_one_sentence_with_the_way_out(ground: Ground, tmp_path: Path) -> None:
    ground.rows("notes.jsonl", good_rows(3))
    file = ground.workload()
    with small_disk(tmp_path / "disk") as disk:
        with at_point("prepare.after_plan", disk.fill):
            said = ground.line("run", file, "--home", str(disk.folder / "home"))
        disk.empty()
    assert said.code == 4
    # Of the file being written, or of the ledger, whichever met the full disk first.
    assert re.search("make room on (the disk of the home|its disk), then run", ground.well_said(said))
    ground.nothing_paid(said)


# G03-G05, G14: the ledger.


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("submit.before_intent", id="G03-before-post"),
        pytest.param("submit.after_post", id="G03-after-post"),
    ],
)
def test_a_ledger_that_others_keep_locked_is_waited_for_and_told(flow: Flow, point: str) -> None:
    flow.over()
    impatient(flow.desk)
    other = sqlite3.connect(flow.desk.home.ledger, isolation_level=None, check_same_thread=False)

    def lock() -> None:
        if not other.in_transaction:
            other.execute("BEGIN IMMEDIATE")

    with at_point(point, lock), pytest.raises(LedgerUnreachable) as locked:
        flow.send()
    flow.told.append(str(locked.value))
    flow.says("database is locked", "is done again when it answers: run again")
    other.execute("ROLLBACK")
    other.close()
    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"200": 1}


def header(content: bytearray) -> None:
    content[:100] = b"\xff" * 100


def pages(content: bytearray) -> None:
    content[4096:] = b"\xff" * (len(content) - 4096)


def cut(content: bytearray) -> None:
    del content[len(content) // 2 :]


def sent_with_the_ledger_at(flow: Flow, path: Path) -> None:
    with Ledger.open(None, path=path) as ledger:
        flow.reborn(ledger=ledger)
        flow.send()


DAMAGES: list[Any] = [
    pytest.param(header, id="G04-header"),
    pytest.param(pages, id="G04-pages"),
    pytest.param(cut, id="G04-cut"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_sends_nothing_and_names_backup_and_rebuild(
    flow: Flow, damage: Callable[[bytearray], None]
) -> None:
    flow.over()
    path = flow.desk.home.ledger
    usual = flow.desk.ledger
    whole = flow.folder / "whole.db"
    usual.copy_to(whole)
    content = bytearray(whole.read_bytes())
    damage(content)
    usual.close()
    for leaf in (path, path.with_name("ledger.db-wal"), path.with_name("ledger.db-shm")):
        leaf.unlink(missing_ok=True)
    path.write_bytes(content)

    with pytest.raises(LedgerDamaged) as refused:
        sent_with_the_ledger_at(flow, path)

    flow.told.append(str(refused.value))
    flow.says(
        "the ledger at sqlite:///", "cannot be read", "nothing is sent", "restore a backup", "reconcile --rebuild"
    )
    assert flow.posts == {}
    for leaf in (path, path.with_name("ledger.db-wal"), path.with_name("ledger.db-shm")):
        leaf.unlink(missing_ok=True)
    shutil.copy(whole, path)
    flow.reborn(ledger=usual)
    flow.rest()
    flow.delivered(10)


@case("G05")
def test_a_ledger_deleted_while_batches_run_sends_nothing_again(flow: Flow) -> None:
    flow.over()
    flow.send()
    path = flow.desk.home.ledger
    usual = flow.desk.ledger
    kept = flow.folder / "kept.db"
    usual.copy_to(kept)
    usual.close()
    for leaf in path.parent.glob("ledger.db*"):
        leaf.unlink()
    with Ledger.open(None, path=path) as ledger:
        flow.reborn(ledger=ledger)
        flow.over()
        with pytest.raises(LedgerOutdated) as outdated:
            flow.send()
        flow.told.append(str(outdated.value))
    flow.says("under ledger", "is another one", "everything would be paid again", "bring the old one back")
    assert flow.posts == {"200": 1}
    for leaf in path.parent.glob("ledger.db*"):
        leaf.unlink()
    shutil.copy(kept, path)
    flow.reborn(ledger=usual)
    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"200": 1}


@case("G14")
def test_a_ledger_of_the_first_schema_is_migrated_and_loses_nothing(flow: Flow) -> None:
    flow.over()
    flow.rest()
    to_first_schema(flow.desk.home.ledger)
    with Ledger.open(None, path=flow.desk.home.ledger) as ledger:
        flow.reborn(ledger=ledger)
        assert ledger.get_setting("schema_version") == str(VERSION)
        flow.rest()
        flow.delivered(10)


@case("G14-newer")
def test_a_ledger_of_a_newer_version_is_refused(flow: Flow) -> None:
    with sqlite3.connect(flow.desk.home.ledger) as raw:
        raw.execute("UPDATE setting SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(LedgerNewer, match=rf"schema 99, this version .* knows {VERSION}; upgrade claude_pipeline"):
        Ledger.open(None, path=flow.desk.home.ledger)
    with sqlite3.connect(flow.desk.home.ledger) as raw:
        raw.execute(f"UPDATE setting SET value = '{VERSION}' WHERE key = 'schema_version'")
    raw.close()


@case("G14-output")
def test_an_output_whose_types_changed_leaves_older_answers_readable(flow: Flow) -> None:
    for number, kind in enumerate(("integer", "string")):
        output = {"type": "object", "properties": {"score": {"type": kind}}, "required": ["score"]}
        flow.over(5 + number, output=output)
        flow.rest()
    assert flow.ask("SELECT snapshot, count(score) FROM notes.results GROUP BY 1 ORDER BY 1") == [
        ("2026-11-22.1", 5),
        ("2026-11-22.2", 6),
    ]


# G06, G11-G13: the files of answers.


def flip_a_bit(flow: Flow, kind: str) -> Path:
    """One flipped bit in a file of collected answers."""
    path = flow.desk.path(flow.desk.ledger.parts("notes", kinds=[kind])[0].path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def without_raw_lines(flow: Flow) -> None:
    shutil.rmtree(flow.desk.home.root / "downloads" / "notes")


@pytest.mark.parametrize(
    "before", [pytest.param(lambda flow: None, id="G06-raw-lines"), pytest.param(without_raw_lines, id="G06-api")]
)
def test_answers_that_changed_on_disk_are_written_again(flow: Flow, before: Callable[[Flow], None]) -> None:
    flow.over()
    flow.to_collected()
    flip_a_bit(flow, "answered")
    before(flow)
    flow.rest()
    flow.delivered(10)
    assert flow.posts == {"200": 1}


@case("G06-gone")
def test_answers_that_changed_on_disk_and_are_nowhere_else_are_not_published(flow: Flow) -> None:
    flow.over()
    flow.to_collected()
    path = flip_a_bit(flow, "answered")
    without_raw_lines(flow)
    flow.simulator.clock.advance(30 * DAY)
    with pytest.raises(LedgerDamaged) as refused:
        flow.rest()
    flow.told.append(str(refused.value))
    flow.says(path.name, "is not what was written", "restore it from a backup of")
    assert flow.snapshot.state is SnapshotState.PLANNED


@case("G11")
def test_a_merge_that_does_not_add_up_is_not_published(flow: Flow) -> None:
    flow.over()
    flow.to_collected()
    other = sqlite3.connect(flow.desk.home.ledger)
    other.execute("UPDATE part SET rows = rows - 2 WHERE kind = 'answered' AND workload = 'notes'")
    other.commit()
    with pytest.raises(LedgerError) as refused:
        flow.rest()
    flow.told.append(str(refused.value))
    flow.says(r"snapshot notes/2026-11-22\.1: 10 records, but 8 succeeded", "not merged")
    assert flow.ask("SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'notes'") == [(0,)]
    other.execute("UPDATE part SET rows = rows + 2 WHERE kind = 'answered' AND workload = 'notes'")
    other.commit()
    other.close()
    flow.rest()
    flow.delivered(10)


@case("G12")
def test_what_is_collected_and_merged_twice_is_there_once(flow: Flow) -> None:
    flow.over()
    flow.rest()
    before = (flow.ask("SELECT * FROM notes.results ORDER BY record_id"), list(flow.desk.ledger.dump("spend")))
    collect_chunk(flow.desk, flow.workload, flow.chunks[0])
    finalize(flow.desk, flow.workload, PARTITION)
    publish(flow.desk)
    after = (flow.ask("SELECT * FROM notes.results ORDER BY record_id"), list(flow.desk.ledger.dump("spend")))
    assert after == before
    flow.delivered(10)


@pytest.mark.parametrize(
    "folders",
    [pytest.param(["results", "merged"], id="G13"), pytest.param(["results", "merged", "downloads"], id="G13-all")],
)
def test_folders_deleted_between_two_chunks_are_filled_again(flow: Flow, folders: list[str]) -> None:
    flow.over(20)
    flow.fault(kind="take", seconds=1_000, after=1, count=1)
    flow.to_collected()
    assert flow.states == ["done", "live"]
    for name in folders:
        shutil.rmtree(flow.desk.home.root / name / "notes")
    flow.rest()
    flow.delivered(20)
    assert flow.posts == {"200": 2}


@case("G13-chunks")
def test_a_chunk_whose_file_is_gone_is_not_sent(flow: Flow) -> None:
    flow.over()
    shutil.rmtree(flow.desk.home.root / "chunks" / "notes")
    with pytest.raises(LedgerDamaged) as refused:
        flow.send()
    flow.told.append(str(refused.value))
    flow.says(r"r1-0001\.jsonl is not what was cut for chunk 2026-11-22\.1\|r1-0001", "restore it")
    assert flow.posts == {}


# G07-G09: the warehouse.


@case("G07")
def test_an_analyst_who_holds_the_warehouse_open_blocks_no_publication(flow: Flow) -> None:
    flow.over()
    with duckdb.connect(str(flow.desk.home.warehouse), read_only=True) as reader:
        delivered_and_published(flow)
        assert reader.execute("SELECT count(*) FROM earlier.latest").fetchall() == [(2,)]
    flow.delivered(10)


@case("G08")
def test_the_log_that_a_crashed_analyst_left_does_not_spoil_the_next_version(flow: Flow) -> None:
    link = flow.desk.home.warehouse
    for beside in (link.resolve(), link):
        beside.with_name(f"{beside.name}.wal").write_bytes(b"of another database" * 100)
    flow.over()
    delivered_and_published(flow)
    with duckdb.connect(str(link), read_only=True) as reader:
        assert reader.execute("SELECT count(*) FROM notes.results").fetchall() == [(10,)]
    flow.delivered(10)
    link.with_name(f"{link.name}.wal").unlink()


COLUMNS: list[Any] = [
    pytest.param({'x"; DROP TABLE t; --': 1, "it's": 2, "select": "from", "a.b": None, "größe": 1.5}, id="G09"),
    pytest.param({f"column_{n}": n for n in range(300)}, id="G09-many"),
]


@pytest.mark.parametrize("columns", COLUMNS)
def test_columns_of_any_name_and_number_are_kept(flow: Flow, columns: dict[str, Any]) -> None:
    flow.over(columns=columns)
    flow.rest()
    flow.delivered(10)
    names = ", ".join(f"""any_value("{name.replace('"', '""')}")""" for name in columns)
    found = flow.ask(f"SELECT {names} FROM notes.results")
    assert [str(value) for value in found[0]] == [str(value) for value in columns.values()]


def test_every_case_of_the_catalogue_is_here() -> None:
    assert cases_of(sys.modules[__name__]) >= {f"G{number:02}" for number in range(1, 15)}
