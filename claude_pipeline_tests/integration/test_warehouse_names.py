"""What analysts build on: the names and the types of everything that is published. A change here breaks their queries."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pipeline.lane.client import BatchClient
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline_tests.factory import workload_over
from claude_pipeline_tests.integration.warehouse_case import OUTPUT, ask, publish_for_many, run

COLUMNS = """SELECT column_name || ' ' || replace(data_type, 'TIMESTAMP WITH TIME ZONE', 'TIMESTAMPTZ') FROM duckdb_columns()
    WHERE schema_name = '{}' AND table_name = '{}' ORDER BY column_index"""
OUTCOME = "outcome ENUM('canceled', 'errored', 'expired', 'rejected', 'succeeded')"
SOURCE = "answer_source ENUM('batch', 'duplicate', 'realtime', 'reuse')"
LANE = "lane ENUM('batch', 'realtime')"
OUTPUT_COLUMNS = ["queue VARCHAR", "score BIGINT", "parts VARCHAR[]", "money STRUCT(amount DOUBLE)"]
ANSWERED = [
    SOURCE, "model VARCHAR", LANE, "stop_reason VARCHAR", "input_tokens BIGINT", "output_tokens BIGINT",
    "cache_write_tokens BIGINT", "cache_read_tokens BIGINT", "cost_usd DOUBLE", "batch_id VARCHAR", "attempt INTEGER",
    "error_type VARCHAR", "error_message VARCHAR", "answered_at TIMESTAMPTZ",
]  # fmt: skip
RESULTS = [
    "snapshot VARCHAR", "id VARCHAR", "text VARCHAR", "stars BIGINT", "record_model VARCHAR", "record_id VARCHAR", OUTCOME,
    "answer VARCHAR", *OUTPUT_COLUMNS, *ANSWERED,
]  # fmt: skip
PUBLISHED = {
    "notes.results": RESULTS,
    "notes.latest": RESULTS,
    "notes.dead_letters": RESULTS,
    "notes.rejected": RESULTS,
    "notes.attempts": [
        "snapshot VARCHAR", "chunk VARCHAR", "position INTEGER", "row BIGINT", "custom_id VARCHAR", "message_id VARCHAR",
        "max_tokens BIGINT", "record_id VARCHAR", OUTCOME, "answer VARCHAR", *OUTPUT_COLUMNS, *ANSWERED, "fingerprint VARCHAR",
    ],
    "notes.quality": [
        "snapshot VARCHAR", "model VARCHAR", "asked BIGINT", "succeeded BIGINT", "valid BIGINT", "labelled BIGINT",
        "correct BIGINT", "accuracy DOUBLE", "score DOUBLE", "cost_usd DOUBLE", "cost_per_record_usd DOUBLE",
    ],
    "notes.confusion": [
        "snapshot VARCHAR", "model VARCHAR", "label VARCHAR", "answered VARCHAR", "correct BOOLEAN", "records BIGINT",
    ],
    "ops.snapshots": [
        "workload VARCHAR", "snapshot VARCHAR", "partition VARCHAR", "number INTEGER", "state VARCHAR", "records BIGINT",
        "asked BIGINT", "reused BIGINT", "duplicates BIGINT", "awaited BIGINT", "rejected BIGINT", "succeeded BIGINT",
        "dead BIGINT", "cost_usd DOUBLE", "created_at TIMESTAMPTZ", "planned_at TIMESTAMPTZ", "merged_at TIMESTAMPTZ",
        "canceled_at TIMESTAMPTZ", "watermark VARCHAR", "rests_on VARCHAR",
    ],
    "ops.chunks": [
        "workload VARCHAR", "snapshot VARCHAR", "chunk VARCHAR", "round INTEGER", "model VARCHAR", LANE, "state VARCHAR",
        "requests INTEGER", "size_bytes BIGINT", "reserve_usd DOUBLE", "sent INTEGER", "batch_id VARCHAR",
        "succeeded INTEGER", "errored INTEGER", "canceled INTEGER", "expired INTEGER", "retryable INTEGER",
        "invalid INTEGER", "lost INTEGER", "input_tokens BIGINT", "output_tokens BIGINT", "cost_usd DOUBLE",
        "error_type VARCHAR", "error_message VARCHAR", "created_at TIMESTAMPTZ", "moved_at TIMESTAMPTZ",
        "collected_at TIMESTAMPTZ",
    ],
    "ops.batches": [
        "batch_id VARCHAR", "workload VARCHAR", "snapshot VARCHAR", "chunk VARCHAR", "model VARCHAR", "status VARCHAR",
        "requests INTEGER", "succeeded INTEGER", "errored INTEGER", "canceled INTEGER", "expired INTEGER",
        "cost_usd DOUBLE", "created_at TIMESTAMPTZ", "ended_at TIMESTAMPTZ", "expires_at TIMESTAMPTZ",
        "turnaround_seconds DOUBLE", "hours_to_sla DOUBLE", "paid_twice BOOLEAN",
    ],
    "ops.costs": [
        "day DATE", "workload VARCHAR", "model VARCHAR", LANE, "requests BIGINT", "input_tokens BIGINT",
        "output_tokens BIGINT", "cache_write_tokens BIGINT", "cache_read_tokens BIGINT", "cost_usd DOUBLE",
    ],
    "ops.sla": [
        "batch_id VARCHAR", "workload VARCHAR", "snapshot VARCHAR", "chunk VARCHAR", "model VARCHAR", "status VARCHAR",
        "requests INTEGER", "expired INTEGER", "created_at TIMESTAMPTZ", "expires_at TIMESTAMPTZ", "ended_at TIMESTAMPTZ",
        "age_hours DOUBLE", "hours_left DOUBLE",
    ],
    "ops.throughput": [
        "minute TIMESTAMPTZ", "workload VARCHAR", "model VARCHAR", LANE, "requests_per_min DOUBLE",
        "input_tokens_per_min DOUBLE", "output_tokens_per_min DOUBLE", "estimated BOOLEAN",
    ],
    "ops.events": [
        "id BIGINT", "at TIMESTAMPTZ", "move VARCHAR", "workload VARCHAR", "snapshot VARCHAR", "chunk VARCHAR",
        "batch_id VARCHAR", "before VARCHAR", "after VARCHAR", "detail VARCHAR",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def warehouse(
    simulator_server: Simulator, simulator_client: BatchClient, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Published once, and only read."""
    return publish_for_many(simulator_server, simulator_client, tmp_path_factory.mktemp("published")).warehouse


def test_every_name_and_type_is_the_agreed_one(warehouse: Path) -> None:
    names = ask(warehouse, "SELECT table_schema || '.' || table_name FROM information_schema.tables ORDER BY 1")
    found = {name: [row[0] for row in ask(warehouse, COLUMNS.format(*name.split(".")))] for (name,) in names}
    assert found == PUBLISHED


def test_the_enums_are_types_of_their_own(warehouse: Path) -> None:
    types = "SELECT DISTINCT type_name FROM duckdb_types() WHERE schema_name = 'ops' AND NOT internal ORDER BY 1"
    assert ask(warehouse, types) == [("answer_source",), ("lane",), ("outcome",)]
    assert ask(warehouse, "SELECT count(*) FROM notes.results WHERE outcome = 'sucseeded'") == [(0,)]


def test_it_reads_the_same_where_it_is_attached_to_another_session(warehouse: Path) -> None:
    import duckdb

    with duckdb.connect() as duck:
        duck.execute(f"ATTACH '{warehouse}' AS claude (READ_ONLY)")
        assert duck.execute("SELECT count(*), count(DISTINCT outcome) FROM claude.notes.latest").fetchall() == [(12, 3)]
        assert duck.execute("SELECT count(*) FROM claude.notes.dead_letters WHERE money IS NULL").fetchall()[0][0] > 0


def test_a_snapshot_of_no_records_has_all_views_with_all_types(
    desk: Desk, simulator: Simulator, tmp_path: Path
) -> None:
    nothing = {"sql": "SELECT 1 AS id, 'a' AS text, 2 AS stars WHERE false", "id": "id", "allow_empty": True}
    run(desk, workload_over(tmp_path, [], dataset=nothing, output=OUTPUT), simulator)

    names = ask(desk.home.warehouse, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'notes'")
    assert {name for (name,) in names} == {"results", "latest", "attempts", "dead_letters", "rejected"}
    own = ["snapshot VARCHAR", "id INTEGER", "text VARCHAR", "stars INTEGER", "record_id VARCHAR", OUTCOME]
    expected = [*own, "answer VARCHAR", *OUTPUT_COLUMNS, *ANSWERED]
    assert [row[0] for row in ask(desk.home.warehouse, COLUMNS.format("notes", "latest"))] == expected
    attempts = [row[0] for row in ask(desk.home.warehouse, COLUMNS.format("notes", "attempts"))]
    assert set(OUTPUT_COLUMNS) <= set(attempts)
    assert ask(desk.home.warehouse, "SELECT count(*) FROM notes.results") == [(0,)]
    assert ask(desk.home.warehouse, "SELECT records, succeeded, state FROM ops.snapshots") == [(0, 0, "merged")]
