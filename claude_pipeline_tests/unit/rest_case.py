"""Merges of small snapshots with all that a rest can hold, by seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.result import FailedChunk, MergeInput, attempts_schema
from claude_pipeline.stage.plan_file import PLAN

HERE, EARLIER = "2026-11-03.1", ("2026-11-01.1", "2026-11-02.1")
NIGHT = datetime(2026, 11, 1, tzinfo=UTC)
OUTPUT = (
    pa.field("label", pa.string()),
    pa.field("score", pa.float64()),
    pa.field("count", pa.int64()),
    pa.field("flag", pa.bool_(), metadata={b"comment": b"of the answer"}),
    pa.field("tags", pa.list_(pa.string())),
    pa.field("parts", pa.struct([("name", pa.string()), ("sizes", pa.list_(pa.int64()))])),
    pa.field("file_index", pa.string()),
    pa.field("File_Row_Number", pa.int64()),
    pa.field("place", pa.string()),
)
RECORD = pa.schema(
    [
        ("record_id", pa.string()),
        ("text", pa.string()),
        ("answer", pa.string()),  # is record_answer in results
        ("number", pa.int32()),
        ("tags of it", pa.list_(pa.string())),
        ("at", pa.timestamp("us", tz="UTC")),
    ]
)


def fingerprint(question: int) -> bytes:
    return hashlib.sha256(str(question).encode()).digest()


def reused(
    folder: Path,
    records: int,
    *,
    answer: str = "",
    column: str = "text",
    output: Mapping[pa.Field, Callable[[int], Any]] = MappingProxyType({}),
    shuffled: bool = False,
    text: str = "",
) -> MergeInput:
    """A merge of records that an earlier snapshot's one chunk answered, all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = list(range(records))
    if shuffled:
        random.Random(1).shuffle(asked)
    snapshot = pa.schema([("record_id", pa.string()), (column, pa.string())])
    attempts = attempts_schema(output)
    same = {
        "snapshot": EARLIER[0],
        "outcome": "succeeded",
        "answered_at": NIGHT,
        "stop_reason": "end_turn",
        "cost_usd": 1.0,
    }
    with (
        pq.ParquetWriter(folder / "snapshot.parquet", snapshot, write_page_checksum=True) as of_snapshot,
        pq.ParquetWriter(folder / "plan.parquet", PLAN) as of_plan,
        pq.ParquetWriter(folder / "earlier.parquet", attempts, write_page_checksum=True) as of_attempts,
    ):
        for first in range(0, records, 10_000):
            rows = range(first, min(first + 10_000, records))
            own = [{"record_id": f"r{n}", column: f"text {n}{text}"} for n in rows]
            of_snapshot.write_table(pa.Table.from_pylist(own, snapshot))
            plan = [{"row": n, "record_id": f"r{n}", "fingerprint": fingerprint(n), "further": []} for n in rows]
            of_plan.write_table(pa.Table.from_pylist(plan, PLAN))
            answered = [
                same | {"row": n, "position": position, "fingerprint": fingerprint(n), "answer": f"answer {n} {answer}"}
                | {field.name: value(n) for field, value in output.items()}
                for position, n in zip(rows, asked[rows.start : rows.stop], strict=True)
            ]  # fmt: skip
            of_attempts.write_table(pa.Table.from_pylist(answered, attempts))
    return merge_of_reused(folder, list(output))


def merge_of_reused(folder: Path, output: Sequence[pa.Field] = ()) -> MergeInput:
    """Of the files that `reused` wrote."""
    return MergeInput(
        snapshot_id=HERE,
        snapshot=folder / "snapshot.parquet",
        plan=folder / "plan.parquet",
        own_attempts=[],
        other_attempts=[folder / "earlier.parquet"],
        failed=[],
        output=list(output),
    )


class RestCase:
    """Builds the files of one merge into a folder. `once`: no question has two answers, and none was cut."""

    def __init__(
        self, seed: int, folder: Path, *, cascade: bool = False, records: int | None = None, once: bool = False
    ) -> None:
        self.chance, self.folder, self.cascade = random.Random(seed), folder, cascade
        folder.mkdir(parents=True, exist_ok=True)
        self.records = self.chance.choice([0, 1, 7, 40, 90]) if records is None else records
        self.output = [field for field in OUTPUT if self.chance.random() < 0.6]
        self.moments = 0
        self.once, self.answered = once, set[int]()
        self.questions = max(1, self.records * self.chance.choice([1, 2, 3]) // 2)  # fewer than records: duplicates

    def merge(self) -> MergeInput:
        chance = self.chance
        snapshot = self.write_snapshot()
        self.asked = [
            None if chance.random() < 0.1 else [self.question() for _ in range(3 if self.cascade else 1)]
            for _ in range(self.records)
        ]
        plan = self.write_plan()
        own = [
            self.write_attempts(f"own-{n}", HERE, self.of_plan(), attempt=n + 1) for n in range(chance.randint(0, 3))
        ]
        earlier_plan = [
            self.write_attempts(f"plan-{n}", HERE, self.of_plan() + self.of_anything(3), attempt=n + 1)
            for n in range(chance.randint(0, 2))
        ]
        others = [
            self.write_attempts(f"{name}-{n}", name, self.of_anything(self.records), attempt=n + 1)
            for name in EARLIER
            for n in range(chance.randint(0, 2))
        ]
        chance.shuffle(others)
        return MergeInput(
            snapshot_id=HERE,
            snapshot=snapshot,
            plan=plan,
            own_attempts=own,
            other_attempts=[*earlier_plan, *others],
            failed=[self.failed(number) for number in range(chance.randint(0, 3))],
            output=self.output,
            cascade=self.cascade,
            gives_up_when="lane = 'realtime' AND output_tokens > 50"
            if self.cascade and chance.random() < 0.5
            else None,
        )

    def question(self) -> int:
        return self.chance.randrange(self.questions)

    def of_plan(self) -> list[tuple[int, int]]:
        """Some of the plan's records, in order, each with a question of its: what a chunk asks."""
        share = self.chance.choice([0.1, 0.5, 1.0])
        return [
            (row, self.chance.choice(asked))
            for row, asked in enumerate(self.asked)
            if asked is not None and self.chance.random() < share
        ]

    def of_anything(self, count: int) -> list[tuple[int, int]]:
        return [(self.chance.randrange(200), self.question()) for _ in range(count)]

    def write_snapshot(self) -> Path:
        rows = [
            {
                "record_id": f"r{row}",
                "text": None if row % 11 == 3 else f"text {row} " * self.chance.randint(0, 3),
                "answer": f"own answer {row}",
                "number": row,
                "tags of it": [f"t{row}"] * (row % 3),
                "at": NIGHT + timedelta(hours=row),
            }
            for row in range(self.records)
        ]
        path = self.folder / "snapshot[1].parquet"
        table = pa.Table.from_pylist(rows, RECORD)
        pq.write_table(table, path, row_group_size=self.chance.choice([3, 8, 1000]), write_page_checksum=True)
        return path

    def write_plan(self) -> Path:
        rows = []
        for row, asked in enumerate(self.asked):
            known: dict[str, Any] = {"row": row, "record_id": f"r{row}", "further": []}
            if asked is None:
                known |= {"reject_code": "empty_prompt", "reject_detail": f"line {row}: it's empty"}
            else:
                known |= {"fingerprint": fingerprint(asked[0]), "size_bytes": 9, "model": "claude-haiku-5-5"}
                known["further"] = [fingerprint(question) for question in asked[1:]]
            rows.append(known)
        path = self.folder / "plan.parquet"
        pq.write_table(pa.Table.from_pylist(rows, PLAN), path)
        return path

    def write_attempts(self, name: str, snapshot: str, asked: Sequence[tuple[int, int]], *, attempt: int) -> Path:
        rows = [self.attempt(name, snapshot, position, attempt, *of) for position, of in enumerate(asked)]
        schema = attempts_schema(self.output)
        if self.chance.random() < 0.3:  # of an older version of the workload, or of this package
            droppable = {field.name for field in self.output} | {"max_tokens"}
            schema = pa.schema([f for f in schema if f.name not in droppable or self.chance.random() < 0.5])
        path = self.folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=self.chance.choice([2, 1000]))
        return path

    def attempt(self, name: str, snapshot: str, position: int, attempt: int, row: int, question: int) -> dict[str, Any]:
        chance = self.chance
        self.moments += 1
        outcome = chance.choices(["succeeded", "errored", "canceled", "expired"], [6, 2, 1, 1])[0]
        if self.once and outcome == "succeeded" and question in self.answered:
            outcome = "expired"
        if outcome == "succeeded":
            self.answered.add(question)
        values: dict[str, Any] = {
            "snapshot": snapshot, "chunk": name, "position": position, "row": row, "fingerprint": fingerprint(question),
            "custom_id": f"{name}-{position}", "verdict": "retry", "max_tokens": chance.choice([None, 64, 64, 128]),
            "record_id": f"r{row}", "outcome": outcome, "model": chance.choice(["claude-haiku-5-5", "claude-opus-5"]),
            "lane": chance.choice(["batch", "realtime"]), "batch_id": chance.choice([None, f"msgbatch_{name}"]),
            "attempt": attempt, "answered_at": NIGHT + timedelta(seconds=self.moments * 7919 % 100_003),
            "error_type": None if outcome == "succeeded" and chance.random() < 0.7 else chance.choice(["invalid_output", "api_error"]),
        }  # fmt: skip
        if outcome != "succeeded":
            return values | {"error_message": chance.choice([None, f"it's {name} {position}"])}
        tokens = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")
        values |= {token: chance.choice([None, 0, chance.randrange(100)]) for token in tokens}
        values |= {
            "answer": chance.choice([None, "", f"answer {name} {position} 東京"]),
            "answer_source": values["lane"],
            "stop_reason": chance.choice(
                ["end_turn", "end_turn", "refusal", None, *(["max_tokens"] * (not self.once))]
            ),
            "cost_usd": chance.choice([None, chance.randrange(10**6) / 1e10]),
        }
        return values | {field.name: self.value(field.type) for field in self.output}

    def value(self, kind: pa.DataType) -> Any:
        chance = self.chance
        if chance.random() < 0.2:
            return None
        if pa.types.is_list(kind):
            return [self.value(kind.value_type) for _ in range(chance.randrange(3))]
        if pa.types.is_struct(kind):
            return {field.name: self.value(field.type) for field in kind}
        if pa.types.is_string(kind):
            return chance.choice(["", "x", "naïve 東京", "long " * 20])
        if pa.types.is_boolean(kind):
            return chance.random() < 0.5
        return chance.randrange(1000) if pa.types.is_integer(kind) else chance.random()

    def failed(self, number: int) -> FailedChunk:
        path = self.folder / f"index-{number}.parquet"
        questions = sorted({self.question() for _ in range(5)})
        pq.write_table(pa.table({"fingerprint": pa.array(map(fingerprint, questions), pa.binary(32))}), path)
        outcome = self.chance.choice(["errored", "canceled"])
        return FailedChunk(path, outcome, f"type {number}", f"chunk {number} wasn't\0 sent")
