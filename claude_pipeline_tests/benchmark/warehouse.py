"""What publishing and asking costs at a million rows, and what a copy costs.

    python -m claude_pipeline_tests.benchmark.warehouse --rows 1000000

The merged rows are synthetic: a text of 400 characters, an answer of 120, two output columns, 100 parts of 10,000.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pyarrow as pa

from claude_pipeline.home import Home
from claude_pipeline.result import attempts_schema, merged_schema
from claude_pipeline.sql import literal
from claude_pipeline.warehouse import Contents, Format, build, copy_to
from claude_pipeline.warehouse.ops import STAGED

PART = 10_000
SNAPSHOT, LATER = "2026-11-22.1", "2026-11-23.1"
OUTPUT = [pa.field("queue", pa.string()), pa.field("score", pa.int64())]
OWN = pa.schema([("record_id", pa.string()), ("id", pa.string()), ("text", pa.string())])
QUESTIONS = {
    "count by outcome": "SELECT outcome, count(*) FROM notes.results GROUP BY ALL",
    "sum of cost by queue, newest rows": "SELECT queue, sum(cost_usd) FROM notes.latest GROUP BY ALL",
    "dead letters": "SELECT count(*) FROM notes.dead_letters",
    "one record": "SELECT * FROM notes.results WHERE record_id = 'n000000777'",
    "ten newest rows": "SELECT * FROM notes.latest LIMIT 10",
    "a word in the answers": "SELECT count(*) FROM notes.results WHERE answer LIKE '%77%'",
}


def random_text(words: int) -> str:
    """An expression: that many words of 32 letters, which compress by half as prose does."""
    return " || ' ' || ".join(f"md5({word} || '-' || i)" for word in range(words))


def write_parts(folder: Path, rows: int) -> tuple[list[Path], list[Path]]:
    """Merged parts and attempts, as a run writes them: such texts it does not compress."""
    merged, attempts = [], []
    folder.mkdir(parents=True)
    with duckdb.connect() as duck:
        for number, first in enumerate(range(0, rows, PART)):
            last = min(rows, first + PART)
            columns = {
                "snapshot": f"'{SNAPSHOT}'", "id": "format('n{:09d}', i)", "record_id": "format('n{:09d}', i)",
                "text": random_text(12), "answer": random_text(4),
                "outcome": "if(i % 100 = 0, 'errored', 'succeeded')", "queue": "['billing', 'other', 'technical'][i % 3 + 1]",
                "score": "i % 10", "answer_source": "'batch'", "model": "'claude-haiku-5-5'", "lane": "'batch'",
                "stop_reason": "'end_turn'", "input_tokens": "200 + i % 50", "output_tokens": "30 + i % 9",
                "cache_write_tokens": "0", "cache_read_tokens": "0", "cost_usd": "0.0001 + (i % 50) / 1e8",
                "batch_id": f"'msgbatch_{number}'", "attempt": "1", "answered_at": "TIMESTAMPTZ '2026-11-22 12:00:00+00'",
                "error_type": "if(i % 100 = 0, 'invalid_request_error', NULL)", "chunk": f"'r1-{number:04d}'",
                "position": f"i - {first}", "row": "i", "fingerprint": "encode(md5(i::VARCHAR))", "custom_id": "i::VARCHAR",
                "verdict": "'answered'", "message_id": "md5(i::VARCHAR)", "max_tokens": "64",
            }  # fmt: skip
            for schema, name, paths, compression in (
                (merged_schema(OWN, OUTPUT), "merged", merged, "uncompressed"),
                (attempts_schema(OUTPUT), "attempts", attempts, "zstd"),
            ):
                path = folder / f"{name}-{number:05d}.parquet"
                chosen = ", ".join(
                    f"CAST({columns.get(f.name, 'NULL')} AS {TYPES[str(f.type)]}) AS {f.name}" for f in schema
                )
                query = f"SELECT {chosen} FROM range({first}, {last}) r(i)"
                duck.execute(f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION {compression})")
                paths.append(path)
    return merged, attempts


TYPES = {
    "string": "VARCHAR", "int64": "BIGINT", "int32": "INTEGER", "double": "DOUBLE", "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
    "fixed_size_binary[32]": "BLOB",
}  # fmt: skip


def timed(what: str, act: Callable[[], object]) -> float:
    """Wall-clock seconds, said with the CPU that it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    seconds = time.perf_counter() - wall
    print(f"{what:45} {seconds:8.2f} s   {time.process_time() - cpu:8.2f} CPU-s")
    return seconds


def size_of(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def measure(rows: int, root: Path, *, copies: bool = True) -> dict[str, float]:
    """Print the figures; returns seconds of publishing and of each question."""
    found: dict[str, float] = {}
    home = Home(root / "home")
    merged, attempts = write_parts(home.root / "parts", rows)
    print(
        f"{rows:,} rows in {len(merged)} parts: {sum(p.stat().st_size for p in merged) / 1e6:,.0f} MB of merged Parquet"
    )
    contents = Contents({name: [] for name in STAGED}, {"notes": {SNAPSHOT: merged}}, {"notes": attempts})
    for version in (1, 2):
        what = f"publish, version {version}"
        found[what] = timed(what, lambda version=version: build(contents, home, version))  # type: ignore[misc]
    print(f"{'size of the file':45} {size_of(home.warehouse.resolve()) / 1e6:8.2f} MB")
    found |= _asked(home, QUESTIONS)
    again = {SNAPSHOT: merged, LATER: [_later(merged[-1])]}
    build(Contents({name: [] for name in STAGED}, {"notes": again}, {"notes": attempts}), home, 3)
    newest = {what: sql for what, sql in QUESTIONS.items() if "latest" in sql}
    found |= _asked(home, {f"{what}, of two snapshots": sql for what, sql in newest.items()})
    for kind, name in ((Format.DUCKDB, "copy.duckdb"), (Format.PARQUET, "copy")) if copies else ():
        timed(f"publish --to {name}", lambda kind=kind, name=name: copy_to(home, root / name, format=kind))  # type: ignore[misc]
        print(f"{f'size of {name}':45} {size_of(root / name) / 1e6:8.2f} MB")
    print(f"{'most memory':45} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MB")
    return found


def _asked(home: Home, questions: Mapping[str, str]) -> dict[str, float]:
    with duckdb.connect(str(home.warehouse.resolve()), read_only=True) as duck:
        return {what: timed(what, lambda sql=sql: duck.execute(sql).fetchall()) for what, sql in questions.items()}  # type: ignore[misc]


def _later(part: Path) -> Path:
    """The rows of a part as those of a later snapshot."""
    path = part.with_name("merged-later.parquet")
    duckdb.execute(f"COPY (SELECT * REPLACE ('{LATER}' AS snapshot) FROM {literal(str(part))}) TO {literal(str(path))}")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--no-copies", action="store_true", help="only the publication")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments.rows, Path(folder), copies=not arguments.no_copies)


if __name__ == "__main__":
    main()
