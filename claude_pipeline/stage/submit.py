"""Ready chunks -> batches: settle doubts, halve what was refused, cut the rounds that are due, then send while there is room."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.errors import LedgerOutdated, UsageError
from claude_pipeline.lane.primer import Primers
from claude_pipeline.lane.reconcile import Reconciliation, decide, give_up, reconcile, take_as_is
from claude_pipeline.lane.stranger import Rebuilt, rebuild
from claude_pipeline.lane.submit import SUBMIT_LOCK, Submission, submit_chunks
from claude_pipeline.ledger import BatchId, ChunkRow, ChunkState, NewChunk, SnapshotProgress, SnapshotRow, Walls
from claude_pipeline.parquet_file import read_parquet
from claude_pipeline.progress import told
from claude_pipeline.request import Request
from claude_pipeline.request_table import tables_of
from claude_pipeline.stage.cascade import cut_next_level
from claude_pipeline.stage.check import check_model
from claude_pipeline.stage.cut import cut
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.lane_choice import LaneChooser
from claude_pipeline.stage.mix import cut_each
from claude_pipeline.stage.reserve import with_todays_reserve
from claude_pipeline.stage.room import in_turn, least_of_each_snapshot, with_room
from claude_pipeline.stage.unasked import Unasked
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


def give_up_batch(desk: Desk, batch_id: str) -> str:
    """A person's word that a batch was deleted at the API. Raises as `lane.reconcile.give_up`."""
    return give_up(desk.ledger, desk.client, BatchId(batch_id), clock=desk.clock)


def take_batch_as_is(desk: Desk, batch_id: str) -> str:
    """A person's word on results that stay incomplete. Raises as `lane.reconcile.take_as_is`."""
    return take_as_is(desk.ledger, BatchId(batch_id), clock=desk.clock)


def rebuild_ledger(desk: Desk) -> Rebuilt:
    """Read the API's list back into a restored ledger: doubts first, then batches nobody knows.

    Raises as `lane.stranger.rebuild`, and UsageError where another process is submitting.
    """
    with suppress(LedgerOutdated):  # a doubt may meet a forgotten batch, which is what is mended here
        settle(desk)
    with desk.ledger.lock(SUBMIT_LOCK) as taken:
        if not taken:
            raise UsageError("another process is submitting; stop it, then run this again")
        return rebuild(desk.ledger, desk.client, clock=desk.clock)


def plan_submission(desk: Desk, workload: Workload, keys: Collection[str] | None = None) -> SubmitPlan:
    """Reconcile, cut due rounds, and name the chunks to send: of those that wait for the batch lane as many as there is
    room for, or those of `keys` (`<snapshot>|<chunk>`) whatever their lane, where a failed chunk is made ready again.

    Raises:
        UsageError: a chunk of `keys` is unknown, on its way or collected already.
    """
    plan = SubmitPlan(settle(desk))
    if keys is not None:
        plan.chunks = [_again(desk, workload, key) for key in keys]
        return plan
    halve_refused(desk, workload)
    cut_due_rounds(desk, workload)
    plan.chunks = _in_room(desk, workload)
    return plan


def _in_room(desk: Desk, workload: Workload) -> list[ChunkRow]:
    """What waits for the batch lane, as far as there is room at the API; first what neither a budget nor a primer keeps."""
    ledger, limits, now = desk.ledger, walls(desk, workload), desk.clock()
    chooser, primers = LaneChooser(desk, workload, limits), Primers(ledger, now)
    unsent = ledger.chunks(workload.name, states=[ChunkState.READY, ChunkState.HELD])
    waiting = [chunk for chunk in unsent if chooser.of(chunk).lane == "batch"]
    unprimed = {chunk.id for chunk in waiting if primers.why_wait(chunk) is not None}
    least = least_of_each_snapshot([chunk for chunk in waiting if chunk.state is ChunkState.HELD])
    over = {chunk.snapshot for chunk in least if ledger.wall_before(chunk, limits, at=now) is not None}
    batches, queued = ledger.in_flight()
    ordered = in_turn(waiting, unprimed=unprimed, over_budget=over)
    return with_room(ordered, limits, batches=batches, queued=queued)


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
        case ChunkState.ASKING:
            raise UsageError(f"chunk {partition_key} is being asked in real time; it is not sent twice")


def send(desk: Desk, workload: Workload, chunks: Iterable[ChunkRow]) -> Submission:
    """Send chunks in order while there is room. Raises as `lane.submit.submit_chunks`."""
    check_model(desk, workload)
    listed = list(chunks)

    def reserved() -> Iterator[ChunkRow]:
        for done, chunk in enumerate(listed):
            told("sending", done, total=len(listed), unit="chunks")
            yield with_todays_reserve(desk, chunk)

    return submit_chunks(desk.ledger, desk.client, desk.home, reserved(), walls(desk, workload), clock=desk.clock)


def walls(desk: Desk, workload: Workload) -> Walls:
    """What no intent of this workload may pass."""
    tier = desk.catalog.tier(desk.settings.tier)
    queued = tier.batch.queued_requests
    return Walls(
        queued_requests=queued if queued is not None else desk.catalog.limits.requests_per_batch,
        batches_in_flight=desk.settings.batches_in_flight,
        snapshot_units=_units(workload.budget_usd),
        ledger_units=_units(desk.settings.budget_usd),
        day_units=_units(workload.budget_usd_per_day),
    )


def _units(usd: float | None) -> int | None:
    return None if usd is None else int(Decimal(repr(usd)) * UNITS_PER_USD)


def halve_refused(desk: Desk, workload: Workload) -> None:
    """Halve each refused chunk whose halves may be accepted (`ledger.halving`); a single request stays refused."""
    with desk.ledger.lock(f"plan-{workload.name}", wait=True):
        for chunk in desk.ledger.to_halve(workload.name):
            snapshot = desk.ledger.snapshot(workload.name, chunk.snapshot)
            if snapshot is None or snapshot.plan_number != chunk.plan_number:
                continue
            variant = workload.asking(chunk.model)
            half = variant.model_copy(
                update={"chunk": workload.chunk.model_copy(update={"requests": (chunk.requests + 1) // 2})}
            )
            halves = cut(
                desk, half, snapshot, tables_of(_all_of(desk, chunk)), check_model(desk, half), round_number=chunk.round,
                plan_number=chunk.plan_number, max_tokens=chunk.max_tokens, rounds_before=chunk.rounds_before,
            )  # fmt: skip
            desk.ledger.chunk_split(chunk, halves, at=desk.clock())


def _all_of(desk: Desk, chunk: ChunkRow) -> Iterator[Request]:
    """The requests of a chunk as they were cut."""
    index = read_parquet(desk.path(chunk.index_path), ["row", "record_id", "fingerprint"]).to_pylist()
    with desk.path(chunk.params_path).open("rb") as file:
        for row, line in zip(index, file, strict=True):
            yield Request(row["row"], row["record_id"], row["fingerprint"], line[:-1])


def cut_due_rounds(desk: Desk, workload: Workload) -> None:
    """Cut chunks for what earlier rounds left unanswered, of each snapshot with nothing else on its way."""
    with desk.ledger.lock(f"plan-{workload.name}", wait=True):
        for progress in desk.ledger.progress(workload.name, max_rounds=workload.max_rounds):
            if progress.pending:
                continue
            if progress.due and not _cut_next_round(desk, workload, progress):
                cut_next_level(desk, workload, progress.snapshot)
            elif progress.due:
                continue
            elif progress.waited_on and not progress.waits_on:
                _cut_unanswered(desk, workload, progress.snapshot)


def _cut_next_round(desk: Desk, workload: Workload, progress: SnapshotProgress) -> bool:
    """The retryable requests of the lowest due round, with their params as they were sent; False where there are none."""

    def last(chunk: ChunkRow) -> int:
        return max(progress.snapshot.rounds_used, chunk.rounds_before) + workload.max_rounds

    chunks = [
        chunk
        for chunk in desk.ledger.chunks(workload.name, snapshot=progress.snapshot.id, states=[ChunkState.DONE])
        if (chunk.retryable or 0) > 0
        and not chunk.next_round_cut
        and (chunk.round < last(chunk) or chunk.stopped or (chunk.rescued_at and chunk.canceled))
    ]
    if not chunks:
        return False
    # One plan at a time: a chunk belongs to one plan, and its rows ascend. And it asks one model.
    lowest, plan_number = min((chunk.round, chunk.plan_number) for chunk in chunks)
    due = [chunk for chunk in chunks if (chunk.round, chunk.plan_number) == (lowest, plan_number)]
    new: list[NewChunk] = []
    for model in dict.fromkeys(chunk.model for chunk in due):
        of_model = [chunk for chunk in due if chunk.model == model]
        variant = workload.asking(model)
        new += cut(
            desk, variant, progress.snapshot, tables_of(_to_ask_again(desk, of_model, lowest, last)), check_model(desk, variant),
            round_number=lowest + 1, plan_number=plan_number,
            max_tokens=max(chunk.max_tokens or variant.max_tokens for chunk in of_model),
            first_number=new[-1].number + 1 if new else None,
            rounds_before=max(chunk.rounds_before for chunk in of_model),
        )  # fmt: skip
    desk.ledger.next_round_cut(progress.snapshot, of_chunks=[c.id for c in due], chunks=new, at=desk.clock())
    return True


def _to_ask_again(
    desk: Desk, chunks: Sequence[ChunkRow], lowest: int, last: Callable[[ChunkRow], int]
) -> Iterator[Request]:
    for chunk in chunks:
        verdicts = ("retry", "stop") if lowest < last(chunk) else ("stop",)
        yield from _unanswered(desk, chunk, verdicts)


def _unanswered(desk: Desk, chunk: ChunkRow, verdicts: Collection[str]) -> Iterator[Request]:
    """The requests of a collected chunk whose errors have one of those verdicts, or that were canceled by a rescue.

    What met the account's stop, or was canceled so that it can be asked in real time, costs no round.
    """
    attempts = desk.home.results(chunk.workload, chunk.snapshot, f"{chunk.key}.parquet")
    table = read_parquet(attempts, ["position", "row", "record_id", "fingerprint", "verdict", "outcome"])
    again = {
        row["position"]: row
        for row in table.to_pylist()
        if row["verdict"] in verdicts or (chunk.rescued_at is not None and row["outcome"] == "canceled")
    }
    with desk.path(chunk.params_path).open("rb") as file:
        for position, line in enumerate(file):
            if row := again.get(position):
                yield Request(row["row"], row["record_id"], row["fingerprint"], line[:-1])


def _cut_unanswered(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> None:
    """A wait is over: ask what the awaited snapshots left without an answer."""
    unasked = Unasked(desk, workload, snapshot, desk.ledger.chunks(workload.name, snapshot=snapshot.id))
    chunks = cut_each(
        desk, workload, snapshot, unasked.rows, round_number=1, plan_number=snapshot.plan_number,
        wanted=unasked.fingerprints,
    )  # fmt: skip
    desk.ledger.wait_over(snapshot, chunks=chunks, waits_on=unasked.waits_on, at=desk.clock())
