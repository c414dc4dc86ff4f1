"""What one request to the Messages API came to: the record that client, queue and journal share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Fate(StrEnum):
    """How a POST ended, by whether it may have been billed."""

    ANSWERED = "answered"  # a message came: billed
    REFUSED = "refused"  # a clear error: not billed
    UNSENT = "unsent"  # it never left this machine: not billed
    LOST = "lost"  # no clear answer: it may have been billed


@dataclass(frozen=True, slots=True)
class TokenUse:
    """Tokens as the API reports them; `input_tokens` is what no cache touched."""

    input_tokens: int
    output_tokens: int
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0

    @property
    def limited_input_tokens(self) -> int:
        """Those that the input limit counts: what a cache gave is free of it."""
        return self.input_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True)
class RateTold:
    """One limit as the headers of an answer tell it, per minute; None: not told."""

    limit: int | None
    remaining: int | None


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of one POST. `rates` is by `requests`, `input-tokens`, `output-tokens`."""

    fate: Fate
    at: datetime  # when it was known, UTC
    status: int | None = None
    body: bytes = b""  # of an answer: the message's JSON as the API sent it
    usage: TokenUse | None = None  # of an answer; None where it tells none
    error_type: str = ""
    error_message: str = ""
    error_code: str | None = None
    retry_after_seconds: float | None = None
    rates: Mapping[str, RateTold] = field(default_factory=dict)
    request_id: str | None = None


@dataclass(slots=True)
class Question:
    """A request on its way through the queue. `key` is its owner's name for it."""

    key: Hashable
    params: bytes  # canonical JSON
    max_tokens: int
    tries: int = 0  # POSTs that failed for a reason of their own; a 429 is none
