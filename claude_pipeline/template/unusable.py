"""Why a record cannot be asked."""

from __future__ import annotations

from typing import Literal

NULL = "a column is null"

RejectCode = Literal[
    "missing_text", "empty_text", "not_text", "wrong_type", "empty_prompt", "bad_unicode", "control_char",
    "template_failed", "too_large", "too_many_tokens", "too_much_work",
]  # fmt: skip


class Unusable(Exception):
    """A record that cannot be asked. Its message names the kind of thing, never a value."""

    def __init__(self, code: RejectCode, detail: str) -> None:
        super().__init__(detail)
        self.code: RejectCode = code
        self.detail = detail


def too_much_work() -> Unusable:
    return Unusable(
        "too_much_work", "the template does too much for one record: loops, repeated text or widths; make it simpler"
    )


def null_text() -> Unusable:
    return Unusable("missing_text", NULL)
