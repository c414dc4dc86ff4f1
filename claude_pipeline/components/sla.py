"""The check `sla` on `<w>/batches`: whether batches come within the API's 24 h, written by the sensor itself.

It warns from the workload's `sla_warn_share` of those hours on, and fails where a batch ran into them; a
failure stays for a day after that batch was collected. The sensor writes an evaluation where the newest one in
the instance says something else, or is older than the newest batch, so that it is written once whoever looks how
often, and a lost tick loses none.
A person may run the check too.
"""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg

# Dagster takes it, and exports it nowhere: without it an evaluation of the second in which a chunk was sent does not show.
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from claude_pipeline.alert import Sla, sla_of, sla_sentence
from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.components.key import key
from claude_pipeline.components.plainly import told_plainly
from claude_pipeline.ledger import ChunkState, WatchedBatch
from claude_pipeline.stage.alert import watched
from claude_pipeline.workload import Workload

NAME = "sla"
SENTENCES_MAX = 5
IDS_MAX = 500  # in the metadata, of each level


@dataclass(frozen=True)
class Standing:
    """What the check says now."""

    warned: tuple[WatchedBatch, ...]
    expired: tuple[WatchedBatch, ...]
    in_flight: int
    now: datetime

    @property
    def ids(self) -> dict[str, list[str]]:
        """The batches that it names, by level."""
        return {"warned": _ids(self.warned), "expired": _ids(self.expired)}

    @property
    def result(self) -> dict[str, Any]:
        """The parts of an evaluation."""
        level = dg.AssetCheckSeverity.ERROR if self.expired else dg.AssetCheckSeverity.WARN
        late = [(b, Sla.EXPIRED) for b in self.expired] + [(b, Sla.WARNED) for b in self.warned]
        sentences = [sla_sentence(batch, sla, self.now) for batch, sla in late[:SENTENCES_MAX]]
        if len(late) > SENTENCES_MAX:
            sentences.append(f"and {len(late) - SENTENCES_MAX:,} more")
        return {
            "check_name": NAME,
            "passed": not late,
            "severity": level,
            "description": "; ".join(sentences) or "no batch is near its 24 h",
            "metadata": {"late": dg.MetadataValue.json(self.ids), "in_flight": self.in_flight},
        }


def _ids(batches: Sequence[WatchedBatch]) -> list[str]:
    """The same ones at each look, where there are more than can be shown."""
    return sorted(str(batch.id) for batch in batches)[:IDS_MAX]


def build_sla_check(workload: Workload) -> dg.AssetChecksDefinition:
    """The check, as a person runs it; the sensor writes it by itself."""

    @dg.asset_check(
        asset=key(workload, "batches"),
        name=NAME,
        description=f"Warns when a batch has run for {workload.sla_warn_share:.0%} of its 24 h, fails when it ran into "
        "them. Written by the sensor.",
    )
    def sla(desk: DeskResource) -> dg.AssetCheckResult:
        with told_plainly(), desk.open() as d:
            return dg.AssetCheckResult(**standing_of(workload, watched(d, workload), d.clock()).result)

    return sla


def standing_of(workload: Workload, batches: Sequence[WatchedBatch], now: datetime) -> Standing:
    """What the check says of a workload whose batches these are."""
    levels = [(batch, sla_of(batch, workload.sla_warn_share, now)) for batch in batches]
    return Standing(
        warned=tuple(batch for batch, level in levels if level is Sla.WARNED),
        expired=tuple(batch for batch, level in levels if level is Sla.EXPIRED),
        in_flight=sum(batch.state is ChunkState.LIVE for batch in batches),
        now=now,
    )


def sla_evaluations(
    instance: dg.DagsterInstance, workloads: Sequence[Workload], batches: Sequence[WatchedBatch], now: datetime
) -> list[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation]:
    """The evaluations that say something new of the batches that are watched."""
    of_workload: dict[str, list[WatchedBatch]] = defaultdict(list)
    for batch in batches:
        of_workload[batch.workload].append(batch)
    keys = {w.name: dg.AssetCheckKey(key(w, "batches"), NAME) for w in workloads}
    last = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys.values()))
    newest = _newest_materializations(instance, [check.asset_key for check in keys.values()])
    found: list[Any] = []
    for workload in workloads:
        standing, check = standing_of(workload, of_workload[workload.name], now), keys[workload.name]
        of = newest.get(check.asset_key)
        if _is_news(instance, last.get(check), standing, of):
            found.append(
                dg.AssetCheckEvaluation(asset_key=check.asset_key, target_materialization_data=of, **standing.result)
            )
    return found


def _newest_materializations(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]
) -> dict[dg.AssetKey, AssetCheckEvaluationTargetMaterializationData]:
    """What an evaluation made now is about; without the assets that were never materialized."""
    found = {}
    for record in instance.get_asset_records(keys):
        newest = record.asset_entry.last_materialization_record
        if newest is not None:
            found[record.asset_entry.asset_key] = AssetCheckEvaluationTargetMaterializationData(
                storage_id=newest.storage_id, run_id=newest.run_id, timestamp=newest.timestamp
            )
    return found


def _is_news(
    instance: dg.DagsterInstance,
    last: Any,
    standing: Standing,
    newest: AssetCheckEvaluationTargetMaterializationData | None,
) -> bool:
    """Whether the newest evaluation says something else, or no longer shows; where there is none, a first batch is news."""
    if last is None:
        return bool(standing.in_flight or standing.warned or standing.expired)
    evaluation = last.evaluation
    if not isinstance(
        evaluation, dg.AssetCheckEvaluation
    ):  # a run has planned one: it says it, unless it ended without
        run = instance.get_run_by_id(last.run_id)
        return run is None or run.is_finished
    about = evaluation.target_materialization_data
    if newest is not None and (about is None or about.storage_id != newest.storage_id):
        return True  # Dagster shows a check as not evaluated once its asset was materialized again
    said: Any = getattr(evaluation.metadata.get("late"), "value", None) or {}
    named = [set(ids) - set(said.get(level) or ()) for level, ids in standing.ids.items()]
    # Of several that it named some may have ended meanwhile: that is no news as long as one of them is late.
    return any(named) or any(bool(ids) != bool(said.get(level)) for level, ids in standing.ids.items())
