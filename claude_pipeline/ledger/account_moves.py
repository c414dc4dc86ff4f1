"""Moves of the whole account: stopped and resumed, and the ledger's own age.

A stop is held here and not in a run: until it is over nothing is sent, whoever asks. The mark is a
file beside the ledger with the number of its newest intent, written before each POST: a ledger that
knows fewer intents than the mark was restored from a backup, and has forgotten what it sent.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from claude_pipeline.errors import LedgerOutdated
from claude_pipeline.home import FILE_MODE, make_file
from claude_pipeline.ledger import table
from claude_pipeline.ledger.record import Stop
from claude_pipeline.ledger.store import Store

STOP = "stop"
OUTDATED = "outdated"  # the kind of a stop that only a rebuild ends
STOP_SECONDS = 60.0  # until one chunk is sent to see whether the stop is over; doubles
STOP_SECONDS_MAX = 3600.0


class AccountMoves(Store):
    """What may happen to the account, and to the ledger as a whole."""

    def stop(self) -> Stop | None:
        """Why nothing may be sent; None where nothing stands against it."""
        text = self.get_setting(STOP)
        return None if text is None else _stop_of(text)

    def account_stopped(self, kind: str, reason: str, *, at: datetime) -> Stop:
        """Nothing is sent until the stop is over; told again, the next try comes later."""
        with self._writing() as connection:
            return self._stop_account(connection, kind, reason, at)

    def _stop_account(self, connection: Connection, kind: str, reason: str, at: datetime) -> Stop:
        text = self._setting(connection, STOP)
        known = None if text is None else _stop_of(text)
        if known is not None and known.kind == OUTDATED:
            return known  # only a rebuild ends it, and nothing is sent to see
        tries = known.tries + 1 if known is not None else 0
        wait = min(STOP_SECONDS * 2 ** min(tries, 16), STOP_SECONDS_MAX)
        stop = Stop(kind, reason, known.since if known else at, tries, at + timedelta(seconds=wait))
        self._put_setting(connection, STOP, _text_of(stop))
        self._event(connection, "account stopped", at, detail=f"{kind}: {reason}")
        return stop

    def account_probed(self, chunk_id: int, *, at: datetime) -> None:
        """One chunk was sent to see whether the stop is over; its results will tell."""
        with self._writing() as connection:
            stop = self.stop()
            if stop is not None:
                self._put_setting(connection, STOP, _text_of(replace(stop, probe=chunk_id)))
                self._event(connection, "account probed", at, chunk_id=chunk_id)

    def account_resumed(self, *, how: str, at: datetime) -> bool:
        """The stop is over; False where there was none."""
        with self._writing() as connection:
            return self._resume_account(connection, how, at)

    def _resume_account(self, connection: Connection, how: str, at: datetime) -> bool:
        known = connection.execute(select(table.setting.c.value).where(table.setting.c.key == STOP)).scalar()
        if known is None:
            return False
        self._put_setting(connection, STOP, None)
        self._event(connection, "account resumed", at, detail=how)
        return True

    def try_account_now(self, *, at: datetime) -> Stop | None:
        """A person is here: one chunk may be sent at once to see whether the stop is over."""
        stop = self.stop()
        if stop is None or stop.kind == OUTDATED or stop.retry_at <= at:
            return stop
        sooner = replace(stop, retry_at=at)
        self.put_setting(STOP, _text_of(sooner), at=at, move="account to be tried")
        return sooner

    def _settle_probe(self, connection: Connection, chunk_id: int, at: datetime) -> None:
        """The results of a chunk are in, and none of its lines met the stop."""
        text = self._setting(connection, STOP)
        if text is not None and _stop_of(text).probe == chunk_id:
            self._resume_account(connection, "the batch that was sent to see was answered", at)

    # -- the ledger's own age ------------------------------------------------------------------------

    def check_mark(self) -> None:
        """Raises LedgerOutdated where this home has sent more than the ledger knows of."""
        newest = self.check_mark_is_ours()
        if newest > self.newest_intent():
            raise LedgerOutdated(
                f"the ledger is older than what was sent: it knows {self.newest_intent():,} creates, this home has made "
                f"{newest:,} (was it restored from a backup?); nothing is sent until `claude-pipeline reconcile "
                "--rebuild` has read the API's list back into it"
            )

    def check_mark_is_ours(self) -> int:
        """The number of intents this home has made (0: none is marked); raises LedgerOutdated for another ledger's."""
        marked = self._marked()
        if marked is None:
            return 0
        ledger_id, newest = marked
        if ledger_id != self.id:
            raise LedgerOutdated(
                f"this home has sent {newest:,} chunks under ledger {ledger_id}, and the ledger in use is another one "
                f"({self.id}): with it everything would be paid again; bring the old one back (ledger.db, or "
                f"CLAUDE_PIPELINE_LEDGER_URL), or, to start anew and pay anew, delete {self.mark}"
            )
        return newest

    def newest_intent(self) -> int:
        with self._reading() as connection:
            return int(connection.execute(select(func.coalesce(func.max(table.intent.c.id), 0))).scalar_one())

    def put_mark(self, intent_id: int) -> None:
        """Note on disk, beside the ledger, that this intent was made; durable before its POST leaves."""
        line = f"{self.id} {intent_id:020d}\n".encode()
        descriptor = os.open(make_file(self.mark), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            os.pwrite(descriptor, line, 0)  # always the same length: never half a mark
            os.ftruncate(descriptor, len(line))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _marked(self) -> tuple[str, int] | None:
        try:
            ledger_id, _, number = self.mark.read_text(encoding="ascii").partition(" ")
            return ledger_id, int(number)
        except FileNotFoundError:
            return None
        except (ValueError, UnicodeDecodeError):
            raise LedgerOutdated(
                f"{self.mark} cannot be read; restore it, or delete it if the ledger is whole"
            ) from None


def _text_of(stop: Stop) -> str:
    document = asdict(stop)
    return json.dumps({**document, "since": stop.since.isoformat(), "retry_at": stop.retry_at.isoformat()})


def _stop_of(text: str) -> Stop:
    document = json.loads(text)
    return Stop(
        document["kind"],
        document["reason"],
        datetime.fromisoformat(document["since"]),
        document["tries"],
        datetime.fromisoformat(document["retry_at"]),
        document["probe"],
    )
