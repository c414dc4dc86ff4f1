"""The facts of one snapshot: from the ledger, and by SQL from its merged rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.errors import CatalogMissing, UsageError
from claude_pipeline.ledger import BatchRow, ChunkRow, SnapshotRow
from claude_pipeline.report_page.against import Other, compare
from claude_pipeline.report_page.answer import read_answers
from claude_pipeline.report_page.bill import bill_of, pace_of, planned_of
from claude_pipeline.report_page.enum_leaf import leaves_in, leaves_of
from claude_pipeline.report_page.fact import Asked, Confused, SnapshotFacts
from claude_pipeline.report_page.sample import answer_columns, read_samples, shown_columns
from claude_pipeline.result import Measure
from claude_pipeline.sql import file_literal, literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.forecast_file import kept_forecasts
from claude_pipeline.stage.plan_file import TEMPLATE_KEY, template_digest
from claude_pipeline.stage.quality import quality_of
from claude_pipeline.workload import Workload

CONFUSIONS_MAX = 60


def choose_snapshot(desk: Desk, workload: Workload, snapshot_id: str | None) -> SnapshotRow:
    """The snapshot with that id, or the newest merged one.

    Raises:
        UsageError: there is none, or its answers are not all in; says which there are.
    """
    every = desk.ledger.snapshots(workload.name)
    merged = [s for s in every if s.merged_at is not None]
    if snapshot_id is None:
        if not merged:
            raise UsageError(
                f"{workload.name} has no merged snapshot yet; `claude-pipeline run {workload.name}` makes one"
            )
        return merged[-1]
    found = next((s for s in every if s.id == snapshot_id), None)
    if found is None:
        known = ", ".join(s.id for s in merged[-5:]) or "none"
        raise UsageError(f"{workload.name} has no snapshot {snapshot_id!r} (the newest merged: {known})")
    if found.merged_at is None:
        raise UsageError(
            f"snapshot {workload.name}/{snapshot_id} is not merged yet: its answers are on their way; "
            "`claude-pipeline status` shows how far it is"
        )
    return found


def choose_other(desk: Desk, workload: Workload, snapshot: SnapshotRow, against: str | None) -> Other | None:
    """What a snapshot is compared with: the one before it that has records, or the named snapshot or model; None
    where there is none.

    Raises:
        UsageError: the name is neither; says what there is.
    """
    merged = [s for s in desk.ledger.snapshots(workload.name) if s.merged_at is not None]
    if against is None:
        before = [s for s in merged if s.records and (s.partition, s.number) < (snapshot.partition, snapshot.number)]
        return Other(f"snapshot {before[-1].id}", merged_rows(desk, workload, before[-1].id)) if before else None
    if against == snapshot.id:
        raise UsageError(f"--against: {against} is the snapshot itself; name another one, or a model")
    if any(s.id == against for s in merged):
        return Other(f"snapshot {against}", merged_rows(desk, workload, against))
    return _model(desk, workload, snapshot, against, [s.id for s in merged if s.id != snapshot.id])


def _model(desk: Desk, workload: Workload, snapshot: SnapshotRow, name: str, snapshots: list[str]) -> Other:
    """The newest answer of that model to each record, from all that the workload ever asked it."""
    try:
        model = desk.catalog.model(name).id
    except CatalogMissing:
        model = name
    parts = desk.ledger.parts(workload.name, kinds=["attempts"])
    asked = {c.model for c in desk.ledger.chunks(workload.name)}
    names = [n for n in asked if n in (name, model) or _id(desk, n) == model]
    if not names or not parts:
        known = ", ".join([*snapshots[-5:], *sorted(asked)]) or "nothing"
        raise UsageError(
            f"--against: {name!r} is neither a merged snapshot nor a model that was asked (there is: {known})"
        )
    own = {c.model for c in desk.ledger.chunks(workload.name, snapshot=snapshot.id)}
    if own and own <= set(names):
        raise UsageError(f"--against: {name} is the only model that snapshot {snapshot.id} asked; name another one")
    listed = ", ".join(literal(n) for n in {*names, model})
    rows = _read(desk.path(part.path) for part in parts)
    newest = "QUALIFY row_number() OVER (PARTITION BY record_id ORDER BY answered_at DESC, snapshot DESC) = 1"
    return Other(model, f"(FROM {rows} WHERE outcome = 'succeeded' AND model IN ({listed}) {newest})")


def _id(desk: Desk, name: str) -> str:
    try:
        return desk.catalog.model(name).id
    except CatalogMissing:
        return name


def read_snapshot(desk: Desk, workload: Workload, snapshot: SnapshotRow, other: Other | None = None) -> SnapshotFacts:
    """All that its page says."""
    assert snapshot.merged_at is not None
    chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
    spent = desk.ledger.spent(workload.name, snapshot=snapshot.id)
    batches = batches_of(desk, chunks)
    results = merged_rows(desk, workload, snapshot.id)
    columns = [name for name in pq.read_schema(desk.path(snapshot.path)).names if name != "record_id"]
    with leased(desk.home.scratch()) as duck:
        there = set(duck.sql(f"FROM {results} LIMIT 0").columns)
        answer = [(n, c) for n, c in answer_columns(workload) if c in there] or [("answer", "answer")]
        record = [(n, c) for n, c in shown_columns(workload, columns) if c in there]
        leaves = leaves_in(duck, results, leaves_of(workload))
        answers = read_answers(duck, results, leaves, structured=workload.output is not None)
        samples = read_samples(duck, results, record, answer, leaves)
        confusion = _confusion(duck, desk, workload, snapshot, results)
        comparison = None
        if other is not None:
            comparison = compare(duck, workload, results, f"snapshot {snapshot.id}", other, leaves)
    planned = planned_of(kept_forecasts(desk, snapshot), chunks)
    return SnapshotFacts(
        workload=workload.name,
        snapshot=snapshot.id,
        made_at=desk.clock(),
        merged_at=snapshot.merged_at,
        records=snapshot.records,
        dead=snapshot.dead or 0,
        rejected=snapshot.rejected or 0,
        reused=snapshot.reused or 0,
        duplicates=snapshot.duplicates or 0,
        asked=asked_of(workload, changed=_changed(desk, workload, snapshot)),
        bill=bill_of(spent, planned, float(desk.catalog.limits.batch_price_factor)),
        pace=pace_of(chunks, batches, spent),
        answers=answers,
        models=quality_of(desk, workload, snapshot).models,
        confusion=confusion,
        samples=samples,
        comparison=comparison,
        rests_on=snapshot.watermark_base,
    )


def merged_rows(desk: Desk, workload: Workload, *snapshots: str) -> str:
    """The relation of the merged rows of those snapshots."""
    parts = [p for p in desk.ledger.merged_parts(workload.name) if p.snapshot in snapshots]
    if not parts:
        raise UsageError(f"{workload.name} has no merged rows of {', '.join(snapshots)}; its dataset was empty")
    return _read(desk.path(part.path) for part in parts)


def batches_of(desk: Desk, chunks: Iterable[ChunkRow]) -> dict[str, BatchRow]:
    ids = [chunk.batch_id for chunk in chunks if chunk.batch_id]
    return {batch.id: batch for batch in desk.ledger.batches(ids=ids)} if ids else {}


def asked_of(workload: Workload, *, changed: bool = False) -> Asked:
    """The question in words. A database's address is left out: it may hold a password."""
    settings: list[tuple[str, str]] = [("max_tokens", f"{workload.max_tokens:,}")]
    settings += [(name, value if isinstance(value, str) else _json(value)) for name, value in workload.params.items()]
    settings += [(name, value) for name in ("labels", "label_of", "score") if (value := getattr(workload, name))]
    return Asked(
        dataset=workload.dataset.path or (workload.dataset.sql or "").strip(),
        models=workload.models,
        choice=_choice(workload),
        lane=workload.lane,
        template=workload.template().strip("\n"),
        system=workload.system,
        settings=tuple(settings),
        output=_json(workload.output) if workload.output is not None else None,
        changed=changed,
    )


def _choice(workload: Workload) -> str | None:
    if workload.route is not None:
        return "\n".join(f"{entry.model}  where {entry.when or 'nothing above holds'}" for entry in workload.route)
    if workload.cascade is not None:
        levels = ", then ".join(level.model for level in workload.cascade)
        return levels + (f"\nthe next one where {workload.gives_up_when}" if workload.gives_up_when else "")
    return None


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _changed(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> bool:
    """Whether the plan of the snapshot was made from another question than the workload's of today."""
    plan = desk.path(snapshot.plan_path) if snapshot.plan_path is not None else None
    if plan is None or not plan.exists():
        return False
    about = pq.read_schema(plan).metadata or {}
    return bool(about.get(TEMPLATE_KEY, b"") != template_digest(workload).encode())


def _confusion(duck: Any, desk: Desk, workload: Workload, snapshot: SnapshotRow, results: str) -> tuple[Confused, ...]:
    text = desk.ledger.measures().get(workload.name)
    query = Measure.from_json(text).confusion(results) if text is not None else None
    if query is None:
        return ()
    summed = f"SELECT label, answered, bool_and(correct), sum(records)::BIGINT FROM ({query}) GROUP BY label, answered"
    rows = duck.execute(f"{summed} ORDER BY 4 DESC, 1, 2 LIMIT {CONFUSIONS_MAX}").fetchall()
    return tuple(Confused(*row) for row in rows)


def _read(paths: Iterable[Path]) -> str:
    return f"read_parquet([{', '.join(file_literal(path) for path in paths)}], union_by_name = true)"


__all__ = ["Other", "asked_of", "batches_of", "choose_other", "choose_snapshot", "merged_rows", "read_snapshot"]
