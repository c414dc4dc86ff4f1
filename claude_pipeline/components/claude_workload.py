"""The Dagster component: a workload in YAML -> its assets, checks, jobs and schedule.

`attributes:` is exactly `Workload`: the component hands Dagster that model and takes the parsed
fields raw, so Dagster never renders the `{{ … }}` of a prompt.
"""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import dagster as dg
from pydantic import BaseModel, Field

from claude_pipeline.cadence import partition_of
from claude_pipeline.components.about import told
from claude_pipeline.components.ask import build_ask
from claude_pipeline.components.assets import build_assets
from claude_pipeline.components.dead_letters import build_dead_letters
from claude_pipeline.components.key import ACTION_TAG, FLAG, WORKLOAD_TAG, automation_tags, key
from claude_pipeline.components.pilot import build_pilot
from claude_pipeline.components.sla import build_sla_check
from claude_pipeline.controller import Kind
from claude_pipeline.workload import Workload


class ScaffoldParams(BaseModel):
    """Options of `dg scaffold defs claude_pipeline.ClaudeWorkload NAME`."""

    path: str = Field("data/sample/tickets.jsonl", description="The dataset: a file, a glob or a folder.")
    model: str = Field("claude-haiku-5-5", description="The model's id or alias.")
    column: str = Field("body", description="The column that the prompt shows to Claude.")


class WorkloadScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a defs.yaml that runs as it is."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        params = request.params
        prompt = "Summarise in one sentence:\n\n{{ " + params.column + " }}\n"
        (request.target_path / "prompt.txt").write_text(prompt, encoding="utf-8")
        dg.scaffold_component(
            request,
            {
                "name": request.target_path.name,
                "dataset": {"path": params.path},
                "model": params.model,
                "prompt_file": "prompt.txt",
                "max_tokens": 256,
                "budget_usd": 5,
            },
        )


@dg.scaffold_with(WorkloadScaffolder)
@dataclass
class ClaudeWorkload(dg.Component):
    """One Claude workload over one dataset: records in, answers in DuckDB out.

    A dataset, a prompt over its columns, a model, and limits; the README has all fields.
    """

    workload: Workload

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return Workload

    @classmethod
    def get_schema(cls) -> type[BaseModel]:
        return Workload

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        assert isinstance(attributes, Workload)
        source = Path(str(context.path)) / "defs.yaml"
        return cls(attributes.at(source) if source.exists() else attributes)

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], *, source: Path | None = None) -> Self:
        """From Python, as `ClaudeWorkload.from_attributes({"name": "reviews", …})`; raises WorkloadInvalid."""
        return cls(Workload.from_attributes(attributes, source=source))

    def build_defs(self, context: dg.ComponentLoadContext | None = None) -> dg.Definitions:
        """The workload's definitions; the resource `desk` and the controller are added by the code location."""
        return build_workload_defs(self.workload)


def build_workload_defs(workload: Workload) -> dg.Definitions:
    """Assets, the jobs `<w>_requests`, `_submit`, `_ask`, `_collect`, `_finalize`, `_retry`, `_pilot`, `_flag`, and the schedule."""
    assets = build_assets(workload)
    dead_letters = build_dead_letters(workload)
    jobs = [
        requests_job(workload),
        assets.submit_job,
        build_ask(workload),
        assets.collect_job,
        finalize_job(workload),
        retry_job(workload),
        build_pilot(workload),
        flag_job(workload),
    ]
    schedules = [schedule(workload)] if workload.schedule else []
    return dg.Definitions(
        assets=told(workload, [*assets.all(), dead_letters]),
        asset_checks=[build_sla_check(workload)],
        jobs=jobs,
        schedules=schedules,
    )


def job_name(workload: Workload | str, kind: Kind | str) -> str:
    name = workload if isinstance(workload, str) else workload.name
    return f"{name}_{kind.value if isinstance(kind, Kind) else kind}"


def requests_job(workload: Workload) -> Any:
    return dg.define_asset_job(
        job_name(workload, "requests"),
        selection=[key(workload, "requests")],
        tags={WORKLOAD_TAG: workload.name},
        description="Take a snapshot, render it, cut what must be asked. Everything after it goes by itself.",
    )


def finalize_job(workload: Workload) -> Any:
    return dg.define_asset_job(
        job_name(workload, Kind.FINALIZE),
        selection=[key(workload, "merged"), key(workload, "summary"), dg.AssetKey("warehouse")],
        tags={WORKLOAD_TAG: workload.name},
        description="Merge a settled snapshot, sum it up, publish the warehouse.",
    )


def retry_job(workload: Workload) -> Any:
    return dg.define_asset_job(
        job_name(workload, "retry"),
        selection=[key(workload, "dead_letters")],
        tags={WORKLOAD_TAG: workload.name},
        description="Ask the dead letters of a snapshot again, all or those of one reason.",
    )


def flag_job(workload: Workload) -> Any:
    return dg.define_asset_job(
        job_name(workload, FLAG),
        selection=dg.AssetSelection.assets(key(workload, "batches")).without_checks(),
        tags={WORKLOAD_TAG: workload.name, ACTION_TAG: FLAG},
        description="Turn the partition of a chunk that the API refused red; launched by the controller only.",
    )


def schedule(workload: Workload) -> dg.ScheduleDefinition:
    """Each tick materializes the partition that holds it, as a person would in the UI."""

    @dg.schedule(
        name=f"{workload.name}_schedule",
        job_name=job_name(workload, "requests"),
        cron_schedule=workload.schedule or "",
        execution_timezone=workload.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Takes a snapshot; the controller sends what is new in it.",
        tags=automation_tags([workload]),
        owners=list(workload.owners),
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        partition = partition_of(workload.cadence, workload.timezone, context.scheduled_execution_time)
        return dg.RunRequest(partition_key=partition)

    return tick
