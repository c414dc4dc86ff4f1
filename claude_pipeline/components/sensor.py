"""The controller sensor: one look at the API, one at the ledger, then at most one run per kind and workload.

It translates; the decisions are `controller.py`'s. It has no cursor and its requests no run_key:
kill it, delete its history, run two of it, the outcome is the same.
"""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import takewhile

import dagster as dg

from claude_pipeline.components.claude_workload import job_name
from claude_pipeline.components.desk_resource import LOCK_TAG, DeskResource, lock_name
from claude_pipeline.components.key import ACTION_TAG, FLAG, WORKLOAD_TAG, automation_tags
from claude_pipeline.components.plainly import plain
from claude_pipeline.components.sla import sla_evaluations
from claude_pipeline.controller import Action, Kind, Situation, choose, cool_down, decide, describe, survey
from claude_pipeline.errors import ApiRefused, ApiUnclear, ClaudePipelineError
from claude_pipeline.ledger import ChunkState
from claude_pipeline.settings import Settings
from claude_pipeline.stage.alert import Told, watch
from claude_pipeline.stage.collect import look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.lane_choice import rescue
from claude_pipeline.stage.submit import settle, walls
from claude_pipeline.workload import Workload

NAME = "controller"
RUN_SECONDS_MAX = 1800  # a host that crashed leaves a run STARTED: run monitoring ends it after this
FAILURES_MAX = 12  # after so many an hour has come, however short the ticks
FLAGS_PER_TICK = 5
FIRST_WORDS_SECONDS = 30.0  # most between Dagster's note that a run started and the run's lock
LAST_WORDS_SECONDS = 1.0  # most between the end of a run's work and Dagster's note of it
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build_controller(workloads: Sequence[Workload], jobs: Sequence[object]) -> dg.SensorDefinition:
    """One sensor for all workloads; it may request only jobs declared on it, and declares no others."""
    launched = {job_name(workload, kind) for workload in workloads for kind in (*Kind, FLAG)}

    @dg.sensor(
        name=NAME,
        jobs=[job for job in jobs if job.name in launched],  # type: ignore[attr-defined,misc]
        minimum_interval_seconds=Settings.from_environment().tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks at everything in flight and launches what is due: submit, collect, finalize.",
        tags=automation_tags(workloads),
        owners=sorted({owner for workload in workloads for owner in workload.owners}),
    )
    def controller(context: dg.SensorEvaluationContext, desk: DeskResource) -> dg.SensorResult:
        try:
            with desk.open() as d:
                return _tick(context, d, workloads)
        except ClaudePipelineError as error:
            return dg.SensorResult(skip_reason=str(error))
        except Exception as error:
            raise plain(error) from None

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
    for workload in workloads:
        for chunk, why in rescue(desk, workload, walls(desk, workload)):
            sentences.append(f"{workload.name}: {chunk.partition_key} is moved to real time: {why}")
    sentences += _end_the_dead(context.instance, desk)
    situations = {workload.name: survey(desk, workload) for workload in workloads}
    told = _tell(context, desk, workloads, situations)
    sentences += [told.unposted] if told.unposted else []
    now = desk.clock()
    evaluations = sla_evaluations(context.instance, workloads, told.watched, now)
    actions = choose([a for s in situations.values() for a in decide(s)], _busy(context.instance))
    requests = []
    for action in actions:
        wait = _still_to_wait(context.instance, tags_of(action), desk.settings.tick_seconds, now)
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
        return dg.SensorResult(run_requests=requests, asset_events=evaluations)
    return dg.SensorResult(skip_reason=_reason(sentences, situations, now), asset_events=evaluations)


def _tell(
    context: dg.SensorEvaluationContext,
    desk: Desk,
    workloads: Sequence[Workload],
    situations: Mapping[str, Situation],
) -> Told:
    """Tell people what is new: a line in the tick's log, and the webhook."""
    told = watch(desk, workloads, {name: situation.held_by for name, situation in situations.items()})
    for alert in told.noted:
        context.log.warning(f"{alert.kind}: {alert.sentence}")
    return told


def _flags(desk: Desk, workload: Workload) -> list[dg.RunRequest]:
    """A failing run for each refused chunk that does not go again in halves: red on `<w>/batches`, whose
    materialization repairs it.

    The run_key makes it once per sending, which is what run keys are for.
    """
    to_halve = {chunk.id for chunk in desk.ledger.to_halve(workload.name)}
    refused = desk.ledger.chunks(workload.name, states=[ChunkState.FAILED])
    failed = [chunk for chunk in refused if chunk.id not in to_halve]
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
    return "; ".join([*sentences, *working]) or "nothing to do"


def tags_of(action: Action) -> dict[str, str]:
    return {WORKLOAD_TAG: action.workload, ACTION_TAG: action.kind.value}


def _end_the_dead(instance: dg.DagsterInstance, desk: Desk) -> list[str]:
    """Runs whose process was killed together with the code server: nobody else ends them before their time is up.

    A lock is freed by the kernel with its holder, so this is no guess about how long a run may take.
    """
    dead = _without_a_holder(instance, desk)
    if dead:
        time.sleep(LAST_WORDS_SECONDS)  # one that has just done its work is about to say so
        dead &= _without_a_holder(instance, desk)
    for run_id in dead:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, "its process was killed; what it began is found in the ledger")
            desk.home.lock(lock_name(run_id)).unlink(missing_ok=True)
    return [f"ended run {run_id[:8]}, whose process was killed" for run_id in sorted(dead)]


def _without_a_holder(instance: dg.DagsterInstance, desk: Desk) -> set[str]:
    """Runs that hold no lock though they should: they did once, or had time enough to begin."""
    found = set()
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        run = record.dagster_run
        age = desk.clock().timestamp() - (record.start_time or desk.clock().timestamp())
        if LOCK_TAG in run.tags or (ACTION_TAG in run.tags and age > FIRST_WORDS_SECONDS):
            with desk.ledger.lock(lock_name(run.run_id)) as free:
                if free:
                    found.add(run.run_id)
    return found


def _busy(instance: dg.DagsterInstance) -> set[tuple[str, str]]:
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return {(run.tags[WORKLOAD_TAG], run.tags[ACTION_TAG]) for run in runs if ACTION_TAG in run.tags}


def _still_to_wait(instance: dg.DagsterInstance, tags: Mapping[str, str], tick_seconds: float, now: datetime) -> float:
    """Seconds until an action whose last runs failed is tried again."""
    records = instance.get_run_records(dg.RunsFilter(tags=dict(tags)), limit=FAILURES_MAX)
    failed = takewhile(lambda record: record.dagster_run.status is dg.DagsterRunStatus.FAILURE, records)
    wait = cool_down(len(list(failed)), tick_seconds)
    if wait == 0:
        return 0.0
    ended: float = records[0].end_time or records[0].update_timestamp.timestamp()
    return max(0.0, ended + wait - now.timestamp())
