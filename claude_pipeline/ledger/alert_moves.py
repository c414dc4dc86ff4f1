"""What people are told, once each: noted here by whoever sees it first, then posted to the webhook until it took it.

The unique key is what makes it once: two processes that see the same thing note it once.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select

from claude_pipeline.ledger import table
from claude_pipeline.ledger.record import AlertRow
from claude_pipeline.ledger.statement import insert_row, update_rows
from claude_pipeline.ledger.watch import Watch


class AlertMoves(Watch):
    """What may happen to an alert."""

    def alerts_noted(self, keys: Collection[str]) -> set[str]:
        """Those of the keys that are noted already."""
        with self._reading() as connection:
            return set(connection.execute(select(table.alert.c.key).where(table.alert.c.key.in_(keys))).scalars())

    def last_alert(self, kind: str) -> AlertRow | None:
        """The newest one of a kind."""
        alert = table.alert
        query = select(alert).where(alert.c.kind == kind).order_by(alert.c.id.desc()).limit(1)
        with self._reading() as connection:
            return next((AlertRow.of(row) for row in connection.execute(query).mappings()), None)

    def alert_noted(
        self,
        key: str,
        kind: str,
        sentence: str,
        *,
        at: datetime,
        workload: str | None = None,
        snapshot: str | None = None,
        batch_id: str | None = None,
    ) -> bool:
        """Note it; False where another process has done so first."""
        about = {"workload": workload, "snapshot": snapshot, "batch_id": batch_id}
        with self._writing() as connection:
            if connection.execute(select(table.alert.c.id).where(table.alert.c.key == key)).scalar() is not None:
                return False
            insert_row(
                connection, table.alert, key=key, kind=kind, sentence=sentence, noted_at=at, next_try_at=at, tries=0,
                **about,
            )  # fmt: skip
            self._event(connection, "alert", at, detail=f"{kind}: {sentence}", **about)
            return True

    def alerts_to_post(self, *, at: datetime, noted_since: datetime, tries_max: int, limit: int) -> list[AlertRow]:
        """Those that the webhook has not taken and may be tried now, oldest first."""
        alert = table.alert
        query = (
            select(alert)
            .where(
                alert.c.told_at.is_(None),
                alert.c.noted_at >= noted_since,
                alert.c.next_try_at <= at,
                alert.c.tries < tries_max,
            )
            .order_by(alert.c.id)
            .limit(limit)
        )
        with self._reading() as connection:
            return [AlertRow.of(row) for row in connection.execute(query).mappings()]

    def alert_tried(self, alert: AlertRow, *, next_try_at: datetime) -> bool:
        """Take one try before it is made; False where another process has just taken it."""
        with self._writing() as connection:
            mine = {"id": alert.id, "tries": alert.tries}
            return update_rows(connection, table.alert, mine, tries=alert.tries + 1, next_try_at=next_try_at) == 1

    def alert_told(self, alert: AlertRow, *, at: datetime) -> None:
        """The webhook took it."""
        with self._writing() as connection:
            update_rows(connection, table.alert, {"id": alert.id}, told_at=at)
