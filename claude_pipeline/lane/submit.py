"""Send chunks as batches, one POST at a time, each under an intent written before it.

The API knows no idempotency key, so a lost answer may hide a paid batch. Therefore: watermark,
intent, one POST without retries, and none where the lock was lost by then; a clear answer is
recorded, anything else leaves the intent for `reconcile`. The caller holds the ledger's submit lock (`submit_chunks` takes it).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from claude_pipeline.chunk import Body
from claude_pipeline.crash import crash_point
from claude_pipeline.errors import (
    AccountStopped,
    ApiRefused,
    ApiUnclear,
    BudgetReached,
    KeyRefused,
    LedgerDamaged,
    LedgerError,
    LedgerUnreachable,
)
from claude_pipeline.home import Home, sha256_of
from claude_pipeline.lane.api_error import Verdict
from claude_pipeline.lane.client import Accepted, BatchClient, Doubtful, Refused
from claude_pipeline.lane.primer import Primers
from claude_pipeline.lane.stranger import FIRST_WATERMARK, check_age, claim_orphan, meet_strangers, tag_of
from claude_pipeline.ledger import BatchId, ChunkRow, ChunkState, Hold, IntentRow, Ledger, QueueFull, Walls
from claude_pipeline.ledger.state import IN_FLIGHT
from claude_pipeline.page_cache import let_go

Clock = Callable[[], datetime]
SUBMIT_LOCK = "submit"
RETRY_SECONDS = 10.0  # where a 429 or a refused connection names no time
RETRY_SECONDS_MAX = 3600.0
LEAVE_SECONDS = 5.0  # from an intent to its POST: after a longer pause its lock may have been another's


@dataclass
class Submission:
    """What became of the chunks of one submission."""

    sent: list[tuple[ChunkRow, BatchId]] = field(default_factory=list)
    doubtful: list[tuple[ChunkRow, str]] = field(default_factory=list)
    failed: list[tuple[ChunkRow, str]] = field(default_factory=list)
    held: list[tuple[ChunkRow, str]] = field(default_factory=list)
    waiting: str | None = None  # why the rest was not tried: room, rate limit, a stop, another process
    paid_twice: list[BatchId] = field(default_factory=list)  # found on the way: accepted long after it was given up

    @property
    def requests(self) -> int:
        return sum(chunk.requests for chunk, _ in self.sent)


def submit_chunks(
    ledger: Ledger, client: BatchClient, home: Home, chunks: Iterable[ChunkRow], walls: Walls, *, clock: Clock
) -> Submission:
    """Send chunks in order while there is room; what needs a person is raised after it is recorded.

    While a stop of the account stands nothing is sent; once its time is over, one chunk is.

    Raises:
        KeyRefused, AccountStopped: nothing more is sent; the chunk is ready again.
        WorkspaceMismatch: the key is of another workspace.
        LedgerOutdated: the ledger has forgotten batches that it sent.
    """
    done = Submission()
    with ledger.lock(SUBMIT_LOCK) as taken:
        if not taken:
            done.waiting = "another process is submitting"
            return done
        done.waiting = why_not_now(ledger, clock())
        if done.waiting is None:
            client.connected()  # a missing key is no state of the account
            with ledger.many_reads():
                _send_all(ledger, client, home, chunks, walls, taken, clock, done)
    return done


def why_not_now(ledger: Ledger, now: datetime) -> str | None:
    """The stop of the account that stands now; None where there is none, or its time to be tried has come."""
    stop = ledger.stop()
    if stop is None or stop.kind == "outdated":
        return None
    probing = stop.probe is not None and ledger.chunk(stop.probe).state in IN_FLIGHT
    return stop.sentence if probing or stop.retry_at > now else None


def _send_all(
    ledger: Ledger,
    client: BatchClient,
    home: Home,
    chunks: Iterable[ChunkRow],
    walls: Walls,
    lock: Hold,
    clock: Clock,
    done: Submission,
) -> None:
    try:
        check_age(ledger)
        done.paid_twice = meet_strangers(ledger, client, clock=clock)
        unprimed = None
        for given in chunks:
            chunk = ledger.chunk(given.id)  # under the lock: another process may have moved it
            if chunk.state not in (ChunkState.READY, ChunkState.HELD):
                continue
            if (why := Primers(ledger, clock()).why_wait(chunk)) is not None:
                unprimed = unprimed or f"{chunk.partition_key}: {why}"
                continue
            if chunk.not_before is not None and chunk.not_before > clock():
                done.waiting = f"the API asked to wait until {chunk.not_before:%H:%M:%S} UTC"
                return
            try:
                _submit(ledger, client, home, chunk, walls, lock, clock, done)
            except BudgetReached as reached:
                done.held.append((chunk, str(reached)))
            if done.waiting:
                return
        done.waiting = unprimed
    except QueueFull as full:
        done.waiting = str(full)
    except ApiUnclear as unclear:  # of the list: nothing was sent
        done.waiting = str(unclear)
    except (KeyRefused, AccountStopped) as stopped:
        kind = "key" if isinstance(stopped, KeyRefused) else "account"
        ledger.account_stopped(kind, str(stopped), at=clock())
        raise
    except ApiRefused as refused:
        if refused.status != 404 or ledger.get_setting(FIRST_WATERMARK) is None:
            raise AccountStopped(f"{refused}: is there a Message Batches API at {client.host}?") from None
        done.waiting = str(refused)  # seen for a moment, where there is an API


def _submit(
    ledger: Ledger,
    client: BatchClient,
    home: Home,
    chunk: ChunkRow,
    walls: Walls,
    lock: Hold,
    clock: Clock,
    done: Submission,
) -> None:
    """One chunk through the protocol."""
    params = home.absolute(chunk.params_path)
    if not params.exists() or sha256_of(params) != chunk.params_sha256:
        raise LedgerDamaged(
            f"{chunk.params_path} is not what was cut for chunk {chunk.partition_key} (sha256 differs or it is gone); "
            "restore it from a backup of the home; nothing of the chunk was sent"
        )
    if (batch_id := claim_orphan(ledger, chunk, clock=clock)) is not None:
        done.sent.append((chunk, batch_id))  # long ago, as a rebuild found
        return
    newest = client.page(limit=1)
    ledger.pin_workspace(newest.workspace_id, at=clock())
    watermark = newest.batches[0].id if newest.batches else None
    if watermark is None and ledger.batches_in_progress():
        raise ApiUnclear("the list of batches is empty, though some of ours are in progress; nothing is sent on it")
    crash_point("submit.before_intent")
    tag = tag_of(ledger, chunk.params_sha256, secrets.token_hex(4))  # chance: a restored ledger must not make it again
    intent = ledger.intent_opened(chunk, tag=tag, watermark=watermark, walls=walls, at=clock())
    crash_point("submit.after_intent")
    if (why := _why_too_late(lock, intent, clock)) is not None:
        _never_left(ledger, intent, why, clock(), done)
        return
    answer = client.create(Body(params, intent.tag, requests=chunk.requests))
    let_go(params)
    crash_point("submit.after_post")
    match answer:
        case Accepted(batch=batch):
            ledger.intent_live(intent, batch, at=clock())
            crash_point("submit.after_record")
            done.sent.append((chunk, batch.id))
            _accepted(ledger, chunk, clock(), done)
        case Refused():
            _refused(ledger, intent, chunk, answer, clock, done)
        case Doubtful(sentence=sentence):
            ledger.intent_doubted(intent, reason=sentence, at=clock())
            done.doubtful.append((chunk, sentence))
            if (stop := ledger.stop()) is not None:  # it was sent to see: what becomes of it tells
                ledger.account_probed(chunk.id, at=clock())
                done.waiting = f"one batch was sent to see whether this is over: {stop.reason}"


def _why_too_late(lock: Hold, intent: IntentRow, clock: Clock) -> str | None:
    """Why its POST may not leave any more: another submitter may have settled the intent meanwhile."""
    if not lock.still_held():
        return "the submit lock was lost before the batch was sent (its session with the database ended)"
    passed = (clock() - intent.created_at).total_seconds()
    if not 0 <= passed <= LEAVE_SECONDS:
        return f"{passed:.0f} s passed before the batch was sent, {LEAVE_SECONDS:.0f} s are allowed"
    return None


def _never_left(ledger: Ledger, intent: IntentRow, why: str, now: datetime, done: Submission) -> None:
    """Nothing was sent, and we know it: as good as a refusal."""
    done.waiting = f"{why}; nothing was sent"
    try:
        ledger.intent_refused(
            intent, chunk_state=ChunkState.READY, error=done.waiting, error_type="not_sent", not_before=None, at=now
        )
    except LedgerUnreachable:
        raise
    except LedgerError:
        return  # who has the lock now has taken it up as doubtful, and will find it absent


def _accepted(ledger: Ledger, chunk: ChunkRow, now: datetime, done: Submission) -> None:
    """The API takes batches: the stop is over, but for one that showed in result lines, which only results end."""
    stop = ledger.stop()
    if stop is None:
        return
    if stop.kind == "lines":
        ledger.account_probed(chunk.id, at=now)
        done.waiting = f"one batch was sent to see whether this is over: {stop.reason}"
    else:
        ledger.account_resumed(how=f"the API accepted chunk {chunk.partition_key}", at=now)


def _refused(
    ledger: Ledger, intent: IntentRow, chunk: ChunkRow, answer: Refused, clock: Clock, done: Submission
) -> None:
    """A clear refusal: the chunk failed, or waits, or everything stops."""
    state = ChunkState.FAILED if answer.verdict is Verdict.PERMANENT else ChunkState.READY
    wait = answer.retry_after_seconds or min(RETRY_SECONDS * 2 ** min(chunk.attempts, 8), RETRY_SECONDS_MAX)
    now = clock()
    ledger.intent_refused(
        intent,
        chunk_state=state,
        error=answer.sentence,
        error_type=answer.error_type,
        not_before=now + timedelta(seconds=wait) if answer.verdict is Verdict.RETRY else None,
        at=now,
    )
    match answer.verdict:
        case Verdict.PERMANENT:
            done.failed.append((chunk, answer.sentence))
        case Verdict.RETRY:
            done.waiting = answer.sentence
        case Verdict.STOP:
            if answer.key_refused:
                raise KeyRefused(f"{answer.sentence}; nothing was accepted; check ANTHROPIC_API_KEY")
            raise AccountStopped(f"{answer.sentence}; nothing was accepted; mend the account")
