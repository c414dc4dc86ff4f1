"""What people are to be told now: pure decisions over what is, each thing once.

    sla_warned                a batch runs longer than the workload's share of its 24 h
    sla_expired               it ran into them: what it left unanswered is asked again
    account_stopped, account_resumed
    merged_with_dead_letters  a snapshot is merged, and records of it have no answer
    budget_held               the budget's wall holds chunks back: once per snapshot and UTC day

Level-triggered: an alert has a key, and what is noted under its key is not due again. Sentences hold
ids and numbers, never a record's text.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from claude_pipeline.ledger import AlertRow, SnapshotRow, Stop, WatchedBatch

REMEMBERED_FOR = timedelta(days=1)  # what is older than that is no news: an upgrade tells nothing of the past
SENTENCE_MAX = 600  # characters

# Of posting: a webhook that is away costs six short tries, the last about an hour after the first.
TRIES_MAX = 6
FIRST_WAIT = timedelta(seconds=10)
WAIT_GROWTH = 4


class AlertKind(StrEnum):
    SLA_WARNED = "sla_warned"
    SLA_EXPIRED = "sla_expired"
    ACCOUNT_STOPPED = "account_stopped"
    ACCOUNT_RESUMED = "account_resumed"
    DEAD_LETTERS = "merged_with_dead_letters"
    BUDGET_HELD = "budget_held"


class Sla(StrEnum):
    """Where a batch stands against its `expires_at`."""

    IN_TIME = "in_time"
    WARNED = "warned"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Alert:
    """One thing to tell, in one sentence. Its key says what makes it the same thing."""

    kind: AlertKind
    key: str
    sentence: str
    workload: str | None = None
    snapshot: str | None = None
    batch_id: str | None = None


@dataclass(frozen=True)
class Held:
    """Chunks of a snapshot before the budget's wall, none of which fits now."""

    workload: str
    snapshot: str
    chunks: int
    wall: str


@dataclass(frozen=True)
class Facts:
    """All that alerts rest on, at one moment."""

    now: datetime
    watched: tuple[WatchedBatch, ...] = ()
    shares: Mapping[str, float] | None = None  # of each workload: `sla_warn_share`
    stop: Stop | None = None
    last_stopped: AlertRow | None = None  # the newest alert of a stop
    merged: tuple[SnapshotRow, ...] = ()  # merged lately, with dead letters
    held: tuple[Held, ...] = ()


def due(facts: Facts) -> list[Alert]:
    """Everything that is to be told, whether or not it is noted already."""
    alerts = [alert for batch in facts.watched if (alert := _of_batch(batch, facts)) is not None]
    alerts += _of_account(facts)
    alerts += [_of_merge(snapshot) for snapshot in facts.merged]
    return alerts + [_of_held(held, facts.now) for held in facts.held]


def new(alerts: Iterable[Alert], noted: Collection[str]) -> list[Alert]:
    """Those not told before."""
    return [alert for alert in alerts if alert.key not in noted]


def sla_of(batch: WatchedBatch, share: float, now: datetime) -> Sla:
    """Where a batch stands: in flight by its age, ended by whether any of its requests expired."""
    if batch.ended_at is not None:
        return Sla.EXPIRED if expired_of(batch) else Sla.IN_TIME
    if batch.expires_at is None:
        return Sla.IN_TIME
    if now >= batch.expires_at:
        return Sla.EXPIRED
    return Sla.WARNED if now >= batch.created_at + share * (batch.expires_at - batch.created_at) else Sla.IN_TIME


def expired_of(batch: WatchedBatch) -> int:
    """Requests of an ended batch that expired unanswered."""
    return int(json.loads(batch.counts or "{}").get("expired") or 0)


def next_try(tries: int, now: datetime) -> datetime:
    """When the webhook may be tried again, should the try after `tries` earlier ones fail."""
    return now + FIRST_WAIT * int(WAIT_GROWTH**tries)


def span(of: timedelta) -> str:
    """`18 h 5 min`."""
    minutes = max(0, int(of.total_seconds() // 60))
    return f"{minutes // 60} h {minutes % 60} min"


def sla_sentence(batch: WatchedBatch, level: Sla, now: datetime) -> str:
    """What a batch is, how old it is, and what becomes of it."""
    which = f"batch {batch.id} ({batch.snapshot}|{batch.key}, {batch.requests:,} requests)"
    if batch.ended_at is not None:
        expired = expired_of(batch)
        return f"{which} ran into its 24 h: {expired:,} requests expired, unbilled; they are asked again while rounds are left"
    assert batch.expires_at is not None
    if level is Sla.EXPIRED:
        late = span(now - batch.expires_at)
        return f"{which} should have expired {late} ago, and the API has not ended it yet; it is looked at until it has"
    share = (now - batch.created_at) / (batch.expires_at - batch.created_at)
    left = f"{span(batch.expires_at - now)} are left until {batch.expires_at:%Y-%m-%d %H:%M} UTC"
    return f"{which} has run for {span(now - batch.created_at)}, {share:.0%} of its time: {left}"


def _of_batch(batch: WatchedBatch, facts: Facts) -> Alert | None:
    level = sla_of(batch, (facts.shares or {})[batch.workload], facts.now)
    if level is Sla.IN_TIME:
        return None
    kind = AlertKind.SLA_WARNED if level is Sla.WARNED else AlertKind.SLA_EXPIRED
    sentence = f"{batch.workload}: {sla_sentence(batch, level, facts.now)}"
    return Alert(kind, f"{kind}/{batch.id}", sentence, batch.workload, batch.snapshot, batch.id)


def _of_account(facts: Facts) -> list[Alert]:
    """A stop by the moment it began; its end, once it is over or another one has begun."""
    stopped = f"{AlertKind.ACCOUNT_STOPPED}/"
    now = f"{stopped}{facts.stop.since.isoformat()}" if facts.stop is not None else None
    alerts = []
    if facts.last_stopped is not None and facts.last_stopped.key != now:
        since = facts.last_stopped.key.removeprefix(stopped)
        sentence = f"the account's stop of {datetime.fromisoformat(since):%Y-%m-%d %H:%M} UTC is over: sending goes on"
        alerts.append(Alert(AlertKind.ACCOUNT_RESUMED, f"{AlertKind.ACCOUNT_RESUMED}/{since}", sentence))
    if facts.stop is not None and now is not None:
        alerts.append(Alert(AlertKind.ACCOUNT_STOPPED, now, facts.stop.sentence))
    return alerts


def _of_merge(snapshot: SnapshotRow) -> Alert:
    dead = snapshot.dead or 0
    sentence = (
        f"{snapshot.workload}: {snapshot.id} is merged, {dead:,} of {snapshot.records:,} records are dead letters: "
    )
    sentence += f"`claude-pipeline retry {snapshot.workload}` asks them again"
    key = f"{AlertKind.DEAD_LETTERS}/{snapshot.workload}/{snapshot.id}/{snapshot.merge_number}"
    return Alert(AlertKind.DEAD_LETTERS, key, sentence, snapshot.workload, snapshot.id)


def _of_held(held: Held, now: datetime) -> Alert:
    # A wall holds and lets go again as answers turn out cheaper: once a day is news, each time is a storm.
    key = f"{AlertKind.BUDGET_HELD}/{held.workload}/{held.snapshot}/{now:%Y-%m-%d}"
    chunks = f"{held.chunks:,} chunk{'s' * (held.chunks != 1)} of {held.snapshot} {'is' if held.chunks == 1 else 'are'}"
    sentence = f"{held.workload}: {chunks} held by the budget: {held.wall}"
    return Alert(AlertKind.BUDGET_HELD, key, sentence, held.workload, held.snapshot)
