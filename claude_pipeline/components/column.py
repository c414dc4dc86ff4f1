"""Columns as Dagster shows them: types, meanings, and what each is made of.

A record's own column comes from the dataset's; the answer, and each column parsed from it, from the columns that the
prompt asks for.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.components.key import key
from claude_pipeline.dataset.snapshot import columns_of
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.ledger import SnapshotRow
from claude_pipeline.request import Prompt
from claude_pipeline.result import comments_of, merged_schema, output_fields, own_names
from claude_pipeline.stage.desk import Desk
from claude_pipeline.warehouse.view import ENUMS, comment_of_result
from claude_pipeline.workload import Workload

RECORD_ID = "names the record: the dataset's id column, else a digest of its content"


def of_requests(desk: Desk, snapshot: SnapshotRow) -> dict[str, Any]:
    """The dataset's columns."""
    schema = pq.read_schema(desk.path(snapshot.path))
    columns = [
        dg.TableColumn(field.name, sql_type(field.type), RECORD_ID if field.name == "record_id" else None)
        for field in schema
    ]
    return {"dagster/column_schema": dg.TableSchema(columns)}


def of_merged(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> dict[str, Any]:
    """Those of `<w>/merged`, which are those of `<w>.results` in the warehouse, from the dataset's."""
    own = pq.read_schema(desk.path(snapshot.path))
    output = output_fields(workload)
    requests = key(workload, "requests")
    asked = _asked(workload, columns_of(desk.path(snapshot.path)))
    lineage = {final: [dg.TableColumnDep(requests, name)] for name, final in own_names(own.names, output).items()}
    asked_of = {"answer", *(field.name for field in output)}
    lineage["record_id"] = [dg.TableColumnDep(requests, "record_id")]
    for name in asked_of:
        lineage[name] = [dg.TableColumnDep(requests, column) for column in asked]
    schema = merged_schema(own, output)
    said = comments_of(schema)
    # The open-source UI keeps a column's lineage, and has no page that shows it: the words say it as well.
    origin = f"; made from {', '.join(asked)}" if asked else ""
    columns = [
        dg.TableColumn(
            field.name,
            sql_type(field.type, field.name),
            comment_of_result(field.name, said) + (origin if field.name in asked_of else ""),
        )
        for field in schema
    ]
    return {
        "dagster/column_schema": dg.TableSchema(columns),
        "dagster/column_lineage": dg.TableColumnLineage(lineage),
    }


def _asked(workload: Workload, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that the prompt asks for."""
    try:
        return Prompt(workload.template(), columns).columns
    except ClaudePipelineError:  # it has changed since; the run that asks says so
        return ()


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
