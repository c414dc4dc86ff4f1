"""The controller sensor: one look at the API, one at the ledger, then at most one run per kind and workload.

It translates; the decisions are `controller.py`'s. It has no cursor and its requests no run_key:
kill it, delete its history, run two of it, the outcome is the same.
"""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections.abc import Mapping, Sequence
from datetime import datetime

import dagster as dg

from claude_pipeline.components.assets import ACTION_TAG, FLAG, WORKLOAD_TAG
from claude_pipeline.components.claude_workload import job_name
from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.controller import Action, Situation, choose, decide, describe, survey
from claude_pipeline.errors import ApiRefused, ApiUnclear, ClaudePipelineError
from claude_pipeline.ledger import ChunkState
from claude_pipeline.settings import Settings
from claude_pipeline.stage.collect import look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import settle
from claude_pipeline.workload import Workload

NAME = "controller"
RUN_SECONDS_MAX = 1800  # a host that crashed leaves a run STARTED: run monitoring ends it after this
COOL_DOWN_SECONDS = 20.0
COOL_DOWN_SECONDS_MAX = 3600.0
FLAGS_PER_TICK = 5
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build_controller(workloads: Sequence[Workload], jobs: Sequence[object]) -> dg.SensorDefinition:
    """One sensor for all workloads; it may request only jobs declared on it."""

    @dg.sensor(
        name=NAME,
        jobs=list(jobs),  # type: ignore[arg-type]
        minimum_interval_seconds=Settings.from_environment().tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks at everything in flight and launches what is due: submit, collect, finalize.",
    )
    def controller(context: dg.SensorEvaluationContext, desk: DeskResource) -> dg.SensorResult:
        try:
            with desk.open() as d:
                return _tick(context, d, workloads)
        except ClaudePipelineError as error:
            return dg.SensorResult(skip_reason=str(error))

    return controller


def _tick(context: dg.SensorEvaluationContext, desk: Desk, workloads: Sequence[Workload]) -> dg.SensorResult:
    sentences = []
    try:
        settle(desk)
        look(desk)
    except (ApiUnclear, ApiRefused) as unclear:
        sentences.append(f"the API could not be asked: {unclear}")
    except ClaudePipelineError as stopped:
        # Collecting and merging what is here needs no answer from the API: the tick goes on.
        sentences.append(str(stopped))
    situations = {workload.name: survey(desk, workload) for workload in workloads}
    actions = choose([a for s in situations.values() for a in decide(s)], _busy(context.instance))
    now = desk.clock()
    requests = []
    for action in actions:
        wait = cool_down(context.instance, tags_of(action), now)
        if wait > 0:
            sentences.append(f"{action.workload}: the last {action.kind} failed; next try in {wait:.0f} s")
            continue
        requests.append(
            dg.RunRequest(
                job_name=job_name(action.workload, action.kind),
                partition_key=action.partition,
                tags={**tags_of(action), "dagster/max_runtime": str(RUN_SECONDS_MAX)},
            )
        )
    requests += [request for workload in workloads for request in _flags(desk, workload)]
    if requests:
        return dg.SensorResult(run_requests=requests)
    return dg.SensorResult(skip_reason=_reason(sentences, situations, now))


def _flags(desk: Desk, workload: Workload) -> list[dg.RunRequest]:
    """A failing run for each refused chunk: red on `<w>/batches`, whose materialization repairs it.

    The run_key makes it once per sending, which is what run keys are for.
    """
    failed = desk.ledger.chunks(workload.name, states=[ChunkState.FAILED])
    return [
        dg.RunRequest(
            run_key=f"flag/{workload.name}/{chunk.partition_key}/{chunk.attempts}",
            job_name=job_name(workload, FLAG),
            # As a tag, as the UI does it: a partition_key would be looked up in the instance for each request.
            tags={WORKLOAD_TAG: workload.name, ACTION_TAG: FLAG, "dagster/partition": chunk.partition_key},
        )
        for chunk in failed[:FLAGS_PER_TICK]
    ]


def _reason(sentences: list[str], situations: Mapping[str, Situation], now: datetime) -> str:
    working = [describe(s, now) for s in situations.values() if not s.at_rest]
    walls = [s.wall for s in situations.values() if s.wall]
    return "; ".join([*sentences, *walls, *working]) or "nothing to do"


def tags_of(action: Action) -> dict[str, str]:
    return {WORKLOAD_TAG: action.workload, ACTION_TAG: action.kind.value}


def _busy(instance: dg.DagsterInstance) -> set[tuple[str, str]]:
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return {(run.tags[WORKLOAD_TAG], run.tags[ACTION_TAG]) for run in runs if ACTION_TAG in run.tags}


def cool_down(instance: dg.DagsterInstance, tags: Mapping[str, str], now: datetime) -> float:
    """Seconds to wait because the last runs of this action failed; doubles up to an hour.

    Without it a level-triggered sensor would launch a failing run again at every tick.
    """
    records = instance.get_run_records(dg.RunsFilter(tags=dict(tags)), limit=10)
    failures = 0
    for record in records:
        if record.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
            break
        failures += 1
    if not failures:
        return 0.0
    ended: float = records[0].end_time or records[0].update_timestamp.timestamp()
    wait = min(COOL_DOWN_SECONDS_MAX, COOL_DOWN_SECONDS * 2 ** (failures - 1))
    return max(0.0, float(ended + wait - now.timestamp()))
