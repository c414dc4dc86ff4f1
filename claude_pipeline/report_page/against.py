"""A snapshot against another one of the workload, or against what another model answered to the same records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from claude_pipeline.report_page.answer import KIND, read_enum
from claude_pipeline.report_page.enum_leaf import Leaf, decisive, leaves_in
from claude_pipeline.report_page.fact import ANSWERED, Changed, Comparison, FieldChange, Side
from claude_pipeline.report_page.sample import answer_columns, cell, cells_of
from claude_pipeline.sql import identifier, literal
from claude_pipeline.workload import Workload

EXAMPLES = 8
MOVES_MAX = 12


@dataclass(frozen=True)
class Other:
    """The other side: a relation with one row per record, in the columns of results."""

    name: str
    relation: str


def compare(duck: Any, workload: Workload, ours: str, name: str, other: Other, leaves: Sequence[Leaf]) -> Comparison:
    """`ours` and the other's relation are joined on the record's id, by hash and out of core."""
    theirs_columns = set(duck.sql(f"FROM {other.relation} LIMIT 0").columns)
    columns = [(n, c) for n, c in answer_columns(workload) if c in theirs_columns] or [("answer", "answer")]
    root = workload.output or {"properties": {}}
    telling = {name for name, schema in root["properties"].items() if decisive(schema, root)}
    moves = duck.execute(
        f"""SELECT t.kind, o.kind, count(*) FROM (SELECT record_id, {KIND} AS kind FROM {ours}) o
            FULL JOIN (SELECT record_id, {KIND} AS kind FROM {other.relation}) t USING (record_id)
            GROUP BY ALL ORDER BY 3 DESC, 1, 2"""
    ).fetchall()
    both = [(before, now, count) for before, now, count in moves if before is not None and now is not None]
    shared = leaves_in(duck, other.relation, leaves)
    return Comparison(
        ours=_side(duck, name, ours),
        theirs=_side(duck, other.name, other.relation),
        common=sum(count for *_, count in both),
        only_ours=sum(count for before, _, count in moves if before is None),
        only_theirs=sum(count for _, now, count in moves if now is None),
        moves=tuple((before, now, count) for before, now, count in both if before != now)[:MOVES_MAX],
        fields=_fields(duck, ours, other.relation, columns, telling),
        enums=tuple((read_enum(duck, other.relation, leaf), read_enum(duck, ours, leaf)) for leaf in shared),
        examples=_examples(duck, ours, other.relation, columns, telling),
    )


def _side(duck: Any, name: str, relation: str) -> Side:
    model, records, answered, usd = duck.execute(
        f"""SELECT coalesce(string_agg(DISTINCT model, ', ' ORDER BY model), ''), count(*),
                count(*) FILTER ({KIND} = {literal(ANSWERED)}), coalesce(sum(cost_usd), 0) FROM {relation}"""
    ).fetchone()
    return Side(name, model, records, answered, usd)


def _differs(column: str) -> str:
    name = identifier(column)
    return f"to_json(o.{name}) IS DISTINCT FROM to_json(t.{name})"


def _joined(ours: str, theirs: str) -> str:
    answered = "outcome = 'succeeded'"
    return f"(FROM {ours} WHERE {answered}) o JOIN (FROM {theirs} WHERE {answered}) t ON o.record_id = t.record_id"


def _fields(
    duck: Any, ours: str, theirs: str, columns: Sequence[tuple[str, str]], decided: set[str]
) -> tuple[FieldChange, ...]:
    counted = ", ".join(f"count(*) FILTER ({_differs(column)})" for _, column in columns)
    compared, *changed = duck.execute(f"SELECT count(*), {counted} FROM {_joined(ours, theirs)}").fetchone()
    return tuple(
        FieldChange(name, compared, count, name in decided) for (name, _), count in zip(columns, changed, strict=True)
    )


def _examples(
    duck: Any, ours: str, theirs: str, columns: Sequence[tuple[str, str]], decided: set[str]
) -> tuple[Changed, ...]:
    """Records whose choices differ, where the answers have any; else those whose text does."""
    telling = [pair for pair in columns if pair[0] in decided] or list(columns)
    differs = " OR ".join(_differs(column) for _, column in telling)
    cells = ", ".join(cell(column, side) for side in ("t.", "o.") for _, column in telling)
    rows = duck.execute(
        f"""SELECT o.record_id, {cells} FROM {_joined(ours, theirs)} WHERE {differs}
            ORDER BY hash(o.record_id) LIMIT {EXAMPLES}"""
    ).fetchall()
    found = []
    for record_id, *texts in rows:
        pairs = list(zip(texts[::2], texts[1::2], strict=True))
        found.append(
            Changed(record_id, cells_of(telling, pairs[: len(telling)]), cells_of(telling, pairs[len(telling) :]))
        )
    return tuple(found)
