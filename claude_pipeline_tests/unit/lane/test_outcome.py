"""What a reply means for its question."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from claude_pipeline.lane.outcome import Outcome, outcome_of
from claude_pipeline.lane.reply import Fate, Reply

AT = datetime(2026, 11, 22, tzinfo=UTC)


def refused(status: int, error_type: str, message: str = "", code: str | None = None) -> Reply:
    return Reply(Fate.REFUSED, AT, status, error_type=error_type, error_message=message, error_code=code)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        pytest.param(Reply(Fate.ANSWERED, AT, 200), Outcome.SETTLED, id="answered"),
        pytest.param(Reply(Fate.UNSENT, AT), Outcome.FAILED, id="unsent"),
        pytest.param(Reply(Fate.LOST, AT), Outcome.FAILED, id="lost"),
        pytest.param(refused(400, "invalid_request_error"), Outcome.SETTLED, id="bad-request"),
        pytest.param(refused(413, "request_too_large"), Outcome.SETTLED, id="too-large"),
        pytest.param(refused(429, "rate_limit_error"), Outcome.LIMITED, id="429"),
        pytest.param(refused(429, ""), Outcome.LIMITED, id="429-without-a-body"),
        pytest.param(refused(429, "rate_limit_error", code="ramp_limit_exceeded"), Outcome.LIMITED, id="ramp"),
        pytest.param(
            refused(429, "rate_limit_error", code="enforced_spend_limit_reached"), Outcome.ACCOUNT, id="spend-cap"
        ),
        pytest.param(
            refused(400, "invalid_request_error", "Your credit balance is too low"), Outcome.ACCOUNT, id="credit"
        ),
        pytest.param(refused(401, "authentication_error"), Outcome.ACCOUNT, id="401"),
        pytest.param(refused(402, ""), Outcome.ACCOUNT, id="402-without-a-body"),
        pytest.param(refused(403, "permission_error"), Outcome.ACCOUNT, id="403"),
        pytest.param(refused(500, "api_error"), Outcome.FAILED, id="500"),
        pytest.param(refused(502, ""), Outcome.FAILED, id="502-of-a-proxy"),
        pytest.param(refused(529, "overloaded_error"), Outcome.FAILED, id="529"),
    ],
)
def test_an_outcome(reply: Reply, outcome: Outcome) -> None:
    assert outcome_of(reply) is outcome
