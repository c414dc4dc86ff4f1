"""Send chunks as batches, one POST at a time, each under an intent written before it.

The API knows no idempotency key, so a lost answer may hide a paid batch. Therefore: watermark,
intent, one POST without retries; a clear answer is recorded, anything else leaves the intent for
`reconcile`. The caller holds the ledger's submit lock (`submit_chunks` takes it).
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
)
from claude_pipeline.home import Home, sha256_of
from claude_pipeline.lane.api_error import Verdict
from claude_pipeline.lane.client import Accepted, BatchClient, Doubtful, Refused
from claude_pipeline.ledger import BatchId, ChunkRow, ChunkState, IntentRow, Ledger, QueueFull, Tag, Walls

Clock = Callable[[], datetime]
SUBMIT_LOCK = "submit"
RETRY_SECONDS = 10.0  # where a 429 or a refused connection names no time
RETRY_SECONDS_MAX = 3600.0


@dataclass
class Submission:
    """What became of the chunks of one submission."""

    sent: list[tuple[ChunkRow, BatchId]] = field(default_factory=list)
    doubtful: list[tuple[ChunkRow, str]] = field(default_factory=list)
    failed: list[tuple[ChunkRow, str]] = field(default_factory=list)
    held: list[tuple[ChunkRow, str]] = field(default_factory=list)
    waiting: str | None = None  # why the rest was not tried: room, rate limit, another process

    @property
    def requests(self) -> int:
        return sum(chunk.requests for chunk, _ in self.sent)


def new_tag(ledger: Ledger) -> Tag:
    """Chance, never a counter: a ledger restored from a backup must not make a tag twice."""
    return Tag(f"{ledger.id}-{secrets.token_hex(8)}")


def submit_chunks(
    ledger: Ledger, client: BatchClient, home: Home, chunks: Iterable[ChunkRow], walls: Walls, *, clock: Clock
) -> Submission:
    """Send chunks in order while there is room; what needs a person is raised after it is recorded.

    Raises:
        KeyRefused, AccountStopped: nothing more is sent; the chunk is ready again.
        WorkspaceMismatch: the key is of another workspace.
    """
    done = Submission()
    with ledger.lock(SUBMIT_LOCK) as taken:
        if not taken:
            done.waiting = "another process is submitting"
            return done
        for given in chunks:
            chunk = ledger.chunk(given.id)  # under the lock: another process may have moved it
            if chunk.state not in (ChunkState.READY, ChunkState.HELD):
                continue
            if chunk.not_before is not None and chunk.not_before > clock():
                done.waiting = f"the API asked to wait until {chunk.not_before:%H:%M:%S} UTC"
                break
            try:
                _submit(ledger, client, home, chunk, walls, clock, done)
            except QueueFull as full:
                done.waiting = str(full)
                break
            except BudgetReached as reached:
                done.held.append((chunk, str(reached)))
            except ApiUnclear as unclear:  # of the watermark: nothing was sent
                done.waiting = str(unclear)
                break
            except ApiRefused as refused:
                if refused.status == 404 and ledger.sent_batches():  # seen for a moment, where there is an API
                    done.waiting = str(refused)
                    break
                raise AccountStopped(f"{refused}: is there a Message Batches API at {client.host}?") from None
            if done.waiting:
                break
    return done


def _submit(
    ledger: Ledger,
    client: BatchClient,
    home: Home,
    chunk: ChunkRow,
    walls: Walls,
    clock: Clock,
    done: Submission,
) -> None:
    """One chunk through the protocol."""
    params = home.absolute(chunk.params_path)
    if not params.exists() or sha256_of(params) != chunk.params_sha256:
        raise LedgerDamaged(
            f"{chunk.params_path} is not what was cut for chunk {chunk.partition_key} (sha256 differs); restore it, "
            "or delete the chunk's snapshot and materialize it again"
        )
    newest = client.page(limit=1)
    ledger.pin_workspace(newest.workspace_id, at=clock())
    watermark = newest.batches[0].id if newest.batches else None
    if watermark is None and ledger.batches(unended=True):
        raise ApiUnclear("the list of batches is empty, though some of ours are in progress; nothing is sent on it")
    crash_point("submit.before_intent")
    intent = ledger.intent_opened(chunk, tag=new_tag(ledger), watermark=watermark, walls=walls, at=clock())
    crash_point("submit.after_intent")
    answer = client.create(Body(params, intent.tag))
    crash_point("submit.after_post")
    match answer:
        case Accepted(batch=batch):
            ledger.intent_live(intent, batch, at=clock())
            crash_point("submit.after_record")
            done.sent.append((chunk, batch.id))
        case Refused():
            _refused(ledger, intent, chunk, answer, clock, done)
        case Doubtful(sentence=sentence):
            ledger.intent_doubted(intent, reason=sentence, at=clock())
            done.doubtful.append((chunk, sentence))


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
            raise AccountStopped(f"{answer.sentence}; nothing was accepted; mend the account, then run again")
