"""What anybody would write with the plain SDK and pandas: the same work, without what makes it safe.

    python -m claude_pipeline_tests.benchmark.script RECORDS.parquet FOLDER [CHUNK]

Read the records, make the requests, create a batch for every so many, wait, read the results, join them to the
records, write one Parquet file, show it in DuckDB. It remembers nothing: started again, it pays again. It validates
nothing, keeps no raw results, counts no cost, and holds everything in memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.25


def run(records: Path, folder: Path, chunk: int = 10_000, note: Callable[[str], None] = lambda stage: None) -> int:
    """Returns how many rows it wrote; `note` is told of each stage that ended."""
    import anthropic
    import duckdb
    import pandas

    from claude_pipeline_tests.benchmark.records import PROMPT

    client = anthropic.Anthropic()
    note("start")
    frame = pandas.read_parquet(records)
    note("load")
    requests = [
        {
            "custom_id": f"row-{number}",
            "params": {
                "model": "claude-haiku-5-5",
                "max_tokens": 64,
                "messages": [{"role": "user", "content": PROMPT.format(text=text)}],
            },
        }
        for number, text in enumerate(frame["text"])
    ]
    note("render")
    batches = [
        client.messages.batches.create(requests=requests[first : first + chunk])  # type: ignore[arg-type]
        for first in range(0, len(requests), chunk)
    ]
    note("submit")
    rows = []
    for batch in batches:
        while client.messages.batches.retrieve(batch.id).processing_status != "ended":
            time.sleep(POLL_SECONDS)
        for line in client.messages.batches.results(batch.id):
            row = {"number": int(line.custom_id.removeprefix("row-")), "outcome": line.result.type}
            if line.result.type == "succeeded":
                message = line.result.message
                row["answer"] = "".join(block.text for block in message.content if block.type == "text")
                row["input_tokens"], row["output_tokens"] = message.usage.input_tokens, message.usage.output_tokens
            rows.append(row)
    note("collect")
    results = pandas.DataFrame(rows).set_index("number")
    merged = frame.join(results)
    merged.to_parquet(folder / "merged.parquet", compression="zstd")
    note("merge")
    with duckdb.connect(str(folder / "script.duckdb")) as duck:
        duck.execute(f"CREATE VIEW results AS SELECT * FROM '{folder / 'merged.parquet'}'")
        found = duck.execute("SELECT count(*) FROM results WHERE outcome = 'succeeded'").fetchone()
    note("publish")
    return int(found[0]) if found else 0


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:4]))
