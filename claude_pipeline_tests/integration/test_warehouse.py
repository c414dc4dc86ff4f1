"""The DuckDB file that analysts open: what is in it, and that it is always one whole version."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest

import claude_pipeline
from claude_pipeline.errors import LedgerDamaged, UsageError
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.publish import publish
from claude_pipeline.warehouse.publish import VERSIONS_KEPT
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.factory import asked, note, workload_over, write_dataset

OUTPUT = {
    "type": "object",
    "properties": {"queue": {"type": "string", "enum": ["billing", "other"]}, "score": {"type": "integer"}},
    "required": ["queue", "score"],
}
VIEWS = ["attempts", "dead_letters", "latest", "rejected", "results"]
OPS = ["batches", "chunks", "costs", "events", "snapshots", "throughput"]


def run(desk: Desk, workload: Workload, simulator: Simulator, partition: str = drive.PARTITION) -> None:
    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        if isinstance(desk.clock, MovableClock):
            desk.clock.advance(BATCH_SECONDS)

    drive.run(desk, workload, wait, partition=partition)


@pytest.fixture
def published(desk: Desk, simulator: Simulator, tmp_path: Path) -> Desk:
    """Twelve records: nine answered, one rejected, one duplicate, one or more dead."""
    simulator.faults.add(kind="line_error", share=0.4, error_type="invalid_request_error", message="too odd")
    rows = [{**note(n), "stars": n, "model": "T"} for n in range(10)]
    rows += [{**note(10, None), "stars": 1, "model": "T"}, {**note(11, "note 0"), "stars": 2, "model": "T"}]
    run(desk, workload_over(tmp_path, rows, output=OUTPUT, max_reject_ratio=0.2, max_tokens=200), simulator)
    return desk


def test_each_workload_has_its_views_and_ops_its_tables(published: Desk) -> None:
    found = asked(published, "SELECT table_schema, table_name, table_type FROM information_schema.tables ORDER BY ALL")
    ops = sorted([("ops", table, "BASE TABLE") for table in OPS] + [("ops", "sla", "VIEW")])
    assert found == [("notes", view, "VIEW") for view in VIEWS] + ops


def test_columns_have_the_types_of_the_records_and_of_the_output(published: Desk) -> None:
    described = {row[0]: row[1] for row in asked(published, "DESCRIBE notes.results")}
    expected = {
        "snapshot": "VARCHAR", "id": "VARCHAR", "stars": "BIGINT", "record_model": "VARCHAR", "record_id": "VARCHAR",
        "outcome": "ENUM('canceled', 'errored', 'expired', 'rejected', 'succeeded')", "answer": "VARCHAR", "queue": "VARCHAR", "score": "BIGINT", "model": "VARCHAR",
        "input_tokens": "BIGINT", "cost_usd": "DOUBLE", "attempt": "INTEGER", "answered_at": "TIMESTAMP WITH TIME ZONE",
    }  # fmt: skip
    assert {name: described.get(name) for name in expected} == expected
    assert "fingerprint" not in described


def test_every_outcome_is_in_its_view(published: Desk) -> None:
    counted = dict(asked(published, "SELECT outcome, count(*) FROM notes.results GROUP BY outcome"))
    dead = asked(published, "SELECT error_type, error_message FROM notes.dead_letters")
    assert sum(counted.values()) == 12
    assert counted["rejected"] == 1
    assert counted["errored"] == len(dead) > 0
    assert set(dead) == {("invalid_request_error", "too odd")}
    assert asked(published, "SELECT record_id, error_type FROM notes.rejected") == [("n10", "missing_text")]
    assert asked(published, "SELECT count(*), count(DISTINCT custom_id) FROM notes.attempts") == [(10, 10)]
    assert set(asked(published, "SELECT answer_source FROM notes.results WHERE record_id = 'n11'")) <= {
        ("duplicate",),
        (None,),
    }


def test_every_table_view_and_column_is_documented(published: Desk) -> None:
    views = asked(published, "SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL")
    tables = asked(published, "SELECT table_name FROM duckdb_tables() WHERE comment IS NULL")
    columns = asked(
        published,
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND coalesce(comment, '') = ''",
    )
    assert (views, tables, columns) == ([], [], [])


def test_columns_say_what_they_are_in_the_words_of_who_knows(published: Desk) -> None:
    query = "SELECT column_name, comment FROM duckdb_columns() WHERE schema_name = 'notes' AND table_name = 'latest'"
    comments = dict(asked(published, query))
    assert "USD paid for this record" in comments["cost_usd"]
    assert comments["stars"] == "the record's own column stars"
    assert comments["record_model"] == "the record's own column model, renamed: results have one of that name"
    assert comments["queue"] == "one of billing, other"


def test_ops_tells_the_story_in_numbers(published: Desk) -> None:
    snapshot = asked(
        published,
        "SELECT snapshot, state, records, asked, duplicates, rejected, succeeded + dead + rejected FROM ops.snapshots",
    )
    assert snapshot == [("2026-11-22.1", "merged", 12, 10, 1, 1, 12)]
    assert asked(published, "SELECT chunk, state, requests, sent FROM ops.chunks") == [("r1-0001", "done", 10, 1)]
    batch = asked(published, "SELECT requests, turnaround_seconds, hours_to_sla FROM ops.batches")[0]
    assert batch[:2] == (10, BATCH_SECONDS)
    assert batch[2] == pytest.approx(24 - BATCH_SECONDS / 3600)
    succeeded = asked(published, "SELECT count(*) FROM notes.attempts WHERE outcome = 'succeeded'")[0][0]
    per_minute = asked(published, "SELECT sum(requests_per_min), bool_and(estimated) FROM ops.throughput")
    assert per_minute == [(succeeded, True)]
    assert asked(published, "SELECT count(*) FROM ops.events WHERE move = 'chunk collected'") == [(1,)]
    assert asked(published, "SELECT requests, round(cost_usd, 10) FROM ops.costs") == asked(
        published, "SELECT count(*), round(sum(cost_usd), 10) FROM notes.attempts WHERE outcome = 'succeeded'"
    )


def test_latest_is_the_newest_row_of_each_record(desk: Desk, simulator: Simulator, tmp_path: Path) -> None:
    rows = [note(n) for n in range(5)]
    workload = workload_over(tmp_path, rows)
    run(desk, workload, simulator)
    assert asked(desk, "FROM notes.latest ORDER BY record_id") == asked(desk, "FROM notes.results ORDER BY record_id")
    for version in range(2, 12):  # number 10 is newer than number 9
        once = [note(4, "seen once more"), note(5)] if version == 6 else []
        write_dataset(tmp_path / "notes.jsonl", [note(0, f"changed {version}"), *rows[1:4], *once])
        run(desk, workload, simulator)
    latest = asked(desk, "SELECT record_id, snapshot, text FROM notes.latest ORDER BY 1")
    assert latest[0] == ("n0", "2026-11-22.11", "changed 11")
    assert latest[4:] == [("n4", "2026-11-22.6", "seen once more"), ("n5", "2026-11-22.6", "note 5")]
    assert asked(desk, "SELECT count(*) FROM notes.results") == [(5 + 10 * 4 + 2,)]


def test_an_output_whose_type_changed_keeps_older_snapshots_readable(
    desk: Desk, simulator: Simulator, tmp_path: Path
) -> None:
    for kind in ("integer", "string"):
        output = {"type": "object", "properties": {"score": {"type": kind}}, "required": ["score"]}
        partition = f"2026-11-2{2 + (kind == 'string')}"
        run(desk, workload_over(tmp_path, [note(n) for n in range(3)], output=output), simulator, partition)
    assert asked(desk, "SELECT snapshot, count(score) FROM notes.results GROUP BY 1 ORDER BY 1") == [
        ("2026-11-22.1", 3),
        ("2026-11-23.1", 3),
    ]


# Versions.


def test_publishing_again_gives_the_next_version_with_the_same_rows(published: Desk) -> None:
    before = asked(published, "SELECT * FROM notes.results ORDER BY record_id")
    again = publish(published)
    assert again.version == 2
    assert again.workloads == ("notes",)
    assert published.home.warehouse.resolve().name == "v2.duckdb"
    assert asked(published, "SELECT * FROM notes.results ORDER BY record_id") == before


def test_a_version_holds_no_wal_and_old_ones_are_dropped(published: Desk) -> None:
    for _ in range(VERSIONS_KEPT + 2):
        last = publish(published).version
    kept = sorted(path.name for path in published.home.warehouse_versions.iterdir())
    assert kept == sorted(f"v{n}.duckdb" for n in range(last - VERSIONS_KEPT + 1, last + 1))
    assert not [path for path in published.home.root.iterdir() if path.name.startswith(".warehouse")]


def test_a_reader_keeps_its_version_while_the_next_is_published(published: Desk) -> None:
    with duckdb.connect(str(published.home.warehouse), read_only=True) as reader:
        before = reader.execute("SELECT count(*) FROM ops.events").fetchall()
        publish(published)
        publish(published)
        assert reader.execute("SELECT count(*) FROM ops.events").fetchall() == before
        assert reader.execute("SELECT count(*) FROM notes.results").fetchall() == [(12,)]
    assert asked(published, "SELECT count(*) FROM ops.events WHERE move = 'warehouse published'") == [(2,)]


def test_before_anything_is_merged_there_are_only_the_tables_of_ops(desk: Desk) -> None:
    assert publish(desk).workloads == ()
    assert asked(desk, "SELECT DISTINCT table_schema FROM information_schema.tables") == [("ops",)]


def test_a_missing_part_stops_the_publication_and_the_old_version_stays(published: Desk) -> None:
    next(iter(published.home.root.glob("merged/**/r1-0001.parquet"))).rename(published.home.root / "aside")
    with pytest.raises(LedgerDamaged, match="is not what was written"):
        publish(published)
    assert published.home.warehouse.resolve().name == "v1.duckdb"


def test_an_answered_part_with_flipped_bits_is_not_merged(
    desk: Desk, simulator: Simulator, tmp_path: Path, published: Desk
) -> None:
    from claude_pipeline.stage.finalize import check_part

    part = desk.ledger.parts("notes", kinds=["answered"])[0]
    path = desk.path(part.path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(LedgerDamaged, match="sha256 differs"):
        check_part(desk, part)


READER = """
import sys, duckdb
opened = set()
print("ready", flush=True)
for _ in range(100):
    # Each opening is a new process to DuckDB: it keeps open files by path.
    duck = duckdb.connect(sys.argv[1], read_only=True)
    count, = duck.execute("SELECT count(*) FROM notes.results").fetchone()
    published, = duck.execute("SELECT count(*) FROM ops.events WHERE move = 'warehouse published'").fetchone()
    duck.close()
    assert count == 12, count
    opened.add(published)
print(len(opened), flush=True)
"""


def test_the_warehouse_can_be_opened_at_any_moment_of_ten_publications(published: Desk) -> None:
    link = str(published.home.warehouse)
    with subprocess.Popen([sys.executable, "-c", READER, link], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        writer = threading.Thread(target=lambda: [publish(published) for _ in range(10)])
        writer.start()
        seen = reader.stdout.readline()
        writer.join()
    assert reader.returncode == 0
    assert int(seen) > 1


# From Python.


def test_query_gives_a_frame_of_the_newest_version(published: Desk) -> None:
    frame: Any = claude_pipeline.query(
        "SELECT outcome, count(*) AS n FROM notes.latest GROUP BY 1", home=published.home.root
    )
    assert int(frame["n"].sum()) == 12
    publish(published)
    events = claude_pipeline.query(
        "SELECT count(*) AS n FROM ops.events WHERE move = 'warehouse published'", home=published.home.root
    )
    assert int(events["n"][0]) == 1


def test_query_before_the_first_publication_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run a workload first"):
        claude_pipeline.query("SELECT 1", home=tmp_path)
