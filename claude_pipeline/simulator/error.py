"""What the API answers when it does not do what was asked.

    ApiError    an HTTP error answer, with the JSON body the API gives it
    Dropped     the connection is to be closed without an answer

The same problem inside a batch is a result line: `Problem` carries what both forms need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# API documentation, page api/errors, as of 2026-08.
STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
TYPE_OF_STATUS = {status: name for name, status in STATUS_OF_TYPE.items()} | {408: "timeout_error"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request's params are refused: one of the API's error types, and its sentence."""

    type: str
    message: str

    @property
    def status(self) -> int:
        return STATUS_OF_TYPE.get(self.type, 400)


def invalid(message: str) -> Problem:
    return Problem("invalid_request_error", message)


def error_body(
    error_type: str, message: str, request_id: str | None, details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The API's error object; the same in an HTTP answer and, once more wrapped, in a result line."""
    said = message.encode("utf-8", "replace").decode()  # it may quote half a character of the body
    error: dict[str, Any] = {"type": error_type, "message": said}
    if details is not None:
        error["details"] = dict(details)
    return {"type": "error", "error": error, "request_id": request_id}


class ApiError(Exception):
    """An HTTP error answer of the API."""

    def __init__(
        self,
        status: int,
        message: str,
        error_type: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = error_type or TYPE_OF_STATUS.get(status, "api_error" if status >= 500 else "invalid_request_error")
        self.details = details
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, problem: Problem) -> ApiError:
        return cls(problem.status, problem.message, problem.type)


class Dropped(Exception):
    """Close the connection now, without an answer or in the middle of it.

    In the middle it ends in order, or `abruptly`: by a reset, which may also cost what was sent before.
    """

    def __init__(self, *, abruptly: bool = False) -> None:
        super().__init__()
        self.abruptly = abruptly
