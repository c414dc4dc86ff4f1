"""Alerts noted in the ledger, and posted to the webhook: effects only; what is due is decided in `claude_pipeline.alert`."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from claude_pipeline.alert import (
    REMEMBERED_FOR,
    SENTENCE_MAX,
    TRIES_MAX,
    Alert,
    AlertKind,
    Facts,
    Held,
    due,
    new,
    next_try,
)
from claude_pipeline.ledger import AlertRow, ChunkState, WatchedBatch
from claude_pipeline.settings import is_loopback
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

POST_SECONDS = 3.0  # for each phase of a POST: a tick waits no longer for somebody else's server
POSTS_SECONDS = 5.0  # after so long the rest is left to the next tick
POSTS_MAX = 10  # of one tick


@dataclass(frozen=True)
class Told:
    """What one look at the alerts did."""

    noted: tuple[Alert, ...]  # by this process, now: to be logged
    watched: tuple[WatchedBatch, ...]  # that it looked at
    posted: int = 0
    unposted: str | None = None  # why the webhook did not take one; names neither it nor its answer


def watch(desk: Desk, workloads: Sequence[Workload], walls: Mapping[str, str | None]) -> Told:
    """Note what is due, post what is not posted. `walls`: by workload, the budget's sentence where nothing fits."""
    seen = facts(desk, workloads, walls)
    alerts = due(seen)
    fresh = new(alerts, desk.ledger.alerts_noted([alert.key for alert in alerts])) if alerts else []
    noted = tuple(alert for alert in fresh if _note(desk, alert))
    if desk.settings.webhook_url is None:
        return Told(noted, seen.watched)
    posted, unposted = _post_due(desk, desk.settings.webhook_url)
    return Told(noted, seen.watched, posted, unposted)


def facts(desk: Desk, workloads: Sequence[Workload], walls: Mapping[str, str | None]) -> Facts:
    """What the alerts of these workloads rest on now."""
    ledger, now = desk.ledger, desk.clock()
    names, since = [workload.name for workload in workloads], now - REMEMBERED_FOR
    return Facts(
        now=now,
        watched=tuple(ledger.watched(names, since=since)),
        shares={workload.name: workload.sla_warn_share for workload in workloads},
        stop=ledger.stop(),
        last_stopped=ledger.last_alert(AlertKind.ACCOUNT_STOPPED),
        merged=tuple(ledger.merged_with_dead_letters(names, since=since)),
        held=tuple(held for name, wall in walls.items() if wall for held in _held(desk, name, wall)),
    )


def watched(desk: Desk, workload: Workload) -> list[WatchedBatch]:
    """The batches by which a workload's check `sla` goes."""
    return desk.ledger.watched([workload.name], since=desk.clock() - REMEMBERED_FOR)


def _held(desk: Desk, workload: str, wall: str) -> list[Held]:
    count: dict[str, int] = {}
    for chunk in desk.ledger.chunks(workload, states=[ChunkState.HELD]):
        count[chunk.snapshot] = count.get(chunk.snapshot, 0) + 1
    return [Held(workload, snapshot, chunks, wall) for snapshot, chunks in count.items()]


def _note(desk: Desk, alert: Alert) -> bool:
    return desk.ledger.alert_noted(
        alert.key, alert.kind, alert.sentence[:SENTENCE_MAX], at=desk.clock(), workload=alert.workload,
        snapshot=alert.snapshot, batch_id=alert.batch_id,
    )  # fmt: skip


def _post_due(desk: Desk, url: str) -> tuple[int, str | None]:
    """Post what may be tried now, each alert once at a time whoever else does so; ends at the first failure."""
    now = desk.clock()
    begun, posted = time.monotonic(), 0
    for alert in desk.ledger.alerts_to_post(
        at=now, noted_since=now - REMEMBERED_FOR, tries_max=TRIES_MAX, limit=POSTS_MAX
    ):
        if time.monotonic() - begun > POSTS_SECONDS:
            break
        if not desk.ledger.alert_tried(alert, next_try_at=next_try(alert.tries, now)):
            continue
        problem = _post(url, alert)
        if problem is not None:
            last = alert.tries + 1 >= TRIES_MAX
            return (
                posted,
                f"the webhook did not take {alert.key}: {problem}; {'given up' if last else 'tried again later'}",
            )
        desk.ledger.alert_told(alert, at=desk.clock())
        posted += 1
    return posted, None


def document(alert: AlertRow) -> dict[str, object]:
    """What is posted. `text` is what a chat shows; `id` is the same should an alert arrive twice."""
    return {
        "text": alert.sentence,
        "event": alert.kind,
        "id": alert.key,
        "at": alert.noted_at.isoformat(),
        "workload": alert.workload,
        "snapshot": alert.snapshot,
        "batch": alert.batch_id,
        "from": "claude_pipeline",
    }


def _post(url: str, alert: AlertRow) -> str | None:
    """One POST; why it was not taken, in words that hold nothing of the URL or the answer."""
    import httpx2

    try:
        _never_log(url)
        with (
            httpx2.Client(timeout=POST_SECONDS, trust_env=not is_loopback(url)) as client,
            client.stream("POST", url, json=document(alert)) as answer,  # its body is of no interest
        ):
            return None if answer.is_success else f"it answered {answer.status_code}"
    except Exception as error:  # whatever it is, the pipeline goes on; its message may name the URL
        return type(error).__name__


@cache
def _never_log(url: str) -> None:
    """The HTTP library logs each URL that it asks, and this one may be the secret."""
    path = urlsplit(url).path
    logging.getLogger("httpx2").addFilter(lambda record: path not in record.getMessage())
