"""Answers measured against labels and by a rule: in the summary, and in the warehouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.report import Summary, summarize
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import PARTITION, asked, note, workload_over
from claude_pipeline_tests.integration.choice_case import HAIKU, SONNET, Run, runner

RECORDS = 40
SCHEMA = {
    "type": "object",
    "properties": {"queue": {"type": "string", "enum": ["billing", "technical"]}, "stars": {"type": "integer"}},
    "required": ["queue", "stars"],
}


@pytest.fixture
def run(desk: Desk, simulator: Simulator, clock: MovableClock) -> Run:
    return runner(desk, simulator, clock)


def labelled(folder: Path, **changes: Any) -> Workload:
    """Half of the records are labelled BILLING, a quarter technical, the rest not at all."""
    labels = ["BILLING ", "technical", "BILLING ", None]
    rows = [note(n) | {"truth": labels[n % 4], "size": n % 2} for n in range(RECORDS)]
    return workload_over(folder, rows, **{"output": SCHEMA, "labels": "truth"} | changes)


def routed() -> dict[str, Any]:
    return {"model": None, "route": [{"when": "size = 1", "model": HAIKU}, {"model": SONNET}]}


def summary_of(desk: Desk, workload: Workload) -> Summary:
    return summarize(desk, workload, desk.ledger.snapshots(workload.name)[-1])


def test_accuracy_is_the_share_of_labels_met_whatever_their_capitals(desk: Desk, run: Run, tmp_path: Path) -> None:
    workload = labelled(tmp_path)
    run(workload)

    right = asked(desk, "SELECT count(*) FROM notes.results WHERE lower(trim(truth)) = queue")[0][0]
    row = asked(desk, "SELECT asked, succeeded, valid, labelled, correct, accuracy FROM notes.quality")
    assert 0 < right < 30
    assert row == [(RECORDS, RECORDS, RECORDS, 30, right, right / 30)]
    assert summary_of(desk, workload).numbers()["accuracy"] == right / 30


def test_models_are_compared_by_quality_and_cost(desk: Desk, run: Run, tmp_path: Path, simulator: Simulator) -> None:
    workload = labelled(tmp_path, **routed())
    run(workload)

    found = asked(desk, "SELECT model, asked, labelled, cost_usd FROM notes.quality ORDER BY model")
    assert [row[:3] for row in found] == [(HAIKU, 20, 10), (SONNET, 20, 20)]
    assert sum(row[3] for row in found) == pytest.approx(float(simulator.invoice()["total_usd"]), abs=1e-9)
    summary = summary_of(desk, workload)
    assert {HAIKU, SONNET} <= {label for label, _ in summary.rows()}
    assert {f"accuracy/{HAIKU}", f"accuracy/{SONNET}", "accuracy"} <= set(summary.numbers())
    assert f"| {HAIKU} |" in summary.markdown()


def test_confusions_are_counted(desk: Desk, run: Run, tmp_path: Path) -> None:
    workload = labelled(tmp_path)
    run(workload)

    counted = asked(desk, "SELECT label, answered, correct, records FROM notes.confusion")
    assert sum(row[3] for row in counted) == 30
    assert {row[2] for row in counted if row[0].strip().lower() == row[1]} == {True}
    wrong = sorted((row for row in counted if not row[2]), key=lambda row: -row[3])
    top = summary_of(desk, workload).quality.confusions[0]
    assert (top.label, top.answered, top.records) == (wrong[0][0], wrong[0][1], wrong[0][3])


def test_a_rule_measures_where_there_is_no_label(desk: Desk, run: Run, tmp_path: Path) -> None:
    """A rule that fails on an answer is not met."""
    workload = labelled(tmp_path, labels=None, score="queue = 'billing' AND CAST(answer AS JSON) IS NOT NULL")
    run(workload)
    billing = asked(desk, "SELECT count(*) FROM notes.results WHERE queue = 'billing'")[0][0]
    assert asked(desk, "SELECT score, accuracy FROM notes.quality") == [(billing / RECORDS, None)]
    assert "meet the rule" in dict(summary_of(desk, workload).rows())[HAIKU]
    assert asked(desk, "SELECT count(*) FROM duckdb_views() WHERE view_name = 'confusion'") == [(0,)]


def test_label_of_names_the_property(desk: Desk, run: Run, tmp_path: Path) -> None:
    """A number is met by the same number, however it is written."""
    rows = [note(n) | {"truth": f"{n % 3}.0"} for n in range(RECORDS)]
    schema = SCHEMA | {"properties": {**SCHEMA["properties"], "stars": {"type": "integer", "enum": [0, 1, 2]}}}  # type: ignore[dict-item]
    run(workload_over(tmp_path, rows, output=schema, labels="truth", label_of="stars"))
    right = asked(desk, "SELECT count(*) FROM notes.results WHERE truth::DOUBLE = stars")[0][0]
    assert asked(desk, "SELECT correct FROM notes.quality") == [(right,)]
    assert right > 0


def test_a_cascade_counts_what_each_level_was_asked_and_what_stands(desk: Desk, run: Run, tmp_path: Path) -> None:
    cascade = {"model": None, "cascade": [HAIKU, SONNET], "gives_up_when": "queue = 'technical'"}
    run(labelled(tmp_path, **cascade))
    quality = {row[0]: row[1:] for row in asked(desk, "SELECT model, asked, succeeded FROM notes.quality")}
    assert quality[HAIKU][0] == RECORDS
    assert quality[HAIKU][1] == RECORDS - quality[SONNET][0]
    assert quality[HAIKU][1] + quality[SONNET][1] == RECORDS


def test_without_labels_and_with_one_model_nothing_is_measured(desk: Desk, run: Run, tmp_path: Path) -> None:
    workload = labelled(tmp_path, labels=None)
    run(workload)
    assert "accuracy" not in summary_of(desk, workload).numbers()
    assert asked(desk, "SELECT count(*) FROM duckdb_views() WHERE view_name = 'quality'") == [(0,)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(
            {"labels": "trut"}, "labels: the records have no column 'trut', only id, text, truth", id="labels"
        ),
        pytest.param({"score": "quueue = 'x'"}, "score: there is no column 'quueue'", id="score"),
        pytest.param({"score": "stars"}, "score: gives BIGINT, and must be true or false", id="score-type"),
    ],
)
def test_what_cannot_be_measured_stops_before_anything_is_sent(
    desk: Desk, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(WorkloadInvalid, match=sentence):
        prepare(desk, labelled(tmp_path, **change), PARTITION)
    assert desk.ledger.chunks("notes") == []
