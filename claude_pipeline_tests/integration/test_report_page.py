"""Reports over real, quick runs: errors, labels, two snapshots, two models, texts that mean harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.errors import UsageError
from claude_pipeline.report_page import (
    SnapshotFacts,
    choose_other,
    choose_snapshot,
    read_snapshot,
    read_workload_facts,
    snapshot_page,
    workload_page,
)
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.forecast import plan_prepared
from claude_pipeline.stage.forecast_file import kept_forecasts
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import PARTITION, asked, note, workload_over, write_dataset
from claude_pipeline_tests.integration.choice_case import HAIKU, SONNET, TOMORROW, Run, runner
from claude_pipeline_tests.integration.command_case import CommandLine, workload_file

RECORDS = 60
SCHEMA = {
    "type": "object",
    "properties": {
        "queue": {"type": "string", "enum": ["billing", "technical"]},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"unit": {"type": "string", "enum": ["h", "d"]}},
                                             "required": ["unit"]}},
        "reason": {"type": "string"},
    },
    "required": ["queue", "lines", "reason"],
}  # fmt: skip


@pytest.fixture
def run(desk: Desk, simulator: Simulator, clock: MovableClock) -> Run:
    return runner(desk, simulator, clock)


def rows(count: int = RECORDS) -> list[dict[str, Any]]:
    return [note(n) | {"truth": ["billing", "technical", None][n % 3]} for n in range(count)]


def labelled(folder: Path, **changes: Any) -> Workload:
    settings = {"output": SCHEMA, "labels": "truth", "max_tokens": 4_000, "budget_usd": 50, "lane": "batch"}
    return workload_over(folder, rows(), **settings | changes)


def facts_of(desk: Desk, workload: Workload, snapshot: str | None = None, against: str | None = None) -> SnapshotFacts:
    chosen = choose_snapshot(desk, workload, snapshot)
    return read_snapshot(desk, workload, chosen, choose_other(desk, workload, chosen, against))


def test_a_snapshots_facts_are_those_of_the_warehouse_and_the_invoice(
    desk: Desk, run: Run, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults.add(kind="line_error", share=0.1, error_type="invalid_request_error", message="no & <no>")
    workload = labelled(tmp_path, params={"thinking": {"type": "disabled"}})
    plan_prepared(desk, workload, prepare(desk, workload, PARTITION))
    run(workload)

    facts = facts_of(desk, workload)

    dead, paid = asked(desk, "SELECT count(*) FILTER (outcome = 'errored'), sum(cost_usd) FROM notes.results")[0]
    assert facts.dead == dead == facts.answers.count("errored") > 0
    assert facts.answers.count("answered") == RECORDS - dead
    assert facts.bill.usd == pytest.approx(float(simulator.invoice()["total_usd"]), abs=1e-9)
    assert facts.bill.usd == pytest.approx(paid, abs=1e-9)
    assert facts.bill.realtime_usd == pytest.approx(2 * facts.bill.usd)
    assert sum(day.usd for day in facts.bill.days) == pytest.approx(facts.bill.usd)
    assert facts.bill.planned is not None
    assert (facts.bill.planned.requests, facts.bill.planned.asked_requests) == (RECORDS, RECORDS)
    assert facts.bill.planned.paid_usd == facts.bill.usd
    assert [(f.kind, f.message, f.records) for f in facts.answers.failures] == [
        ("invalid_request_error", "no & <no>", dead)
    ]
    assert sum(flow.requests_per_min for flow in facts.pace.flows) == pytest.approx(RECORDS - dead)
    queue = asked(
        desk, "SELECT queue, count(*) FROM notes.results WHERE queue IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    units = asked(
        desk,
        "SELECT u.unit, count(*) FROM (SELECT unnest(lines) AS u FROM notes.results) GROUP BY 1 ORDER BY 2 DESC, 1",
    )
    assert [(use.name, list(use.counts)) for use in facts.answers.enums] == [("queue", queue), ("lines[].unit", units)]
    assert sum(row.records for row in facts.confusion) == sum(model.labelled for model in facts.models) > 0
    page = snapshot_page(facts)
    assert "no &amp; &lt;no&gt;" in page
    assert "Labels and answers" in page


def test_samples_show_records_beside_their_own_answers(desk: Desk, run: Run, tmp_path: Path) -> None:
    workload = labelled(tmp_path)
    run(workload)

    samples = facts_of(desk, workload).samples

    warehouse = {
        row[0]: row[1:] for row in asked(desk, "SELECT record_id, text, truth, queue, reason FROM notes.results")
    }
    assert len(samples) == 12
    assert {sample.answer[0].text for sample in samples} == {"billing", "technical"}
    for sample in samples:
        assert [cell.name for cell in sample.record] == ["text", "truth"]
        shown = (*(cell.text for cell in sample.record), sample.answer[0].text, sample.answer[2].text)
        assert shown == warehouse[sample.record_id]


def test_texts_that_mean_harm_are_only_texts(desk: Desk, run: Run, tmp_path: Path) -> None:
    nasty = '<script>alert(1)</script> \u202e"evil"\u2066 😀'
    texts = [nasty, f"{nasty} {'<b>' * 400_000}", *(f"{nasty} {n}" for n in range(6))]
    data = [{"id": f"{nasty} {n}", "text": text} for n, text in enumerate(texts)]
    workload = workload_over(tmp_path, data, prompt="{{ text }}", lane="batch", chunk={"requests": 100})
    run(workload)

    page = snapshot_page(facts_of(desk, workload))

    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "(1,200,0" in page
    assert len(page) < 500_000


def test_the_snapshot_before_is_compared_with(desk: Desk, run: Run, tmp_path: Path) -> None:
    first = labelled(tmp_path)
    run(first)
    write_dataset(tmp_path / "notes.jsonl", [*rows()[10:], note(900) | {"truth": "billing"}])
    second = labelled_again(first, model=SONNET)
    run(second, TOMORROW)

    comparison = facts_of(desk, second).comparison

    joined = "FROM (FROM notes.results WHERE snapshot LIKE '%23.1') o JOIN (FROM notes.results WHERE snapshot LIKE '%22.1') t USING (record_id)"
    changed = asked(
        desk, f"SELECT count(*) FILTER (o.queue <> t.queue), count(*) FILTER (o.reason <> t.reason) {joined}"
    )[0]
    assert comparison is not None
    assert (comparison.common, comparison.only_ours, comparison.only_theirs) == (RECORDS - 10, 1, 10)
    assert (comparison.theirs.model, comparison.ours.model) == (HAIKU, SONNET)
    assert {f.name: f.changed for f in comparison.fields if f.name != "lines"} == {
        "queue": changed[0],
        "reason": changed[1],
    }
    assert {f.name: f.decisive for f in comparison.fields} == {"queue": True, "lines": False, "reason": False}
    assert all(b[0].text != a[0].text for b, a in ((e.before, e.after) for e in comparison.examples))
    assert "Against snapshot 2026-11-22.1" in snapshot_page(facts_of(desk, second))


def labelled_again(workload: Workload, **changes: Any) -> Workload:
    return workload.model_copy(update=changes)


def test_a_snapshot_of_an_earlier_schema_is_compared_where_both_have_the_same(
    desk: Desk, run: Run, tmp_path: Path
) -> None:
    first = labelled(tmp_path, label_of="queue")
    run(first)
    properties = {"queue": {"type": "object", "properties": {"name": {"type": "string", "enum": ["a", "b"]}}, "required": ["name"]},
                  "sure": {"type": "boolean"}}  # fmt: skip
    output = {"type": "object", "properties": properties, "required": ["queue", "sure"]}
    second = labelled_again(first, output=output)
    run(second, TOMORROW)

    facts, before = facts_of(desk, second), facts_of(desk, second, "2026-11-22.1")

    assert facts.comparison is not None
    assert [f.name for f in facts.comparison.fields] == ["queue"]
    assert facts.comparison.enums == ()
    assert [use.name for use in facts.answers.enums] == ["queue.name", "sure"]
    assert before.asked.changed
    assert before.answers.enums == ()
    assert "has changed since" in snapshot_page(before)


def test_another_models_answers_are_compared_with(desk: Desk, run: Run, tmp_path: Path) -> None:
    cascade = {"model": None, "cascade": [HAIKU, SONNET], "gives_up_when": "queue = 'technical'"}
    workload = labelled(tmp_path, **cascade)
    run(workload)

    comparison = facts_of(desk, workload, against=HAIKU).comparison

    passed_on = asked(desk, f"SELECT count(*) FROM notes.attempts WHERE model = '{HAIKU}' AND queue = 'technical'")[0][
        0
    ]
    assert comparison is not None
    assert (comparison.theirs.name, comparison.theirs.records, comparison.common) == (HAIKU, RECORDS, RECORDS)
    assert 0 < next(f.changed for f in comparison.fields if f.name == "queue") <= passed_on


@pytest.mark.parametrize(
    ("against", "sentence"),
    [
        pytest.param("nope", "'nope' is neither a merged snapshot nor a model that was asked", id="unknown"),
        pytest.param("2026-11-22.1", "is the snapshot itself", id="itself"),
        pytest.param(HAIKU, "is the only model that snapshot 2026-11-22.1 asked", id="its-own-model"),
    ],
)
def test_what_cannot_be_compared_with_is_refused(
    desk: Desk, run: Run, tmp_path: Path, against: str, sentence: str
) -> None:
    workload = labelled(tmp_path)
    run(workload)
    with pytest.raises(UsageError, match=sentence):
        facts_of(desk, workload, against=against)


def test_a_snapshot_on_its_way_has_no_report_yet(desk: Desk, tmp_path: Path) -> None:
    workload = labelled(tmp_path)
    with pytest.raises(UsageError, match="no merged snapshot yet"):
        choose_snapshot(desk, workload, None)
    snapshot = prepare(desk, workload, PARTITION).snapshot
    with pytest.raises(UsageError, match="is not merged yet"):
        choose_snapshot(desk, workload, snapshot.id)


def test_the_first_plan_of_a_number_stands(desk: Desk, run: Run, tmp_path: Path) -> None:
    """A second materialization plans only what is left to send, which is nothing."""
    workload = labelled(tmp_path)
    plan_prepared(desk, workload, prepare(desk, workload, PARTITION))
    run(workload)
    prepared = prepare(desk, workload, PARTITION)
    plan_prepared(desk, workload, prepared)

    assert [(f.plan_number, f.requests) for f in kept_forecasts(desk, prepared.snapshot)] == [(1, RECORDS)]


def test_free_text_without_output_has_a_report_as_well(desk: Desk, run: Run, tmp_path: Path) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(20)], lane="batch", chunk={"requests": 100})
    run(workload)

    facts = facts_of(desk, workload)

    assert facts.answers.enums == ()
    assert facts.answers.lengths is not None
    assert facts.answers.same is not None
    assert facts.answers.same[0] == 1
    assert snapshot_page(facts).count("<article>") == 12


def test_a_workloads_facts_add_up_over_its_snapshots(
    desk: Desk, run: Run, simulator: Simulator, tmp_path: Path
) -> None:
    workload = labelled(tmp_path)
    run(workload)
    run(workload, TOMORROW)

    facts = read_workload_facts(desk, workload)

    assert [(each.snapshot, each.records, each.good) for each in facts.lines] == [
        ("2026-11-23.1", RECORDS, RECORDS),
        ("2026-11-22.1", RECORDS, RECORDS),
    ]
    assert sum(each.usd for each in facts.lines) == pytest.approx(float(simulator.invoice()["total_usd"]), abs=1e-9)
    assert "2 snapshots, 2 merged" in workload_page(facts)


def test_the_command_writes_both_pages_and_says_where(
    desk: Desk, run: Run, line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from claude_pipeline.workload_file import read_workload

    file = workload_file(tmp_path)
    run(read_workload(file))
    monkeypatch.setenv("CLAUDE_PIPELINE_HOME", str(desk.home.root))

    said = line("report", str(file))
    copy = line("report", str(file), "--to", str(tmp_path / "copy.html"))
    nowhere = line("report", str(file), "--to", str(tmp_path / "none" / "copy.html"))
    unknown = line("report", str(file), "--snapshot", "2026-11-30.1")

    page, index = (desk.home.report("notes", name) for name in ("2026-11-22.1", "index"))
    assert said.code == copy.code == 0
    assert (str(page) in said.out, str(index) in said.out) == (True, True)
    assert 'href="index.html"' in page.read_text(encoding="utf-8")
    assert '<a href="2026-11-22.1.html">' in index.read_text(encoding="utf-8")
    assert 'href="index.html"' not in (tmp_path / "copy.html").read_text(encoding="utf-8")
    assert (nowhere.code, unknown.code) == (2, 2)
    assert "there is no folder" in nowhere.last
    assert "has no snapshot '2026-11-30.1' (the newest merged: 2026-11-22.1)" in unknown.last
