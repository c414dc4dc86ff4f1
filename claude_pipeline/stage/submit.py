"""Ready chunks -> batches: settle doubts, cut the rounds that are due, then send while there is room."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.errors import UsageError
from claude_pipeline.lane.reconcile import Reconciliation, decide, reconcile
from claude_pipeline.lane.submit import Submission, submit_chunks
from claude_pipeline.ledger import BatchId, ChunkRow, ChunkState, NewChunk, SnapshotProgress, SnapshotRow, Walls
from claude_pipeline.ledger.state import ON_ITS_WAY
from claude_pipeline.request import Request, RequestMaker
from claude_pipeline.result import connection
from claude_pipeline.sql import file_literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import check_model, cut, requests_of
from claude_pipeline.workload import Workload


@dataclass
class SubmitPlan:
    """What a submission starts from."""

    reconciled: Reconciliation
    chunks: list[ChunkRow] = field(default_factory=list)  # to be sent, in order


def settle(desk: Desk) -> Reconciliation:
    """Look for batches whose creation was never answered."""
    return reconcile(desk.ledger, desk.client, settle_seconds=desk.settings.settle_seconds, clock=desk.clock)


def settle_by_hand(desk: Desk, tag: str, *, batch_id: str | None) -> str:
    """A person's word on a doubtful intent: it is that batch, or (None) it was not accepted.

    Raises:
        UsageError: there is no such doubt, or the batch cannot be it.
    """
    return decide(desk.ledger, desk.client, tag, BatchId(batch_id) if batch_id else None, clock=desk.clock)


def plan_submission(desk: Desk, workload: Workload, keys: Collection[str] | None = None) -> SubmitPlan:
    """Reconcile, cut due rounds, and name the chunks to send: all that wait, or those of `keys`
    (`<snapshot>|<chunk>`), where a failed chunk is made ready again.

    Raises:
        UsageError: a chunk of `keys` is unknown, on its way or collected already.
    """
    plan = SubmitPlan(settle(desk))
    if keys is not None:
        plan.chunks = [_again(desk, workload, key) for key in keys]
        return plan
    cut_due_rounds(desk, workload)
    plan.chunks = desk.ledger.chunks(workload.name, states=[ChunkState.READY, ChunkState.HELD])
    return plan


def _again(desk: Desk, workload: Workload, partition_key: str) -> ChunkRow:
    snapshot, _, key = partition_key.partition("|")
    chunk = desk.ledger.chunk_by_key(workload.name, snapshot, key)
    if chunk is None:
        raise UsageError(
            f"{workload.name} has no chunk {partition_key}; its chunks are made by {workload.name}/requests"
        )
    of = desk.ledger.snapshot(workload.name, snapshot)
    if of is not None and chunk.plan_number != of.plan_number:
        raise UsageError(
            f"chunk {partition_key} is of an older plan of its snapshot; what it asked is not wanted any more"
        )
    match chunk.state:
        case ChunkState.READY | ChunkState.HELD:
            return chunk
        case ChunkState.FAILED | ChunkState.CANCELED:
            desk.ledger.chunk_ready_again(chunk, at=desk.clock())
            return desk.ledger.chunk(chunk.id)
        case ChunkState.DONE:
            raise UsageError(f"chunk {partition_key} is collected already; sending it again would pay for it twice")
        case ChunkState.SENDING | ChunkState.LIVE | ChunkState.ENDED:
            raise UsageError(f"chunk {partition_key} is {chunk.state} as batch {chunk.batch_id}; it is not sent twice")


def send(desk: Desk, workload: Workload, chunks: Iterable[ChunkRow]) -> Submission:
    """Send chunks in order while there is room. Raises as `lane.submit.submit_chunks`."""
    check_model(desk, workload)
    return submit_chunks(desk.ledger, desk.client, desk.home, chunks, walls(desk, workload), clock=desk.clock)


def walls(desk: Desk, workload: Workload) -> Walls:
    """What no intent of this workload may pass."""
    tier = desk.catalog.tier(desk.settings.tier)
    queued = tier.batch.queued_requests
    return Walls(
        queued_requests=queued if queued is not None else desk.catalog.limits.requests_per_batch,
        batches_in_flight=desk.settings.batches_in_flight,
        snapshot_units=_units(workload.budget_usd),
        ledger_units=_units(desk.settings.budget_usd),
    )


def _units(usd: float | None) -> int | None:
    return None if usd is None else round(usd * UNITS_PER_USD)


def cut_due_rounds(desk: Desk, workload: Workload) -> None:
    """Cut chunks for what earlier rounds left unanswered, of each snapshot with nothing else on its way."""
    with desk.ledger.lock(f"plan-{workload.name}", wait=True):
        for progress in desk.ledger.progress(workload.name, max_rounds=workload.max_rounds):
            if progress.pending:
                continue
            if progress.due:
                _cut_next_round(desk, workload, progress)
            elif progress.waited_on and not progress.waits_on:
                _cut_unanswered(desk, workload, progress.snapshot)


def _cut_next_round(desk: Desk, workload: Workload, progress: SnapshotProgress) -> None:
    """The retryable requests of the lowest due round, with their params as they were sent."""
    chunks = [
        chunk
        for chunk in desk.ledger.chunks(workload.name, snapshot=progress.snapshot.id, states=[ChunkState.DONE])
        if (chunk.retryable or 0) > 0 and not chunk.next_round_cut and chunk.round < workload.max_rounds
    ]
    # One plan at a time: a chunk belongs to one plan, and its rows ascend.
    lowest, plan_number = min((chunk.round, chunk.plan_number) for chunk in chunks)
    due = [chunk for chunk in chunks if (chunk.round, chunk.plan_number) == (lowest, plan_number)]
    requests = (request for chunk in due for request in _unanswered(desk, chunk))
    price = check_model(desk, workload)
    new = cut(desk, workload, progress.snapshot, requests, price, round_number=lowest + 1, plan_number=plan_number)
    desk.ledger.next_round_cut(progress.snapshot, of_chunks=[c.id for c in due], chunks=new, at=desk.clock())


def _unanswered(desk: Desk, chunk: ChunkRow) -> Iterator[Request]:
    """The requests of a collected chunk that another round may answer."""
    attempts = desk.home.results(chunk.workload, chunk.snapshot, f"{chunk.key}.parquet")
    table = pq.read_table(attempts, columns=["position", "row", "record_id", "fingerprint", "verdict"])
    again = {row["position"]: row for row in table.to_pylist() if row["verdict"] in ("retry", "stop")}
    with desk.path(chunk.params_path).open("rb") as file:
        for position, line in enumerate(file):
            if row := again.get(position):
                yield Request(row["row"], row["record_id"], row["fingerprint"], line[:-1])


def _cut_unanswered(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> None:
    """A wait is over: ask what the awaited snapshots left without an answer."""
    assert snapshot.plan_path is not None
    price = check_model(desk, workload)
    records = desk.path(snapshot.path)
    maker = RequestMaker.of(workload, pq.read_schema(records).names)
    planned = RequestsOf(desk, workload, snapshot)
    requests: Iterator[Request] = (
        request
        for request in requests_of(records, maker, planned.rows())
        if request.fingerprint in planned.fingerprints
    )
    chunks: Sequence[NewChunk] = cut(
        desk, workload, snapshot, requests, price, round_number=1, plan_number=snapshot.plan_number
    )
    desk.ledger.wait_over(snapshot, chunks=chunks, waits_on=planned.waits_on, at=desk.clock())


class RequestsOf:
    """Questions of a plan that have neither an answer in the workload nor a chunk in the snapshot, and
    are not on their way in another one; `waits_on` names those in which some are."""

    def __init__(self, desk: Desk, workload: Workload, snapshot: SnapshotRow) -> None:
        path: Callable[[str], Path] = desk.path
        answered = [path(p.path) for p in desk.ledger.parts(workload.name, kinds=["attempts"])]
        own = [path(c.index_path) for c in desk.ledger.chunks(workload.name, snapshot=snapshot.id)]
        others = desk.ledger.chunks(workload.name, states=ON_ITS_WAY) if workload.reuse else []
        away = [chunk for chunk in others if chunk.snapshot != snapshot.id]
        assert snapshot.plan_path is not None
        with connection(desk.home.scratch()) as duck:
            found = duck.sql(
                f"""SELECT min(row), fingerprint, fingerprint IN ({_fingerprints([path(c.index_path) for c in away], "")})
                    FROM read_parquet({file_literal(path(snapshot.plan_path))})
                    WHERE fingerprint IS NOT NULL
                      AND fingerprint NOT IN ({_fingerprints(answered, "WHERE outcome = 'succeeded'")})
                      AND fingerprint NOT IN ({_fingerprints(own, "")})
                    GROUP BY fingerprint ORDER BY 1"""
            ).fetchall()
        rows = [(row, bytes(fingerprint)) for row, fingerprint, is_away in found if not is_away]
        self._rows = [row for row, _ in rows]
        self.fingerprints = {fingerprint for _, fingerprint in rows}
        self.waits_on = {chunk.snapshot for chunk in away} if len(rows) < len(found) else set()

    def rows(self) -> Iterator[pa.Array]:
        if self._rows:
            yield pa.array(self._rows, pa.int64())


def _fingerprints(files: Sequence[Path], where: str) -> str:
    if not files:
        return "SELECT NULL::BLOB WHERE false"
    listed = ", ".join(file_literal(file) for file in files)
    return f"SELECT fingerprint FROM read_parquet([{listed}], union_by_name = true) {where}"
