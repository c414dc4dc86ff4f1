"""Find out what became of a create whose answer was lost, without ever guessing.

The API's list shows every batch of the workspace; results, once a batch ended, show its first
custom_id, which begins with the tag of the intent that made it. So a doubtful intent waits for the
settle time, then for every batch that might be its own to end, and only then is it adopted or
declared absent. Anything incomplete decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from claude_pipeline.crash import crash_point
from claude_pipeline.errors import ApiRefused, ApiUnclear, UsageError
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.lane.identify import Kin, forgotten, identify
from claude_pipeline.lane.listing import Listing, read_list, since
from claude_pipeline.lane.submit import SUBMIT_LOCK
from claude_pipeline.ledger import BatchId, ChunkRow, ChunkState, IntentRow, IntentState, Ledger

Clock = Callable[[], datetime]


@dataclass
class Reconciliation:
    """What one look at the doubtful intents found."""

    adopted: list[tuple[IntentRow, BatchId]] = field(default_factory=list)
    absent: list[IntentRow] = field(default_factory=list)
    waiting: list[tuple[IntentRow, str]] = field(default_factory=list)
    paid_twice: list[BatchId] = field(default_factory=list)


def reconcile(ledger: Ledger, client: BatchClient, *, settle_seconds: float, clock: Clock) -> Reconciliation:
    """Settle what can be settled of the intents without a clear answer; the list is read once for all.

    Raises:
        WorkspaceMismatch, LedgerOutdated: nothing may be decided, nothing may be sent.
    """
    found = Reconciliation()
    if not ledger.unsettled_intents():
        return found
    with ledger.lock(SUBMIT_LOCK) as taken:
        if not taken:
            return found
        for intent in ledger.unsettled_intents():
            if intent.state is IntentState.OPEN:
                # We hold the lock, so whoever opened it is dead: its POST may have left or not.
                ledger.intent_doubted(intent, reason="the process that sent it died", at=clock())
        crash_point("reconcile.after_doubt")
        due = _due(ledger.unsettled_intents(), settle_seconds, clock(), found)
        if due:
            _settle_all(ledger, client, due, clock, found)
    return found


def _due(intents: list[IntentRow], settle_seconds: float, now: datetime, found: Reconciliation) -> list[IntentRow]:
    """Those whose settle time is over; the others wait."""
    due = []
    for intent in intents:
        assert intent.doubt_at is not None
        due_at = intent.doubt_at + timedelta(seconds=settle_seconds)
        if now < due_at:
            found.waiting.append((intent, f"left alone until {due_at:%H:%M:%S} UTC, for a late answer to show"))
        else:
            due.append(intent)
    return due


def _settle_all(ledger: Ledger, client: BatchClient, due: list[IntentRow], clock: Clock, found: Reconciliation) -> None:
    try:
        listing = read_list(ledger, client, back_to={intent.watermark for intent in due}, clock=clock)
    except (ApiUnclear, ApiRefused) as unclear:
        found.waiting += [(intent, str(unclear)) for intent in due]
        return
    for intent in due:
        # Read anew for each: settling one may have settled another.
        now = ledger.intent_by_tag(intent.tag)
        if now is None or now.state is not IntentState.DOUBT:
            continue
        try:
            _settle(ledger, client, now, listing, clock, found)
        except (ApiUnclear, ApiRefused) as unclear:
            found.waiting.append((now, str(unclear)))


def _settle(
    ledger: Ledger, client: BatchClient, intent: IntentRow, listing: Listing, clock: Clock, found: Reconciliation
) -> None:
    listed = since(ledger, listing, intent)
    if intent.candidates is None:
        candidates = [b.id for b in listed.values() if b.requests == intent.requests and not _owned(ledger, b.id)]
        ledger.candidates_frozen(intent, candidates, at=clock())
        crash_point("reconcile.after_freeze")
    else:
        candidates = [BatchId(candidate) for candidate in json.loads(intent.candidates)]
    why: str | None = None  # one that cannot be told now (deleted, still running) hides none of the others
    for candidate in candidates:
        if _owned(ledger, candidate):
            continue
        try:
            seen = listed.get(candidate) or client.retrieve(candidate)
            if not seen.ended:
                why = f"{candidate} may be it; waiting for its end"
                continue
            identity = identify(ledger, client, seen, clock=clock)
        except (ApiUnclear, ApiRefused) as unclear:
            why = str(unclear)
            continue
        match identity.kin:
            case Kin.FORGOTTEN:
                raise forgotten(seen)
            case Kin.PAID_TWICE:
                found.paid_twice.append(seen.id)
            case Kin.ADOPTED if identity.owner is not None:
                found.adopted.append((identity.owner, seen.id))
                if identity.owner.tag == intent.tag:
                    return
    if why is not None:
        found.waiting.append((intent, why))
        return
    ledger.intent_absent(intent, at=clock())
    crash_point("reconcile.after_absent")
    found.absent.append(intent)


def decide(ledger: Ledger, client: BatchClient, tag: str, batch_id: BatchId | None, *, clock: Clock) -> str:
    """A person's word on a doubtful intent, where the evidence is gone: that batch, or (None) absent.

    Raises:
        UsageError: there is no such doubt, another process holds it, or the batch is another's.
    """
    with ledger.lock(SUBMIT_LOCK) as taken:
        if not taken:
            raise UsageError("another process is submitting; try again in a moment")
        intent = ledger.intent_by_tag(tag)
        if intent is not None and intent.state is IntentState.OPEN:
            ledger.intent_doubted(intent, reason="the process that sent it died", at=clock())
            intent = ledger.intent_by_tag(tag)
        if intent is None or intent.state is not IntentState.DOUBT:
            raise UsageError(f"{tag} is not in doubt; `claude-pipeline status` lists what is")
        if batch_id is None:
            ledger.intent_absent(intent, at=clock())
            return f"{tag}: taken as not accepted; its chunk is ready again"
        seen = client.retrieve(batch_id)
        if _owned(ledger, batch_id) or seen.requests != intent.requests:
            raise UsageError(
                f"{batch_id} cannot be {tag}: it is another's, or holds {seen.requests:,} requests, not {intent.requests:,}"
            )
        ledger.intent_live(intent, seen, at=clock(), move="batch named by hand")
        ledger.batch_seen(seen, at=clock())
        return f"{tag}: taken as {batch_id}"


def give_up(ledger: Ledger, client: BatchClient, batch_id: BatchId, *, clock: Clock) -> str:
    """A person's word that a batch of ours was deleted at the API: its answers can never be had.

    Raises:
        UsageError: it is not ours, is collected, or the API still has it.
        ApiUnclear: the API does not say whether it has it.
    """
    chunk = _uncollected(ledger, batch_id)
    try:
        client.retrieve(batch_id)
    except ApiRefused as refused:
        if refused.status != 404:
            raise
    else:
        raise UsageError(f"the API still has {batch_id}: it is collected once it has ended")
    reason = f"batch {batch_id} was deleted at the API before it was collected; what it answered was paid"
    ledger.batch_gone(chunk, reason, at=clock())
    return f"{batch_id}: given up; the {chunk.requests:,} records of chunk {chunk.partition_key} become dead letters"


def _owned(ledger: Ledger, batch_id: BatchId) -> bool:
    """Whether an intent, or the note that it is foreign, has that batch already."""
    return ledger.batch(batch_id) is not None


def take_as_is(ledger: Ledger, batch_id: BatchId, *, clock: Clock) -> str:
    """A person's word that the results of an ended batch will not become better than they are.

    Raises:
        UsageError: it is not ours, is collected, or has not ended.
    """
    chunk = _uncollected(ledger, batch_id)
    if chunk.state is not ChunkState.ENDED:
        raise UsageError(f"{batch_id} has not ended; it is collected once it has")
    ledger.taken_as_is(chunk, at=clock())
    return (
        f"{batch_id}: the next collection takes what can be read; records of chunk {chunk.partition_key} without an "
        "answer in it become dead letters (missing_result)"
    )


def _uncollected(ledger: Ledger, batch_id: BatchId) -> ChunkRow:
    """The chunk of a batch that waits to be collected, or for its end."""
    known = ledger.batch(batch_id)
    chunk = ledger.chunk(known.chunk_id) if known is not None and known.chunk_id is not None else None
    if chunk is None or chunk.state not in (ChunkState.LIVE, ChunkState.ENDED) or chunk.batch_id != batch_id:
        raise UsageError(f"{batch_id} is no batch of this ledger that waits to be collected")
    return chunk
