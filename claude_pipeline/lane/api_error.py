"""What an error of the API means for what comes next: one table for requests and result lines.

| verdict | meaning |
|---|---|
| `RETRY` | another round may succeed: overloads, time-outs, the API's own faults, expired, canceled |
| `PERMANENT` | the same request would fail again: it becomes a dead letter |
| `STOP` | the account or the key, not the request: nothing more is sent until a person acts |

Low credit and spend limits arrive as `invalid_request_error` and as 429 (seen in production lines,
bespokelabsai/curator issue 296; error codes from the SDK's `_error_classes.py`, 2.12), so type and
status alone do not decide.
"""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    RETRY = "retry"
    PERMANENT = "permanent"
    STOP = "stop"


BY_TYPE: dict[str, Verdict] = {
    "invalid_request_error": Verdict.PERMANENT,
    "request_too_large": Verdict.PERMANENT,
    "not_found_error": Verdict.PERMANENT,
    "conflict_error": Verdict.RETRY,
    "rate_limit_error": Verdict.RETRY,
    "timeout_error": Verdict.RETRY,
    "overloaded_error": Verdict.RETRY,
    "api_error": Verdict.RETRY,
    "authentication_error": Verdict.STOP,
    "permission_error": Verdict.STOP,
    "billing_error": Verdict.STOP,
    # our own words
    "expired": Verdict.RETRY,
    "canceled": Verdict.RETRY,
    "unreadable_result": Verdict.PERMANENT,  # it may have been paid: never asked again by itself
    "unknown_result_type": Verdict.PERMANENT,  # likewise
    "missing_result": Verdict.PERMANENT,  # likewise
    "lost_answer": Verdict.PERMANENT,  # likewise
    "not_connected": Verdict.RETRY,
}
STOP_CODES = frozenset(
    {"enforced_spend_limit_reached", "contract_spend_limit_reached", "organization_on_hold", "cmek_key_disabled"}
)
# The API's wording may change; these two are the only way to tell money from a bad request in a result line.
STOP_PHRASES = ("credit balance is too low", "api usage limits")


def verdict_of(error_type: str, message: str = "", error_code: str | None = None) -> Verdict:
    """What an error of that type means; an unknown type is retried, since errors are not billed."""
    lowered = message.lower()
    if error_code in STOP_CODES or any(phrase in lowered for phrase in STOP_PHRASES):
        return Verdict.STOP
    return BY_TYPE.get(error_type, Verdict.RETRY)
