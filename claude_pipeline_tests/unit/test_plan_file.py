"""A plan stops early where each record would take a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.dataset import Origin
from claude_pipeline.errors import PromptInvalid
from claude_pipeline.request import Prompt, Rejection, Request
from claude_pipeline.stage.fit import Fit
from claude_pipeline.stage.plan_file import RUNAWAYS, write_plan
from claude_pipeline_tests.factory import make_workload

RECORDS = 100


class RunningAway:
    """A maker that refuses each record as too much work, and counts them."""

    def __init__(self) -> None:
        self.prompt = Prompt("{{ a }}", ["record_id", "a"])
        self.count = 0

    def make(self, row: int, record_id: str, record: Mapping[str, Any]) -> Request | Rejection:
        self.count += 1
        return Rejection(row, record_id, "too_much_work", "it runs away")


def test_a_few_records_that_run_away_say_that_it_is_the_template(tmp_path: Path) -> None:
    records = tmp_path / "records.parquet"
    pq.write_table(pa.table({"record_id": [f"n{n}" for n in range(RECORDS)], "a": ["x"] * RECORDS}), records)
    maker, origin = RunningAway(), Origin()
    origin.begin("notes.jsonl")
    with pytest.raises(PromptInvalid, match=f"in {RUNAWAYS} of the first {RUNAWAYS} records"):
        write_plan(
            records,
            maker,
            tmp_path / "plan.parquet",
            make_workload(max_reject_ratio=1.0),
            fit=Fit(10**6, {}),
            origin=origin,
        )
    assert maker.count == RUNAWAYS
