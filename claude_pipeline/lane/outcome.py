"""What a reply means for its question: one table for all that a POST may come to."""

from __future__ import annotations

from enum import StrEnum

from claude_pipeline.lane.api_error import Verdict, verdict_of
from claude_pipeline.lane.reply import Fate, Reply

ACCOUNT_STATUSES = frozenset({401, 402, 403})


class Outcome(StrEnum):
    """What a reply means for its question."""

    SETTLED = "settled"  # answered, or would fail again
    FAILED = "failed"  # a try is gone
    LIMITED = "limited"  # 429: it was too early, no try is gone
    ACCOUNT = "account"  # nothing works until a person acts


def outcome_of(reply: Reply) -> Outcome:
    if reply.fate is Fate.ANSWERED:
        return Outcome.SETTLED
    if reply.fate is not Fate.REFUSED:
        # What came and cannot be read was most likely paid, and would come alike: never asked again by itself.
        return Outcome.SETTLED if reply.error_type == "unreadable_result" else Outcome.FAILED
    verdict = verdict_of(reply.error_type, reply.error_message, reply.error_code)
    if verdict is Verdict.STOP or reply.status in ACCOUNT_STATUSES:
        return Outcome.ACCOUNT
    if reply.status == 429 or reply.error_type == "rate_limit_error":
        return Outcome.LIMITED
    return Outcome.SETTLED if verdict is Verdict.PERMANENT else Outcome.FAILED
