"""Columns as Dagster shows them: types, meanings, and what each is made of.

A record's own column comes from the dataset's; the answer, and each column parsed from it, from the columns that the
prompt asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.components.key import key
from claude_pipeline.dataset.snapshot import columns_of
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.ledger import SnapshotRow
from claude_pipeline.markdown import plain
from claude_pipeline.request import Prompt
from claude_pipeline.result import attempts_schema, comments_of, merged_schema, output_fields, own_names
from claude_pipeline.stage.desk import Desk
from claude_pipeline.warehouse.view import ENUMS, comment_of_attempt, comment_of_result
from claude_pipeline.workload import Workload

OF_THE_FILES = {"fingerprint", "verdict"}  # columns of the Parquet parts that say nothing to people
RECORD_ID = "names the record: the dataset's id column, else a digest of its content"


def of_requests(desk: Desk, snapshot: SnapshotRow) -> dict[str, Any]:
    """The dataset's columns."""
    schema = pq.read_schema(desk.path(snapshot.path))
    columns = [
        dg.TableColumn(field.name, sql_type(field.type), RECORD_ID if field.name == "record_id" else None)
        for field in schema
    ]
    return {"dagster/column_schema": dg.TableSchema(columns)}


def of_results(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> dict[str, Any]:
    """Those of `<w>/results`, which are those of `<w>.attempts` in the warehouse.

    Under a name of ours: what Dagster knows as the schema fills the asset's first screen, which belongs to what failed.
    """
    schema = attempts_schema(output_fields(workload))
    shown = [field for field in schema if field.name not in OF_THE_FILES]
    told = _told(desk, workload, snapshot, shown, comment_of_attempt, {})
    return {"columns": told["dagster/column_schema"], "dagster/column_lineage": told["dagster/column_lineage"]}


def of_merged(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> dict[str, Any]:
    """Those of `<w>/merged`, which are those of `<w>.results` in the warehouse."""
    own, output = pq.read_schema(desk.path(snapshot.path)), output_fields(workload)
    kept = {final: [name] for name, final in own_names(own.names, output).items()}
    return _told(desk, workload, snapshot, list(merged_schema(own, output)), comment_of_result, kept)


def _told(
    desk: Desk,
    workload: Workload,
    snapshot: SnapshotRow,
    fields: list[pa.Field],
    comment_of: Callable[[str, Mapping[str, str]], str],
    kept: Mapping[str, list[str]],
) -> dict[str, Any]:
    """The schema of `fields`, and from which of the dataset's columns each is; `kept` are those taken over as they are."""
    output = output_fields(workload)
    answered = {"answer", *(field.name for field in output)}
    asked = _asked(desk, workload, snapshot)
    said = comments_of(pa.schema(output))
    # The open-source UI keeps a column's lineage, and has no page that shows it: the words say it as well.
    origin = f"; made from {', '.join(map(plain, asked))}" if asked else ""
    columns = [
        dg.TableColumn(
            field.name,
            sql_type(field.type, field.name),
            comment_of(field.name, said) + (origin if field.name in answered else ""),
        )
        for field in fields
    ]
    sources = {**kept, "record_id": ["record_id"], **dict.fromkeys(answered, asked)}
    requests = key(workload, "requests")
    lineage = {name: [dg.TableColumnDep(requests, column) for column in of] for name, of in sources.items()}
    return {
        "dagster/column_schema": dg.TableSchema(columns),
        "dagster/column_lineage": dg.TableColumnLineage(lineage),
    }


def _asked(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> list[str]:
    """The columns that the prompt asks for."""
    path = desk.path(snapshot.path)
    try:
        return list(Prompt(workload.template(), columns_of(path)).columns) if path.exists() else []
    except ClaudePipelineError:  # it has changed since; the run that asks says so
        return []


def sql_type(kind: pa.DataType, name: str = "") -> str:
    """The type in the warehouse's words."""
    if name in ENUMS:
        return f"ENUM({', '.join(ENUMS[name])})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{field.name} {sql_type(field.type)}' for field in kind)})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP" if kind.tz is None else "TIMESTAMP WITH TIME ZONE"
    return _PLAIN.get(str(kind), str(kind).upper())


_PLAIN = {
    "string": "VARCHAR", "large_string": "VARCHAR", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER",
    "int64": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "bool": "BOOLEAN", "date32[day]": "DATE", "binary": "BLOB",
}  # fmt: skip
