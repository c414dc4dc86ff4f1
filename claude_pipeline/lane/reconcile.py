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
from claude_pipeline.errors import ApiRefused, ApiUnclear, LedgerError, UsageError
from claude_pipeline.lane.client import BatchClient, Page
from claude_pipeline.lane.submit import SUBMIT_LOCK
from claude_pipeline.ledger import BatchId, BatchSeen, IntentRow, IntentState, Ledger

Clock = Callable[[], datetime]


@dataclass
class Reconciliation:
    """What one look at the doubtful intents found."""

    adopted: list[tuple[IntentRow, BatchId]] = field(default_factory=list)
    absent: list[IntentRow] = field(default_factory=list)
    waiting: list[tuple[IntentRow, str]] = field(default_factory=list)


class ForgottenBatch(LedgerError):
    """A batch carries a tag of this ledger that the ledger does not know: it was restored from a backup."""


def reconcile(ledger: Ledger, client: BatchClient, *, settle_seconds: float, clock: Clock) -> Reconciliation:
    """Settle what can be settled of the intents without a clear answer.

    Raises:
        WorkspaceMismatch, ForgottenBatch: nothing may be decided, nothing may be sent.
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
        # Read anew for each: settling one may have settled another.
        for tag in [intent.tag for intent in ledger.unsettled_intents()]:
            intent_now = ledger.intent_by_tag(tag)
            if intent_now is None or intent_now.state is not IntentState.DOUBT:
                continue
            try:
                _settle(ledger, client, intent_now, settle_seconds, clock, found)
            except (ApiUnclear, ApiRefused) as unclear:
                found.waiting.append((intent_now, str(unclear)))
    return found


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


def _settle(
    ledger: Ledger,
    client: BatchClient,
    intent: IntentRow,
    settle_seconds: float,
    clock: Clock,
    found: Reconciliation,
) -> None:
    assert intent.doubt_at is not None
    due_at = intent.doubt_at + timedelta(seconds=settle_seconds)
    if clock() < due_at:
        found.waiting.append((intent, f"left alone until {due_at:%H:%M:%S} UTC, for a late answer to show"))
        return
    listed = list_since(ledger, client, intent, clock)
    if intent.candidates is None:
        candidates = [b.id for b in listed.values() if b.requests == intent.requests and not _owned(ledger, b.id)]
        ledger.candidates_frozen(intent, candidates, at=clock())
        crash_point("reconcile.after_freeze")
    else:
        candidates = [BatchId(candidate) for candidate in json.loads(intent.candidates)]
    for candidate in candidates:
        seen = listed.get(candidate) or client.retrieve(candidate)
        if _owned(ledger, candidate):
            continue
        if not seen.ended:
            found.waiting.append((intent, f"{candidate} may be it; waiting for its end"))
            return
        if _peek(ledger, client, intent, seen, clock, found):
            return
    ledger.intent_absent(intent, at=clock())
    crash_point("reconcile.after_absent")
    found.absent.append(intent)


def _peek(
    ledger: Ledger,
    client: BatchClient,
    intent: IntentRow,
    seen: BatchSeen,
    clock: Clock,
    found: Reconciliation,
) -> bool:
    """Look at the first custom_id of an ended candidate; True when the intent is settled by it."""
    line = client.first_result(seen.id)
    custom_id = line.get("custom_id") if line else None
    if not isinstance(custom_id, str):
        raise ApiUnclear(f"the results of {seen.id} show no custom_id; decided nothing")
    tag = custom_id.rpartition("-")[0]
    crash_point("reconcile.after_peek")
    if tag == intent.tag:
        ledger.intent_live(intent, seen, at=clock(), move="batch adopted")
        ledger.batch_seen(seen, at=clock())
        found.adopted.append((intent, seen.id))
        return True
    owner = ledger.intent_by_tag(tag)
    if owner is not None and owner.state is IntentState.DOUBT:
        ledger.intent_live(owner, seen, at=clock(), move="batch adopted")
        ledger.batch_seen(seen, at=clock())
        found.adopted.append((owner, seen.id))
        return False
    if owner is None and tag.startswith(f"{ledger.id}-"):
        raise ForgottenBatch(
            f"batch {seen.id} carries a tag of this ledger that it does not know: the ledger is older than what it "
            "sent (restored from a backup?); nothing is sent until that is mended"
        )
    ledger.batch_foreign(seen, at=clock())
    return False


def list_since(ledger: Ledger, client: BatchClient, intent: IntentRow, clock: Clock) -> dict[BatchId, BatchSeen]:
    """All batches newer than the intent's watermark, newest first; complete, or an error.

    Complete means: no page failed, the watermark was reached (where it was deleted at the API: the
    list was read to its end and an older batch of ours was in it), and every batch recorded after
    the intent is there. Order is that of our intents, never that of a clock.
    """
    listed, reached = _pages_back_to(ledger, client, intent.watermark, clock)
    sent = ledger.sent_batches()
    older = {batch_id for batch_id, intent_id in sent.items() if intent_id < intent.id}
    if (intent.watermark is not None or older) and not reached and not older & listed.keys():
        raise ApiUnclear("the list of batches does not reach back to what was seen before; decided nothing")
    missing = [batch_id for batch_id, intent_id in sent.items() if intent_id > intent.id and batch_id not in listed]
    if missing:
        raise ApiUnclear(f"the list of batches lacks {missing[0]}, which exists; decided nothing")
    return listed


def _pages_back_to(
    ledger: Ledger, client: BatchClient, watermark: BatchId | None, clock: Clock
) -> tuple[dict[BatchId, BatchSeen], bool]:
    """Batches newer than `watermark`, and whether it was met before the list's end."""
    listed: dict[BatchId, BatchSeen] = {}
    after: BatchId | None = None
    while True:
        page: Page = client.page(after_id=after)
        ledger.pin_workspace(page.workspace_id, at=clock())
        before = len(listed)
        for seen in page.batches:
            if seen.id == watermark:
                return listed, True
            listed[seen.id] = seen
        if page.has_more and len(listed) == before:
            raise ApiUnclear("the list of batches repeats itself; decided nothing")
        if not page.has_more or not page.batches:
            return listed, False
        after = page.batches[-1].id


def _owned(ledger: Ledger, batch_id: BatchId) -> bool:
    """Whether an intent, or the note that it is foreign, has that batch already."""
    return ledger.batch(batch_id) is not None
