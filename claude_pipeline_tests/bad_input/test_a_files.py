"""Dataset files that are not what they should be: cases A01 to A38 of the catalogue of bad inputs."""

from __future__ import annotations

import pytest

from claude_pipeline_tests.bad_input.ground import CANARY, Ground, Refusal, good_rows

REFUSED = [
    pytest.param("x.csv", b"", Refusal(r"^x\.csv: ", r"is empty \(0 bytes\)", "allow_empty: true"), id="A01"),
    pytest.param(
        "x.csv",
        f"id,text\na,{CANARY}\nb,one,two\n",
        Refusal(r"^x\.csv, line 3: ", "3 fields, the header has 2", "quote fields that hold ','"),
        id="A11",
    ),
]


@pytest.mark.parametrize(("name", "content", "refusal"), REFUSED)
def test_a_broken_file_is_refused_before_anything_is_paid(
    ground: Ground, name: str, content: str | bytes, refusal: Refusal
) -> None:
    ground.put(name, content)
    ground.refused(ground.run(ground.workload(dataset={"path": name, "id": "id"})), refusal)


def test_good_rows_are_delivered(ground: Ground) -> None:
    ground.rows("notes.jsonl", good_rows(3))
    ground.accepted(ground.run(ground.workload()), delivered=3)
