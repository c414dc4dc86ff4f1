"""Memory depends on how wide a record is, not on how many there are."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = (20_000, 200_000)
RATIO_MAX = 1.5
# VmHWM is the peak of resident memory since the process began, in kB.
MEASURE = """
import sys
from pathlib import Path
from claude_pipeline_tests.dataset_factory import make_workload
from claude_pipeline.dataset import take_snapshot
folder = Path(sys.argv[1])
snapshot = take_snapshot(make_workload(path=sys.argv[2]), folder / "s.parquet", scratch=folder / "scratch")
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(snapshot.records, peak)
"""


def _write(path: Path, rows: int) -> None:
    chance = random.Random(7)
    words = ["card", "charged", "refund", "не", "пришёл", "支付", 'say "hi"', "a, b", "😀"]
    texts = [" ".join(chance.choices(words, k=60)) for _ in range(500)]
    records = ({"id": f"k{n}", "text": f"{n} {texts[n % 500]}", "lang": texts[n % 9][:2]} for n in range(rows))
    if path.suffix == ".parquet":
        schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("lang", pa.string())])
        with pq.ParquetWriter(path, schema) as writer:
            for _ in range(0, rows, 10_000):
                writer.write_table(pa.Table.from_pylist([next(records) for _ in range(10_000)], schema))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                writer = csv.writer(file)
                writer.writerow(["id", "text", "lang"])
                writer.writerows(list(record.values()) for record in records)
            else:
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_ten_times_the_records_take_no_more_memory(tmp_path: Path, form: str) -> None:
    peaks = []
    for rows in ROWS:
        path = tmp_path / f"{rows}.{form}"
        _write(path, rows)
        command = [sys.executable, "-c", MEASURE, str(tmp_path), str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        records, peak = map(int, done.stdout.split())
        assert records == rows
        peaks.append(peak)
    assert peaks[1] / peaks[0] < RATIO_MAX, peaks
