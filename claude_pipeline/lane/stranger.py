"""Batches of the workspace that the ledger does not know: another program's, or ones it has forgotten.

A ledger restored from a backup knows nothing of what was sent after it, and would send it again. So
before sending, ended batches that nobody knows are looked at once; a tag of our own ledger on one of
them stops everything until `rebuild` has read the list back. A tag holds the first 8 hex digits of
its chunk's checksum, so that a forgotten batch finds its chunk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from claude_pipeline.errors import ApiRefused, ApiUnclear, LedgerOutdated
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.lane.identify import Kin, forgotten, identify
from claude_pipeline.lane.listing import Listing, read_list
from claude_pipeline.ledger import BatchId, BatchSeen, ChunkRow, Ledger, Tag
from claude_pipeline.ledger.account_moves import OUTDATED

Clock = Callable[[], datetime]
FIRST_WATERMARK = "first_watermark"  # the newest batch before the ledger's first: older ones are no concern of ours
REBUILD_WAITS = "rebuild_waits"  # unknown batches that ran when a rebuild began
LOOKS_MAX = 20  # unknown batches looked at per submission
HOLD_SHARE = 8  # hex digits of the chunk's checksum in a tag


def tag_of(ledger: Ledger, params_sha256: str, chance: str) -> Tag:
    """`<ledger id>-<8 hex of the chunk's checksum><8 hex of chance>`."""
    return Tag(f"{ledger.id}-{params_sha256[:HOLD_SHARE]}{chance}")


def share_of(tag: Tag) -> str:
    """The digits of the chunk's checksum that a tag holds."""
    return tag.rpartition("-")[2][:HOLD_SHARE]


def meet_strangers(ledger: Ledger, client: BatchClient, *, clock: Clock) -> list[BatchId]:
    """Look at ended batches that nobody knows; returns those found to be paid twice.

    One that cannot be read now is looked at again the next time.

    Raises:
        LedgerOutdated: one is ours and forgotten.
        ApiUnclear, ApiRefused, WorkspaceMismatch: as `read_list`.
    """
    first = ledger.get_setting(FIRST_WATERMARK)
    listing = read_list(ledger, client, back_to=(), clock=clock, pages=1)
    if first is None:
        newest = next(iter(listing.batches), "")
        ledger.put_setting(FIRST_WATERMARK, newest, at=clock(), move="first batch of the workspace noted")
        return []
    twice = []
    for seen in [b for b in _unknown(ledger, listing, first) if b.ended and b.archived_at is None][:LOOKS_MAX]:
        try:
            identity = identify(ledger, client, seen, clock=clock)
        except (ApiUnclear, ApiRefused):
            continue
        if identity.kin is Kin.FORGOTTEN:
            raise forgotten(seen)
        if identity.kin is Kin.PAID_TWICE:
            twice.append(seen.id)
    return twice


def _unknown(ledger: Ledger, listing: Listing, first: str) -> list[BatchSeen]:
    newer, _ = listing.newer_than(BatchId(first) if first else None)
    known = {batch.id for batch in ledger.batches(ids=list(newer))}
    return [seen for seen in newer.values() if seen.id not in known]


@dataclass
class Rebuilt:
    """What a rebuild found."""

    remembered: list[tuple[ChunkRow, BatchId]] = field(default_factory=list)
    orphaned: list[BatchId] = field(default_factory=list)  # of chunks that this ledger has not cut (yet)
    running: list[BatchId] = field(default_factory=list)  # nobody can tell whose before they end
    unreadable: list[tuple[BatchId, str]] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not self.running and not self.unreadable


def rebuild(ledger: Ledger, client: BatchClient, *, clock: Clock) -> Rebuilt:
    """Read the API's list (29 days of results) back into a ledger that has forgotten part of it. Repeatable.

    Sending goes on once every batch that nobody knew when it began has ended and was read.

    Raises:
        ApiUnclear, ApiRefused, WorkspaceMismatch: a page failed; run it again.
        LedgerOutdated: the home's mark is of another ledger.
    """
    found = Rebuilt()
    ledger.check_mark_is_ours()
    listing = read_list(ledger, client, back_to=(), clock=clock)
    unknown = _unknown(ledger, listing, ledger.get_setting(FIRST_WATERMARK) or "")
    text = ledger.get_setting(REBUILD_WAITS)
    began_with = set(json.loads(text)) if text else {seen.id for seen in unknown}
    if text is None:
        ledger.put_setting(REBUILD_WAITS, json.dumps(sorted(began_with)), at=clock(), move="rebuild begun")
    for seen in unknown:
        if seen.archived_at is not None:
            continue
        if not seen.ended:
            if seen.id in began_with:
                found.running.append(seen.id)
            continue
        try:
            identity = identify(ledger, client, seen, clock=clock)
        except (ApiUnclear, ApiRefused) as unclear:
            found.unreadable.append((seen.id, str(unclear)))
            continue
        if identity.kin is Kin.FORGOTTEN:
            _remember(ledger, identity.tag, seen, found, clock)
    if found.whole:
        ledger.put_setting(REBUILD_WAITS, None, at=clock(), move="rebuild ended")
        ledger.put_mark(ledger.newest_intent())
        if (stop := ledger.stop()) is not None and stop.kind == OUTDATED:
            ledger.account_resumed(how="rebuilt from the API's list", at=clock())
    return found


def _remember(ledger: Ledger, tag: Tag, seen: BatchSeen, found: Rebuilt, clock: Clock) -> None:
    chunk = ledger.chunk_to_remember(share_of(tag), requests=seen.requests)
    if chunk is None:
        ledger.batch_orphaned(tag, seen, at=clock())
        found.orphaned.append(seen.id)
        return
    ledger.batch_remembered(chunk, tag, seen, at=clock())
    ledger.batch_seen(seen, at=clock())
    found.remembered.append((chunk, seen.id))


def claim_orphan(ledger: Ledger, chunk: ChunkRow, *, clock: Clock) -> BatchId | None:
    """The batch of a rebuild that holds just this chunk, now its own; None where there is none."""
    orphan = ledger.orphan_with(f"{ledger.id}-{chunk.params_sha256[:HOLD_SHARE]}", requests=chunk.requests)
    if orphan is None:
        return None
    tag, seen = orphan
    ledger.batch_remembered(chunk, tag, seen, at=clock())
    ledger.batch_seen(seen, at=clock())
    return seen.id


def check_age(ledger: Ledger) -> None:
    """Raises LedgerOutdated where the mark in the home, or an earlier look, says that the ledger forgot batches."""
    ledger.check_mark()
    stop = ledger.stop()
    if stop is not None and stop.kind == OUTDATED:
        raise LedgerOutdated(stop.reason)
