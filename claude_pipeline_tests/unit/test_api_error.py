"""What an error of the API means for what comes next."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pipeline.lane.api_error import STOP_CODES, verdict_of

LIMIT = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
WORKSPACE_LIMIT = "You have reached your specified workspace API usage limits."
VERDICTS: list[Any] = [
    ("invalid_request_error", "prompt is too long", None, "permanent"),
    ("request_too_large", "", None, "permanent"),
    ("not_found_error", "model: x", None, "permanent"),
    ("conflict_error", "", None, "retry"),
    ("rate_limit_error", "", None, "retry"),
    ("rate_limit_error", "", "ramp_limit_exceeded", "retry"),
    ("timeout_error", "", None, "retry"),
    ("overloaded_error", "Overloaded", None, "retry"),
    ("api_error", "Internal server error", None, "retry"),
    ("one_of_tomorrow", "", None, "retry"),
    ("expired", "", None, "retry"),
    ("canceled", "", None, "retry"),
    ("unreadable_result", "", None, "permanent"),
    ("unknown_result_type", "", None, "permanent"),
    ("authentication_error", "", None, "stop"),
    ("permission_error", "", None, "stop"),
    ("billing_error", "", None, "stop"),
    ("invalid_request_error", "Your credit balance is too low to access the Anthropic API.", None, "stop"),
    ("invalid_request_error", LIMIT, None, "stop"),
    ("invalid_request_error", WORKSPACE_LIMIT, None, "stop"),
    *(("rate_limit_error", "", code, "stop") for code in sorted(STOP_CODES)),
]


@pytest.mark.parametrize(
    ("error_type", "message", "code", "verdict"), VERDICTS, ids=[f"{t}-{c or m[:12]}" for t, m, c, _ in VERDICTS]
)
def test_an_error_has_this_verdict(error_type: str, message: str, code: str | None, verdict: str) -> None:
    assert verdict_of(error_type, message, code) == verdict
