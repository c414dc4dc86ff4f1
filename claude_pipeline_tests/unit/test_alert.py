"""What is told, and when it is the same thing again."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from claude_pipeline.alert import TRIES_MAX, AlertKind, Facts, Held, Sla, due, new, next_try, sla_of
from claude_pipeline.ledger import AlertRow, BatchId, ChunkState, SnapshotId, Stop, WatchedBatch
from claude_pipeline_tests.conftest import NOW

HOUR = timedelta(hours=1)
SHARES = {"notes": 0.75}


def batch(*, age_hours: float, ended: bool = False, expired: int = 0) -> WatchedBatch:
    begun = NOW - age_hours * HOUR
    return WatchedBatch(
        id=BatchId("msgbatch_1"),
        workload="notes",
        snapshot=SnapshotId("2026-11-22.1"),
        key="r1-0001",
        requests=10,
        state=ChunkState.ENDED if ended else ChunkState.LIVE,
        created_at=begun,
        expires_at=begun + 24 * HOUR,
        ended_at=NOW if ended else None,
        counts=f'{{"succeeded": {10 - expired}, "expired": {expired}}}' if ended else None,
    )


@pytest.mark.parametrize(
    ("seen", "level"),
    [
        pytest.param(batch(age_hours=0), Sla.IN_TIME, id="new"),
        pytest.param(batch(age_hours=17.99), Sla.IN_TIME, id="before-the-share"),
        pytest.param(batch(age_hours=18), Sla.WARNED, id="at-the-share"),
        pytest.param(batch(age_hours=23.99), Sla.WARNED, id="before-expiry"),
        pytest.param(batch(age_hours=24), Sla.EXPIRED, id="at-expiry"),
        pytest.param(batch(age_hours=23, ended=True), Sla.IN_TIME, id="ended-late-but-whole"),
        pytest.param(batch(age_hours=24, ended=True, expired=3), Sla.EXPIRED, id="ended-with-requests-expired"),
    ],
)
def test_a_batch_stands_where_its_age_puts_it(seen: WatchedBatch, level: Sla) -> None:
    assert sla_of(seen, 0.75, NOW) is level


def test_a_batch_first_seen_after_its_expiry_is_told_once_as_expired() -> None:
    alerts = due(Facts(now=NOW, watched=(batch(age_hours=30),), shares=SHARES))

    assert [alert.kind for alert in alerts] == [AlertKind.SLA_EXPIRED]


def test_what_is_noted_is_not_new() -> None:
    alerts = due(Facts(now=NOW, watched=(batch(age_hours=20),), shares=SHARES))
    later = due(Facts(now=NOW + 2 * HOUR, watched=(batch(age_hours=20),), shares=SHARES))

    assert new(later, {alert.key for alert in alerts}) == []
    assert alerts[0].sentence == (
        "notes: batch msgbatch_1 (2026-11-22.1|r1-0001, 10 requests) has run for 20 h 0 min, 83% of its time: "
        "4 h 0 min are left until 2026-11-22 18:30 UTC"
    )


def stop(since: datetime) -> Stop:
    return Stop("account", "Your credit balance is too low", since, 0, since + HOUR)


def noted(key: str) -> AlertRow:
    kind = AlertKind.ACCOUNT_STOPPED
    return AlertRow(1, f"{kind}/{key}", kind, None, None, None, "", NOW, 0, NOW, None)


@pytest.mark.parametrize(
    ("now", "before", "told"),
    [
        pytest.param(stop(NOW), None, [AlertKind.ACCOUNT_STOPPED], id="it-begins"),
        pytest.param(None, noted(NOW.isoformat()), [AlertKind.ACCOUNT_RESUMED], id="it-is-over"),
        pytest.param(
            stop(NOW + HOUR),
            noted(NOW.isoformat()),
            [AlertKind.ACCOUNT_RESUMED, AlertKind.ACCOUNT_STOPPED],
            id="another-one-began-between-two-looks",
        ),
        pytest.param(None, None, [], id="there-never-was-one"),
    ],
)
def test_a_stop_of_the_account_is_told_at_its_begin_and_its_end(
    now: Stop | None, before: AlertRow | None, told: list[AlertKind]
) -> None:
    alerts = due(Facts(now=NOW, stop=now, last_stopped=before))
    assert [alert.kind for alert in alerts] == told


def test_a_stop_that_is_tried_again_is_the_same_stop() -> None:
    first = due(Facts(now=NOW, stop=stop(NOW)))
    tried = Stop("account", "Your credit balance is too low", NOW, 3, NOW + 8 * HOUR)

    again = due(Facts(now=NOW + HOUR, stop=tried, last_stopped=noted(NOW.isoformat())))

    assert new(again, {alert.key for alert in first}) == []


def test_a_wall_that_holds_and_lets_go_all_day_is_told_once_a_day() -> None:
    walled = Held("notes", "2026-11-22.1", 3, "would pass budget_usd")
    keys = {alert.key for hour in range(24) for alert in due(Facts(now=NOW + hour * HOUR, held=(walled,)))}
    assert len(keys) == 2  # NOW is 14:30: today's and tomorrow's


def test_a_webhook_that_is_away_is_tried_for_an_hour_and_no_longer() -> None:
    at = NOW
    for tries in range(TRIES_MAX - 1):
        at = next_try(tries, at)
    assert timedelta(minutes=50) < at - NOW < timedelta(minutes=70)
