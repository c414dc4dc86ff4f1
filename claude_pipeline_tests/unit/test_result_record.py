"""Records are chosen out of the pieces of a row group as out of the whole."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from claude_pipeline.result.record import chosen

RECORDS = pa.record_batch({"record_id": [f"r{number}" for number in range(40)]})
PIECES = [RECORDS.slice(0, 15), RECORDS.slice(15, 15), RECORDS.slice(30, 10)]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(range(40), id="all"),
        pytest.param(range(15), id="one piece"),
        pytest.param(range(10, 35), id="across their borders"),
        pytest.param([14, 15, 29, 30], id="at their borders"),
        pytest.param([0, 39], id="none of a piece between"),
        *(pytest.param(sorted(random.Random(seed).sample(range(40), 9)), id=f"seed {seed}") for seed in range(5)),
    ],
)
def test_the_records_are_those_of_the_rows(rows: list[int]) -> None:
    found = chosen(PIECES, np.array(rows, np.int64))
    assert found.column("record_id").to_pylist() == [f"r{row}" for row in rows]
