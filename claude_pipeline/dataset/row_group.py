"""Which row groups of a Parquet file can be left unread, by the statistics in its footer."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq

from claude_pipeline.dataset.watermark import NS_PER_UNIT, Mark, form_of

_UNITS = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}


def old_groups(parquet: pq.ParquetFile, column: str, mark: Mark) -> set[int]:
    """The row groups all of whose values lie below the mark.

    One that the statistics do not speak of clearly is none: it may hold nulls, another type, or text of another
    form, which somebody must see.
    """
    facts = parquet.metadata
    places = [i for i in range(facts.num_columns) if parquet.schema.column(i).path == column]
    if len(places) != 1:  # a column named `a.b` beside the `b` of a struct `a`
        return set()
    place = places[0]
    schema = parquet.schema.column(place)
    return {
        group for group in range(facts.num_row_groups) if _is_old(facts.row_group(group).column(place), schema, mark)
    }


def _is_old(chunk: pq.ColumnChunkMetaData, schema: pq.ColumnSchema, mark: Mark) -> bool:
    facts = chunk.statistics if chunk.is_stats_set else None
    if facts is None or not facts.has_min_max or not facts.has_null_count or facts.null_count:
        return False
    least, most = _mark_of(schema, facts.min_raw), _mark_of(schema, facts.max_raw)
    if least is None or most is None or most.kind != mark.kind:
        return False
    if isinstance(mark.value, str):
        forms = {form_of(str(each.value)) for each in (least, most, mark)}
        return len(forms) == 1 and str(most.value) < mark.value
    return most.number < mark.value


def _mark_of(schema: pq.ColumnSchema, raw: Any) -> Mark | None:
    """A statistic as a value of the column; None where its type is none that is sure."""
    logical = json.loads(schema.logical_type.to_json())
    match logical["Type"], schema.physical_type:
        case "None", "INT32" | "INT64":
            return Mark("whole number", int(raw))
        case "Int", _ if logical["isSigned"]:
            return Mark("whole number", int(raw))
        case "Date", _:
            return Mark("date", int(raw))
        case "Timestamp", "INT64":
            unit = NS_PER_UNIT[_UNITS[logical["timeUnit"]]]
            return Mark("timestamp with time zone" if logical["isAdjustedToUTC"] else "timestamp", int(raw) * unit)
        case "String", _:
            try:
                return Mark("text", raw if isinstance(raw, str) else bytes(raw).decode())
            except UnicodeDecodeError:  # other writers cut long statistics, also within a character
                return None
    return None
