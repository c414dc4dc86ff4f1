"""Whose an ended batch is: the first custom_id of its results begins with the tag of the intent that made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from claude_pipeline.crash import crash_point
from claude_pipeline.errors import ApiUnclear, LedgerOutdated
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import BatchSeen, IntentRow, Ledger, Tag
from claude_pipeline.ledger.state import UNSETTLED_INTENTS

Clock = Callable[[], datetime]


class Kin(StrEnum):
    """What a batch was found to be; the ledger holds it by then."""

    ADOPTED = "adopted"  # of an intent in doubt, or of one taken as not accepted whose chunk was not sent again
    PAID_TWICE = "paid twice"  # of an intent whose chunk was sent again
    FOREIGN = "foreign"  # of another ledger or program
    FORGOTTEN = "forgotten"  # of this ledger, by an intent it does not know


@dataclass(frozen=True)
class Identity:
    kin: Kin
    tag: Tag
    owner: IntentRow | None = None


def peek(client: BatchClient, seen: BatchSeen) -> Tag:
    """The tag in the first custom_id of an ended batch.

    Raises:
        ApiUnclear: its results are empty, cut or unreadable now: that decides nothing.
        ApiRefused: the API has no results of it.
    """
    line = client.first_result(seen.id)
    custom_id = line.get("custom_id") if line else None
    if not isinstance(custom_id, str):
        raise ApiUnclear(f"the results of {seen.id} show no custom_id; decided nothing")
    return Tag(custom_id.rpartition("-")[0])


def identify(ledger: Ledger, client: BatchClient, seen: BatchSeen, *, clock: Clock) -> Identity:
    """Look at an ended batch and record whose it is; of a forgotten one only that the ledger is outdated.

    The caller holds the submit lock: an intent still open is a dead process's. Raises as `peek`.
    """
    tag = peek(client, seen)
    crash_point("reconcile.after_peek")
    owner = ledger.intent_by_tag(tag)
    if owner is None:
        if tag.startswith(f"{ledger.id}-"):
            ledger.account_stopped("outdated", str(forgotten(seen)), at=clock())
            return Identity(Kin.FORGOTTEN, tag)
        ledger.batch_foreign(seen, at=clock())
        return Identity(Kin.FOREIGN, tag)
    if owner.state in UNSETTLED_INTENTS:
        ledger.intent_live(owner, seen, at=clock(), move="batch adopted")
        ledger.batch_seen(seen, at=clock())
        return Identity(Kin.ADOPTED, tag, owner)
    if ledger.batch_late(owner, seen, at=clock()):
        ledger.batch_seen(seen, at=clock())
        return Identity(Kin.ADOPTED, tag, owner)
    return Identity(Kin.PAID_TWICE, tag, owner)


def forgotten(seen: BatchSeen) -> LedgerOutdated:
    return LedgerOutdated(
        f"batch {seen.id} carries a tag of this ledger that it does not know: the ledger is older than what it sent "
        "(restored from a backup?); nothing is sent until `claude-pipeline reconcile --rebuild` has read the API's "
        "list back into it"
    )
