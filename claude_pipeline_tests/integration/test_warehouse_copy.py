"""`publish --to`: copies that stand alone, appear whole, and replace nothing that is not theirs."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from claude_pipeline.cli import cli
from claude_pipeline.errors import UsageError
from claude_pipeline.home import Home, sha256_of
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.publish import publish
from claude_pipeline.warehouse import Format, copy_to, format_of
from claude_pipeline_tests.integration.warehouse_case import ask, desk_over, opened, publish_for_many

CONTENTS = {name: f"SELECT * FROM {name} ORDER BY ALL" for name in (
    "notes.results", "notes.latest", "notes.attempts", "notes.dead_letters", "notes.rejected", "notes.quality", "notes.confusion",
    "ops.snapshots", "ops.chunks", "ops.batches", "ops.costs", "ops.throughput", "ops.events",
)}  # fmt: skip
COMMENTS = """SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns()
    WHERE NOT internal ORDER BY ALL"""


@pytest.fixture(scope="module")
def standing(
    simulator_server: Simulator, simulator_client: BatchClient, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Home, Path]:
    """A published home, and a copy of what it was: tests rename, damage and publish it again."""
    folder = tmp_path_factory.mktemp("published")
    home = publish_for_many(simulator_server, simulator_client, folder)
    shutil.copytree(home.root, folder / "as-it-was", symlinks=True)
    return home, folder / "as-it-was"


@pytest.fixture
def published(standing: tuple[Home, Path], client: BatchClient) -> Iterator[Desk]:
    home, as_it_was = standing
    shutil.rmtree(home.root, ignore_errors=True)
    shutil.copytree(as_it_was, home.root, symlinks=True)
    with desk_over(home, client) as desk:
        yield desk


def test_a_duckdb_copy_says_the_same_without_the_home(published: Desk, tmp_path: Path) -> None:
    before = {name: ask(published.home.warehouse, sql) for name, sql in CONTENTS.items()}
    comments = ask(published.home.warehouse, COMMENTS)

    done = copy_to(published.home, tmp_path / "copy.duckdb")
    os.rename(published.home.root, tmp_path / "gone")

    assert {name: ask(done.path, sql) for name, sql in CONTENTS.items()} == before
    assert ask(done.path, COMMENTS) == comments
    assert done.rows >= 12 + 10


def test_a_duckdb_copy_holds_each_row_once(published: Desk, tmp_path: Path) -> None:
    done = copy_to(published.home, tmp_path / "copy.duckdb")
    tables = (
        "SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema = 'notes'"
    )
    assert sorted(ask(done.path, tables)) == [("attempts",), ("results",)]
    assert ask(done.path, "SELECT count(*) FROM duckdb_views() WHERE NOT internal AND sql LIKE '%read_parquet%'") == [
        (0,)
    ]


def test_a_parquet_copy_is_a_folder_with_a_manifest_that_tells_all(published: Desk, tmp_path: Path) -> None:
    before = {name: ask(published.home.warehouse, sql) for name, sql in CONTENTS.items()}

    done = copy_to(published.home, tmp_path / "copy", format=Format.PARQUET)
    os.rename(published.home.root, tmp_path / "gone")

    manifest = json.loads((done.path / "manifest.json").read_text())
    listed = {f"{table['schema']}.{table['table']}": table for table in manifest["tables"]}
    assert set(CONTENTS) <= set(listed)
    with duckdb.connect() as duck:
        duck.execute("SET TimeZone = 'UTC'")
        for name, rows in before.items():
            file = done.path / listed[name]["file"]
            assert duck.execute(f"SELECT * FROM '{file}' ORDER BY ALL").fetchall() == rows
            assert (listed[name]["rows"], listed[name]["sha256"]) == (len(rows), sha256_of(file))
    columns = {column["name"]: column for column in listed["notes.results"]["columns"]}
    assert columns["money"]["type"] == "STRUCT(amount DOUBLE)"
    assert columns["queue"]["comment"] == "Which team answers; one of billing, other"


@pytest.mark.parametrize("kind", list(Format))
def test_a_copy_replaces_an_earlier_one_and_leaves_nothing_beside_it(
    published: Desk, tmp_path: Path, kind: Format
) -> None:
    folder = tmp_path / "copies"
    target = folder / ("copy.duckdb" if kind is Format.DUCKDB else "copy")
    for _ in range(2):
        copy_to(published.home, target, format=kind)
        publish(published)
    assert [path.name for path in folder.iterdir()] == [target.name]


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_database(path: Path) -> None:
    with duckdb.connect(str(path)) as duck:
        duck.execute("CREATE TABLE mine (a INTEGER)")


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_text("mine")


def a_folder_with_another_manifest(path: Path) -> None:
    a_folder(path)
    (path / "manifest.json").write_text('{"made_by": "somebody else"}')


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        pytest.param(a_file, Format.DUCKDB, id="a-file"),
        pytest.param(a_database, Format.DUCKDB, id="another-database"),
        pytest.param(a_folder, Format.PARQUET, id="a-folder"),
        pytest.param(a_folder_with_another_manifest, Format.PARQUET, id="a-folder-with-a-manifest"),
    ],
)
def test_what_is_not_ours_is_replaced_only_by_force(
    published: Desk, tmp_path: Path, make: Callable[[Path], None], kind: Format
) -> None:
    target = tmp_path / "there"
    make(target)
    with pytest.raises(UsageError, match="is no copy of a warehouse; name another place, or add --force"):
        copy_to(published.home, target, format=kind)

    copy_to(published.home, target, format=kind, force=True)

    assert not (target / "mine.txt").exists()


@pytest.mark.parametrize("place", ["", "warehouse.duckdb", "warehouse", "warehouse/v1.duckdb", ".."])
@pytest.mark.parametrize("kind", list(Format))
def test_the_home_is_never_replaced(published: Desk, place: str, kind: Format) -> None:
    with pytest.raises(UsageError, match="--to"):
        copy_to(published.home, published.home.root / place, format=kind, force=True)
    assert ask(published.home.warehouse, "SELECT count(*) FROM notes.results") == [(12,)]


def test_a_folder_is_not_put_in_the_place_of_a_file_even_by_force(published: Desk, tmp_path: Path) -> None:
    a_file(tmp_path / "there")
    with pytest.raises(UsageError, match="is a file; name another place, or another --format"):
        copy_to(published.home, tmp_path / "there", format=Format.PARQUET, force=True)


def test_a_copy_that_fails_leaves_the_earlier_one(published: Desk, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    copy_to(published.home, target, format=Format.PARQUET)
    before = (target / "manifest.json").read_bytes()
    next(iter(published.home.root.glob("merged/**/*.parquet"))).unlink()
    with pytest.raises(duckdb.Error):
        copy_to(published.home, target, format=Format.PARQUET)
    assert (target / "manifest.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"copy"}


def test_a_folder_is_there_and_whole_at_any_moment(published: Desk, tmp_path: Path) -> None:
    target, seen, ended = tmp_path / "copy", set(), threading.Event()
    copy_to(published.home, target, format=Format.PARQUET)

    def read() -> None:
        while not ended.is_set():
            seen.add(json.loads((target / "manifest.json").read_text())["version"])
            assert (target / "notes" / "results.parquet").exists()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        publish(published)
        copy_to(published.home, target, format=Format.PARQUET)
    ended.set()
    reader.join()
    assert {"v1", "v4"} <= seen | {json.loads((target / "manifest.json").read_text())["version"]}


def test_a_place_where_nothing_can_be_written_is_named(published: Desk) -> None:
    """It was "IOException, which is not foreseen"."""
    for kind in Format:
        with pytest.raises(UsageError, match=r"--to: /proc/copy cannot be written .*; name another place"):
            copy_to(published.home, Path("/proc/copy"), format=kind)


def test_a_copy_of_nothing_is_refused(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is published yet"):
        copy_to(desk.home, tmp_path / "x.duckdb")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("x.duckdb", Format.DUCKDB, id="duckdb"),
        pytest.param("x.DB", Format.DUCKDB, id="db-in-capitals"),
        pytest.param("x/", Format.PARQUET, id="slash"),
        pytest.param("x.duckdb/", Format.PARQUET, id="slash-after-a-suffix"),
        pytest.param(".", Format.PARQUET, id="a-folder-that-is-there"),
    ],
)
def test_the_name_tells_the_format(written: str, expected: Format) -> None:
    assert format_of(Path(written), as_written=written) is expected


def test_a_name_that_does_not_tell_the_format_is_asked_about(published: Desk, tmp_path: Path) -> None:
    arguments = ["publish", "--home", str(published.home.root), "--to", str(tmp_path / "x")]
    refused = CliRunner().invoke(cli, arguments)
    assert isinstance(refused.exception, UsageError)
    assert "or add --format" in str(refused.exception)
    done = CliRunner().invoke(cli, [*arguments, "--format", "parquet"])
    assert (done.exit_code, "tables and views" in done.output) == (0, True)
    with opened(published.home.warehouse) as duck:
        names = duck.execute("SELECT count(*) FROM information_schema.tables").fetchall()
    assert len(list((tmp_path / "x").rglob("*.parquet"))) == names[0][0]
