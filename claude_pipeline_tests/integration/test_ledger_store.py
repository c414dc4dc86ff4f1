"""The ledger as a database: opened again, migrated, refused; what it can keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from claude_pipeline.errors import (
    BudgetReached,
    LedgerDamaged,
    LedgerNewer,
    LedgerUnreachable,
    SettingInvalid,
    WorkspaceMismatch,
)
from claude_pipeline.home import Home
from claude_pipeline.ledger import (
    ChunkState,
    Ledger,
    SnapshotId,
    Watermark,
)
from claude_pipeline.ledger.migration import VERSION
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import loaded_snapshot, make_new_chunk, ready_chunks
from claude_pipeline_tests.integration.ledger_case import (
    COLLECTED,
    SPEND,
    collected,
    events,
    moves,
    opened,
    walls,
)

pytestmark = pytest.mark.both_databases


WORDS: list[Any] = [
    pytest.param("a\0b", "a\ufffdb", id="nul"),
    pytest.param("\ud83d half an emoji", "\ufffd half an emoji", id="lone-surrogate"),
    pytest.param("😀 ü " * 2_000, "😀 ü " * 2_000, id="long"),
]


@pytest.mark.parametrize(("said", "kept"), WORDS)
def test_whatever_the_api_says_can_be_kept(ledger: Ledger, said: str, kept: str) -> None:
    one, two = ready_chunks(ledger, NOW, make_new_chunk(1), make_new_chunk(2))
    ledger.intent_refused(
        opened(ledger, one, 1), chunk_state=ChunkState.FAILED, error=said, error_type=said, not_before=None, at=NOW
    )
    ledger.intent_doubted(opened(ledger, two, 2), reason=said, at=NOW)
    ledger.account_stopped("account", said, at=NOW)
    failed = ledger.chunk(one.id)
    assert (failed.error, failed.error_type) == (kept, kept[:64])
    assert ledger.unsettled_intents()[0].doubt_reason == kept
    assert events(ledger)[-1]["detail"] == f"account: {kept}"


def test_amounts_beyond_32_bits_are_kept_to_the_last_unit(ledger: Ledger) -> None:
    one, two = ready_chunks(ledger, NOW, *(make_new_chunk(n, reserve_units=4 * 10**18 + n) for n in (1, 2)))
    spend = replace(SPEND, cost_units=4 * 10**18 + 1, input_tokens=5 * 10**9)
    collected(ledger, one, what=replace(COLLECTED, spend=(spend,)))
    wall = walls(snapshot_units=8 * 10**18 + 2)
    with pytest.raises(BudgetReached):
        opened(ledger, two, 2, wall)  # one unit over
    assert ledger.progress("notes")[0].cost_units == 4 * 10**18 + 1
    assert [row["input_tokens"] for row in ledger.dump("spend")] == [5 * 10**9]


ADDED = {
    "snapshot": (
        *("merge_number", "merged_chunks", "published_merge", "canceled_at", "rounds_used", "pilot"),
        *("watermark_column", "watermark_type", "watermark_value", "watermark_base", "full_snapshot"),
    ),
    "chunk": ("cancel_asked_at", "stopped", "rounds_before", "moves_on", "next_level_cut"),
    "workload": ("measure",),
    "part": ("merged",),
    "batch": ("paid_twice",),
}  # since the first schema


def test_a_ledger_of_the_first_schema_is_brought_to_this_one(
    ledger: Ledger, ledger_sql: Connection, home: Home, ledger_url: str | None
) -> None:
    chunks = ready_chunks(ledger, NOW)
    for name, columns in ADDED.items():
        for column in columns:
            ledger_sql.execute(text(f"ALTER TABLE {name} DROP COLUMN {column}"))
    ledger_sql.execute(text("UPDATE setting SET value = '1' WHERE key = 'schema_version'"))
    ledger_sql.commit()
    with Ledger.open(ledger_url, path=home.ledger) as migrated:
        assert migrated.get_setting("schema_version") == str(VERSION)
        assert migrated.chunks("notes") == chunks
        collected(migrated, chunks[0])
        assert migrated.chunk(chunks[0].id).cost_units == 7


def test_a_ledger_from_before_watermarks_has_none(
    ledger: Ledger, ledger_sql: Connection, home: Home, ledger_url: str | None
) -> None:
    before = loaded_snapshot(ledger, NOW)
    for column in ("watermark_column", "watermark_type", "watermark_value", "watermark_base"):
        ledger_sql.execute(text(f"ALTER TABLE snapshot DROP COLUMN {column}"))
    ledger_sql.execute(text("UPDATE setting SET value = '6' WHERE key = 'schema_version'"))
    ledger_sql.commit()
    with Ledger.open(ledger_url, path=home.ledger) as migrated:
        assert migrated.get_setting("schema_version") == str(VERSION)
        assert migrated.snapshots("notes") == [before]
        assert (before.watermark_column, before.watermark_base) == (None, None)
        again = loaded_snapshot(migrated, NOW, watermark=MARK)
        assert again == replace(before, watermark_column="it's at", watermark_type="text", watermark_value="ü'9")


MARK = Watermark("it's at", "text", "ü'9", None)


def test_equal_records_on_another_base_are_noted_once(ledger: Ledger) -> None:
    first = loaded_snapshot(ledger, NOW, watermark=MARK)
    for _ in range(2):
        moved = loaded_snapshot(ledger, NOW, watermark=replace(MARK, base=SnapshotId("2026-11-21.1")))
        assert moved == replace(first, watermark_base="2026-11-21.1")
    assert loaded_snapshot(ledger, NOW) == moved  # read without a watermark now: what is known stays
    assert moves(ledger).count("watermark noted") == 1


def test_a_ledger_belongs_to_the_first_workspace_it_saw(ledger: Ledger) -> None:
    ledger.pin_workspace(None, at=NOW)
    ledger.pin_workspace("wrkspc_a", at=NOW)
    ledger.pin_workspace("wrkspc_a", at=NOW)
    with pytest.raises(WorkspaceMismatch, match="belongs to workspace wrkspc_a, the key to wrkspc_b"):
        ledger.pin_workspace("wrkspc_b", at=NOW)
    assert moves(ledger) == ["workspace pinned"]


def test_a_ledger_opened_again_is_the_same(home: Home, ledger_url: str | None) -> None:
    with Ledger.open(ledger_url, path=home.ledger) as first:
        chunks = ready_chunks(first, NOW)
        name = first.id
    with Ledger.open(ledger_url or f"sqlite:///{home.ledger}", path=home.root / "other" / "ignored.db") as again:
        assert (again.id, again.chunks("notes")) == (name, chunks)
        assert again.chunks("notes")[0].created_at == NOW


def test_a_newer_ledger_is_refused(home: Home, ledger_url: str | None) -> None:
    with Ledger.open(ledger_url, path=home.ledger) as ledger:
        ledger.put_setting("schema_version", "99", at=NOW, move="x")
    with pytest.raises(LedgerNewer, match=r"schema 99.*upgrade claude_pipeline"):
        Ledger.open(ledger_url, path=home.ledger)


def test_a_file_that_is_no_ledger_is_refused(home: Home) -> None:
    home.ledger.write_bytes(b"no database at all, but long enough to be read as one" * 50)
    with pytest.raises(LedgerDamaged, match=r"cannot be read.*restore a backup"):
        Ledger.open(None, path=home.ledger)


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "oracle+nothing://x"])
def test_an_unusable_url_is_refused(home: Home, url: str) -> None:
    with pytest.raises(SettingInvalid, match="CLAUDE_PIPELINE_LEDGER_URL"):
        Ledger.open(url, path=home.ledger)


def test_an_unknown_state_is_refused_by_the_database_itself(ledger: Ledger, ledger_sql: Connection) -> None:
    ready_chunks(ledger, NOW)
    with pytest.raises(IntegrityError, match=r"(?i)check"):
        ledger_sql.execute(text("UPDATE chunk SET state = 'sold'"))


def test_many_reads_share_a_connection(ledger: Ledger) -> None:
    taken: list[object] = []
    event.listen(ledger._engine, "checkout", lambda *_: taken.append(None))
    with ledger.many_reads(), ledger.many_reads():
        for _ in range(3):
            ledger.chunks("reviews")
    assert len(taken) == 1
    ledger.chunks("reviews")
    assert len(taken) == 2


def test_of_many_reads_each_sees_what_was_committed_before_it(ledger: Ledger) -> None:
    with ledger.many_reads():
        assert ledger.get_setting("colour") is None
        ledger.put_setting("colour", "green", at=NOW, move="coloured")
        assert ledger.get_setting("colour") == "green"


def test_of_many_reads_one_may_fail_or_stand_within_another(ledger: Ledger) -> None:
    with ledger.many_reads():
        with pytest.raises(ProgrammingError if not ledger._local else LedgerUnreachable), ledger._reading() as outer:
            outer.execute(text("SELECT * FROM no_such_table"))
        with ledger._reading() as outer:
            rows = outer.execute(text("SELECT 1 UNION ALL SELECT 2"))
            assert ledger.id == ledger.get_setting("ledger_id")
            assert len(rows.all()) == 2
