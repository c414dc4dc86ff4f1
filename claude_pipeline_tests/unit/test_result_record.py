"""Records are chosen out of the pieces of a row group as out of the whole."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from claude_pipeline.result.record import RUN_ROWS, chosen

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


LARGE = pa.record_batch({"record_id": [f"r{number}" for number in range(10 * RUN_ROWS)]})


@pytest.mark.parametrize(
    ("left_out", "is_copied"),
    [
        pytest.param([], False, id="none"),
        pytest.param([0], False, id="the first"),
        pytest.param([10 * RUN_ROWS - 1], False, id="the last"),
        pytest.param([7, 8, 9, 500], False, id="a few"),
        pytest.param([*range(5 * RUN_ROWS, 10 * RUN_ROWS)], False, id="a half"),
        pytest.param([*range(0, 10 * RUN_ROWS, RUN_ROWS // 2)], True, id="one in each hundred"),
        pytest.param([*range(2, 10 * RUN_ROWS)], True, id="nearly all, which would be kept in memory"),
    ],
)
def test_records_are_copied_only_where_many_are_left_out(left_out: list[int], is_copied: bool) -> None:
    rows = [row for row in range(10 * RUN_ROWS) if row not in set(left_out)]
    column = chosen([RECORDS, LARGE], np.array(rows, np.int64) + len(RECORDS)).column("record_id")
    assert column.to_pylist() == [f"r{row}" for row in rows]
    texts = LARGE.column(0).buffers()[2].address
    assert all((chunk.buffers()[2].address != texts) == is_copied for chunk in column.chunks)
