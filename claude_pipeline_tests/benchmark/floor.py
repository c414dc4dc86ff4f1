"""The least that the work can cost here: bytes through a socket, parse, copy; nothing remembered, nothing checked.

    python -m claude_pipeline_tests.benchmark.floor RECORDS.parquet FOLDER [CHUNK]

No SDK, no template, no ledger, one thread: read a batch of records, escape their prompts into a body, POST it, take the
results to the disk, parse each line, write records and answers as Parquet. What the product costs above it is the price
of what it promises.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline_tests.benchmark.batch_api import BATCHES
from claude_pipeline_tests.benchmark.records import PROMPT

_ENTRY = b'{"custom_id":"r%d","params":{"max_tokens":64,"messages":[{"content":%s,"role":"user"}],"model":"claude-haiku-5-5"}}'
_PIECE_BYTES = 1 << 18


def run(records: Path, folder: Path, chunk: int = 10_000, note: Callable[[str], None] = lambda stage: None) -> int:
    """Returns how many rows it wrote; `note` is told of each stage that ended."""
    address = urlsplit(os.environ["ANTHROPIC_BASE_URL"])
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 80)
    head, tail = PROMPT.split("{text}")
    raw = folder / "results.jsonl"
    written = 0
    schema = pq.read_schema(records).append(pa.field("answer", pa.string()))
    note("start")
    with pq.ParquetFile(records, pre_buffer=False) as source, pq.ParquetWriter(
        folder / "floor.parquet", schema, compression="zstd"
    ) as target:  # fmt: skip
        for batch in source.iter_batches(batch_size=chunk):
            note("load")
            texts = batch.column("text").to_pylist()
            entries = [_ENTRY % (n, orjson.dumps(head + text + tail)) for n, text in enumerate(texts)]
            body = b'{"requests":[' + b",".join(entries) + b"]}"
            note("render")
            connection.request("POST", BATCHES, body, {"content-type": "application/json"})
            batch_id = json.loads(connection.getresponse().read())["id"]
            note("submit")
            _download(connection, batch_id, raw)
            note("download")
            answers = _answers(raw, len(texts))
            note("parse")
            columns = [*batch.columns, pa.array(answers, pa.string())]
            target.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            written += len(texts)
            note("merge")
    return written


def _download(connection: http.client.HTTPConnection, batch_id: str, path: Path) -> None:
    connection.request("GET", f"{BATCHES}/{batch_id}/results")
    answer = connection.getresponse()
    with path.open("wb") as file:
        while piece := answer.read(_PIECE_BYTES):
            file.write(piece)


def _answers(raw: Path, count: int) -> list[str | None]:
    answers: list[str | None] = [None] * count
    with raw.open("rb") as lines:
        for line in lines:
            document = orjson.loads(line)
            text = document["result"]["message"]["content"][0]["text"]
            answers[int(document["custom_id"][1:])] = text
    return answers


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:4]))
