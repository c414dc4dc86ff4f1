"""A handful of records beside their answers: some of each kind of outcome and of each value of the first choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.report_page.answer import KIND
from claude_pipeline.report_page.enum_leaf import Leaf
from claude_pipeline.report_page.fact import ANSWERED, Cell, Sample
from claude_pipeline.request import Prompt
from claude_pipeline.result import output_fields, own_names
from claude_pipeline.sql import identifier, literal
from claude_pipeline.workload import Workload

SAMPLES = 12
OF_EACH = 3  # at most of one stratum at first; what is left over is filled up
CHARACTERS = 2_000  # shown of a text
COLUMNS_MAX = 12


def shown_columns(workload: Workload, columns: Sequence[str]) -> list[tuple[str, str]]:
    """Name and column in results of what Claude was shown, and of the label; `columns` are the snapshot's."""
    own = own_names(columns, output_fields(workload))
    try:
        asked: Sequence[str] = Prompt(workload.template(), columns).columns
    except ClaudePipelineError:  # the prompt has changed since and asks for other columns
        asked = list(own)
    names = [name for name in asked if name in own]
    if workload.labels in own and workload.labels not in names:
        names.append(workload.labels)
    return [(name, own[name]) for name in names[:COLUMNS_MAX]]


def answer_columns(workload: Workload) -> list[tuple[str, str]]:
    """Name and column of what was answered: the output's properties, else the text."""
    if workload.output is None:
        return [("answer", "answer")]
    return [
        (name, field.name) for name, field in zip(workload.output["properties"], output_fields(workload), strict=True)
    ]


def read_samples(
    duck: Any,
    results: str,
    record: Sequence[tuple[str, str]],
    answer: Sequence[tuple[str, str]],
    leaves: Sequence[Leaf],
) -> tuple[Sample, ...]:
    """Chosen by a digest of the record's id: as good as chance, and the same each time."""
    ids = _choose(duck, results, leaves)
    if not ids:
        return ()
    cells = ", ".join(cell(column) for _, column in (*record, *answer))
    listed = ", ".join(literal(i) for i in ids if "\0" not in i)
    rows = duck.execute(
        f"""SELECT record_id, {KIND}, model, coalesce(cost_usd, 0), left(concat_ws(': ', error_type, error_message), 300),
                left(answer, {CHARACTERS}), length(answer){", " * bool(cells)}{cells}
            FROM {results} WHERE record_id IN ({listed})"""
    ).fetchall()
    found = {}
    for record_id, kind, model, usd, error, raw, raw_length, *texts in rows:
        pairs = list(zip(texts[::2], texts[1::2], strict=True))
        shown = cells_of(record, pairs)
        said = cells_of(answer, pairs[len(record) :])
        if all(c.text is None for c in said) and raw is not None:
            said = (Cell("answer", raw, raw_length),)  # nothing of it fits the schema
        found[record_id] = Sample(record_id, kind, model, usd, shown, said, error or None)
    return tuple(found[i] for i in ids if i in found)


def cell(column: str, side: str = "") -> str:
    """SQL of a column's text as it is shown, and of its length; what has fields or items is laid out as JSON."""
    name = f"{side}{identifier(column)}"
    laid_out = f"CAST(json_pretty(to_json({name})) AS VARCHAR)"
    text = f"CASE WHEN typeof({name}) = 'VARCHAR' THEN CAST({name} AS VARCHAR) ELSE {laid_out} END"
    return f"left({text}, {CHARACTERS}), length({text})"


def cells_of(names: Sequence[tuple[str, str]], pairs: Sequence[tuple[str | None, int | None]]) -> tuple[Cell, ...]:
    return tuple(
        Cell(name, None if text == "null" or text is None else text, length or 0)
        for (name, _), (text, length) in zip(names, pairs, strict=False)
    )


def _choose(duck: Any, results: str, leaves: Sequence[Leaf]) -> list[str]:
    """Ids in turn over the strata: what is not plainly answered first, then rare values before frequent ones."""
    value = next((f"CAST({leaf.sql} AS VARCHAR)" for leaf in leaves if not leaf.many), "NULL")
    strata = duck.execute(
        f"""SELECT kind, v, count(*), arg_min(record_id, hash(record_id), {SAMPLES}) FROM (
                SELECT {KIND} AS kind, {value} AS v, record_id FROM {results})
            GROUP BY ALL ORDER BY 3, 1, 2"""
    ).fetchall()
    strata.sort(key=lambda stratum: stratum[0] == ANSWERED)
    chosen: list[str] = []
    for turn in range(SAMPLES):
        for kind, _value, _count, ids in strata:
            allowed = turn < len(ids) and (turn < OF_EACH or kind == ANSWERED)
            if allowed and len(chosen) < SAMPLES:
                chosen.append(ids[turn])
    return chosen
