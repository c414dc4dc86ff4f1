"""What a whole run leaves behind, searched for a key and for what the records say, also inside packed files.

One process runs the command line through its worst hours: the API refuses the key and echoes it, a dataset is broken,
requests fail in both lanes with the key in the error, the SDK is told to log everything, telemetry to carry contents.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.simulator import Options, running
from claude_pipeline.stage.raw import pack
from claude_pipeline_tests.factory import note, write_dataset
from claude_pipeline_tests.integration.command_case import workload_file

pytestmark = pytest.mark.acceptance
KEY = "CANARY-key-5e1f0c77a9"
ROW = "CANARY-row-2b8d4e61f3"
RECORDS = 12
# Where records and answers belong; the ledger, Dagster and all logs are not among them.
FOR_RECORDS = frozenset(
    {"snapshots", "chunks", "downloads", "journals", "results", "merged", "warehouse", "warehouse.duckdb", "reports"}
)
TALKATIVE = {
    "ANTHROPIC_LOG": "debug",
    "ANTHROPIC_OPEN_TELEMETRY": "true",
    "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE": "content",
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
}
WORDS = """
import json, sys, time
begun = time.monotonic()
from claude_pipeline.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["claude-pipeline", *words]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    print("ended", words[0], code, flush=True)
    print(f"{time.monotonic() - begun:.1f} s", file=sys.stderr)
"""
ECHO = f"invalid x-api-key: Bearer {KEY} is not of this organization"


@dataclass(frozen=True)
class Remains:
    """Folders that the process wrote to, what it said, and what the simulator logged meanwhile."""

    root: Path
    said: str
    logged: str

    def holding(self, text: str) -> set[str]:
        """Files that hold the text, as they lie there or unpacked; `said` and `logged` likewise."""
        needle = text.encode()
        files = [path for path in self.root.rglob("*") if path.is_file() and "input" not in path.parts]
        assert len(files) > 30
        found = {str(path.relative_to(self.root)) for path in files if any(needle in face for face in faces(path))}
        return found | {name for name in ("said", "logged") if text in getattr(self, name)}


def faces(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what is in it where it is packed."""
    yield path.read_bytes()
    head = path.read_bytes()[:16]
    if head.startswith(b"PAR1"):
        table = pq.read_table(path)
        yield str(table.to_pylist()).encode() + str(table.schema.metadata).encode()
    elif head.startswith(b"\x1f\x8b"):
        yield gzip.decompress(path.read_bytes())
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        with pa.input_stream(str(path), compression="zstd") as file:
            yield file.read()
    elif head.startswith(b"SQLite format 3"):
        with sqlite3.connect(path) as database:
            yield "\n".join(database.iterdump()).encode()
        database.close()
    elif head[8:12] == b"DUCK":
        with duckdb.connect(str(path), read_only=True) as duck:
            tables = duck.sql("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
            yield str([duck.sql(f'FROM "{schema}"."{name}"').fetchall() for schema, name in tables]).encode()
            yield str(duck.sql("SELECT sql, comment FROM duckdb_views()").fetchall()).encode()


@pytest.fixture(scope="module")
def remains(tmp_path_factory: pytest.TempPathFactory) -> Remains:
    root = tmp_path_factory.mktemp("canary")
    good, broken, live = (root / "input" / name for name in ("good", "broken", "live"))
    for folder in (good, broken, live):
        folder.mkdir(parents=True)
    files = [
        workload_file(good),
        workload_file(broken, name="broken"),
        workload_file(live, name="live", lane="realtime"),
    ]
    write_dataset(good / "notes.jsonl", [note(n, f"{ROW} {n}") for n in range(RECORDS)])
    write_dataset(live / "notes.jsonl", [note(n, f"{ROW} live {n}") for n in range(RECORDS)])
    write_dataset(broken / "notes.jsonl", [note(1, ROW), note(1, f"{ROW} again")])
    words = [["run", str(files[0])], ["resume"], *(["run", str(file)] for file in files)]
    words += [["report", str(files[0])], ["status"], ["plan", str(files[0])], ["doctor"]]
    logged = io.StringIO()
    handler = logging.StreamHandler(logged)
    logging.getLogger().addHandler(handler)
    for folder in ("home", "dagster", "tmp", "user"):
        (root / folder).mkdir(mode=0o700)
    with running(Options(speed=600, batch_seconds=(60, 120), seed=3)) as simulator:
        refused = {"status": 401, "error_type": "authentication_error", "message": ECHO, "count": 1}
        simulator.faults.add(endpoint="create", kind="status", **refused)
        for endpoint, kind in (("results", "status"), ("messages", "status")):
            wrong = {"status": 400, "error_type": "invalid_request_error", "message": ECHO, "count": 1}
            simulator.faults.add(endpoint=endpoint, kind=kind, **wrong)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONWARNINGS": "ignore",
            "HOME": str(root / "user"),
            "TMPDIR": str(root / "tmp"),
            "CLAUDE_PIPELINE_HOME": str(root / "home"),
            "DAGSTER_HOME": str(root / "dagster"),
            "CLAUDE_PIPELINE_SETTLE_SECONDS": "0",
            "ANTHROPIC_BASE_URL": simulator.base_url,
            "ANTHROPIC_API_KEY": KEY,
            **TALKATIVE,
        }
        ended = subprocess.run(
            [sys.executable, "-c", WORDS, json.dumps(words)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert all(rule["struck"] for rule in simulator.faults.as_json()), simulator.faults.as_json()
    logging.getLogger().removeHandler(handler)
    return Remains(root, ended.stdout + ended.stderr, logged.getvalue())


def test_the_hours_were_as_bad_as_they_were_meant_to_be(remains: Remains) -> None:
    ends = [line.removeprefix("ended ") for line in remains.said.splitlines() if line.startswith("ended ")]

    # Refused; resumed; done; a broken dataset; done but for a request that was refused.
    assert ends == ["run 3", "resume 0", "run 0", "run 2", "run 1", "report 0", "status 0", "plan 0", "doctor 0"]
    assert "Bearer ******** is not of this organization" in remains.said
    assert "HTTP Request: POST" in remains.said  # the SDK does log


def test_the_key_is_nowhere(remains: Remains) -> None:
    assert remains.holding(KEY) == set()


def test_what_records_say_is_only_where_it_belongs(remains: Remains) -> None:
    found = remains.holding(ROW)

    assert {path for path in found if not (path.startswith("home/") and path.split("/")[1] in FOR_RECORDS)} == set()
    assert len(found) > 5  # the search does find it: in the snapshot, the requests, the answers


def test_the_search_sees_into_packed_files(tmp_path: Path) -> None:
    words = [f"{ROW} {n:06d}" for n in range(2_000)]
    with gzip.open(tmp_path / "a.gz", "wt") as file:
        file.write("".join(words))
    (tmp_path / "a.jsonl").write_text("".join(words))
    pack(tmp_path / "a.jsonl")
    pq.write_table(pa.table({"text": words}), tmp_path / "a.parquet", compression="zstd")
    with duckdb.connect(str(tmp_path / "a.duckdb")) as duck:
        duck.execute("CREATE TABLE t AS SELECT unnest(?) AS text", [words])

    for path in tmp_path.iterdir():
        assert any(words[-1].encode() in face for face in faces(path)), path


def test_nothing_is_pickled(remains: Remains) -> None:
    pickles = [p for p in remains.root.rglob("*") if p.is_file() and p.read_bytes()[:2] in (b"\x80\x04", b"\x80\x05")]

    assert pickles == []


def test_everything_is_closed_to_others(remains: Remains) -> None:
    """Under the usual umask: what the process made itself lies in folders of 0700, as files of 0600."""
    home = remains.root / "home"
    loose = {
        str(path.relative_to(home)): oct(path.stat().st_mode & 0o777)
        for path in home.rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o077
    }

    assert loose == {}
