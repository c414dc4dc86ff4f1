"""What can be known to be wrong before anything is sent: models, conditions, labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.catalog import Price
from claude_pipeline.dataset import check_predicate, columns_of
from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.result import output_fields, own_names
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

# Columns of every answer that a condition may look at, beside those of the output.
OF_ANSWERS: Mapping[str, pa.DataType] = {"answer": pa.string(), "stop_reason": pa.string()}
# And of every result, beside the record's own.
OF_RESULTS: Mapping[str, pa.DataType] = {**OF_ANSWERS, "record_id": pa.string(), "model": pa.string()}


def check_model(desk: Desk, workload: Workload) -> Price:
    """The price today of the model that is asked first; refuses what the API would refuse for each request, of any model.

    Raises:
        CatalogMissing: unknown model or price.
        WorkloadInvalid: retired, not for batches, or max_tokens over the model's.
    """
    prices = [_price(desk, variant) for variant in workload.variants]
    desk.catalog.tier(desk.settings.tier)
    return prices[0]


def _price(desk: Desk, workload: Workload) -> Price:
    now = desk.clock()
    model = desk.catalog.model(workload.model)
    if model.lifecycle(now.date()) == "retired":
        raise WorkloadInvalid(f"model: {model.warning(now.date())}", place=workload.place)
    if model.max_output_tokens is not None and workload.max_tokens > model.max_output_tokens:
        raise WorkloadInvalid(
            f"max_tokens: {workload.max_tokens:,} is over what {workload.model} gives at most ({model.max_output_tokens:,})",
            place=workload.place,
        )
    return desk.catalog.price(model.id, now)


def deprecations(desk: Desk, workload: Workload) -> list[str]:
    """Models of the workload that will be gone, each with the day and what to use instead."""
    today = desk.clock().date()
    return [said for name in workload.models if (said := desk.catalog.model(name).warning(today)) is not None]


def check_conditions(desk: Desk, workload: Workload, records: Path) -> None:
    """Route, cascade, score and labels against the columns that there are.

    Raises:
        WorkloadInvalid: names the field, what is wrong with it and which columns there are.
    """
    own = {field.name: field.type for field in pq.read_schema(records)}
    output = {field.name: field.type for field in output_fields(workload)}

    def check(sql: str, columns: Mapping[str, pa.DataType], field: str) -> None:
        check_predicate(sql, columns, field=field, place=workload.place, scratch=desk.home.scratch())

    for number, entry in enumerate(workload.route or ()):
        if entry.when is not None:
            check(entry.when, own, f"route.{number}.when")
    if workload.gives_up_when is not None:
        check(workload.gives_up_when, {**output, **OF_ANSWERS}, "gives_up_when")
    columns = columns_of(records)
    if workload.labels is not None and workload.labels not in columns:
        raise WorkloadInvalid(
            f"labels: the records have no column {workload.labels!r}, only {', '.join(columns)}", place=workload.place
        )
    if workload.score is not None:
        kept = {name: own[column] for column, name in own_names(columns, output_fields(workload)).items()}
        check(workload.score, {**kept, **output, **OF_RESULTS}, "score")


__all__ = ["check_conditions", "check_model", "deprecations"]
