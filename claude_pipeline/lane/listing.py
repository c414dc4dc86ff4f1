"""The API's list of batches, newest first: whole pages, read back as far as is needed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from claude_pipeline.errors import ApiUnclear
from claude_pipeline.lane.client import BatchClient, Page
from claude_pipeline.ledger import BatchId, BatchSeen, IntentRow, Ledger

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Listing:
    """Batches of the workspace, newest first, as of one moment; `whole`: read to the list's end."""

    batches: dict[BatchId, BatchSeen]
    whole: bool

    def newer_than(self, batch_id: BatchId | None) -> tuple[dict[BatchId, BatchSeen], bool]:
        """The batches before `batch_id` in the list, and whether it was met (else: all of them)."""
        newer: dict[BatchId, BatchSeen] = {}
        for seen in self.batches.values():
            if seen.id == batch_id:
                return newer, True
            newer[seen.id] = seen
        return newer, False


def read_list(
    ledger: Ledger, client: BatchClient, *, back_to: Collection[BatchId | None], clock: Clock, pages: int | None = None
) -> Listing:
    """The list until every batch of `back_to` was met (to its end where one is None or not there).

    Raises:
        ApiUnclear, ApiRefused, KeyRefused, AccountStopped: a page failed; nothing may be decided.
        WorkspaceMismatch: it is the list of another workspace.
    """
    batches: dict[BatchId, BatchSeen] = {}
    wanted, after, read = set(back_to), None, 0
    while True:
        page: Page = client.page(after_id=after)
        ledger.pin_workspace(page.workspace_id, at=clock())
        before, read = len(batches), read + 1
        batches |= {seen.id: seen for seen in page.batches}
        if page.has_more and len(batches) == before:
            raise ApiUnclear("the list of batches repeats itself; decided nothing")
        if not page.has_more or not page.batches:
            return Listing(batches, whole=True)
        if (wanted and wanted <= batches.keys()) or read == pages:
            return Listing(batches, whole=False)
        after = page.batches[-1].id


def since(ledger: Ledger, listing: Listing, intent: IntentRow) -> dict[BatchId, BatchSeen]:
    """All batches newer than the intent's watermark; complete, or an error.

    Complete means: the watermark was met (where it was deleted at the API: the list was read to its
    end and an older batch of ours was in it), and every batch recorded after the intent is there.
    Order is that of our intents, never that of a clock.

    Raises:
        ApiUnclear: the list lacks what must be there.
    """
    listed, met = listing.newer_than(intent.watermark)
    sent = ledger.sent_batches()
    older = {batch_id for batch_id, intent_id in sent.items() if intent_id < intent.id}
    if (intent.watermark is not None or older) and not met and not older & listed.keys():
        raise ApiUnclear("the list of batches does not reach back to what was seen before; decided nothing")
    missing = [batch_id for batch_id, intent_id in sent.items() if intent_id > intent.id and batch_id not in listed]
    if missing:
        raise ApiUnclear(f"the list of batches lacks {missing[0]}, which exists; decided nothing")
    return listed
