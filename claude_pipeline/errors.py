"""Every error this package raises on purpose.

ClaudePipelineError
├── UsageError              the user can mend it before anything is sent; exit code 2
│   ├── WorkloadInvalid         a workload's YAML or fields
│   ├── DatasetInvalid          the dataset cannot be read as declared
│   │   └── DuplicateIds            two records carry one id
│   ├── PromptInvalid           the template, or a column it asks for
│   ├── SettingInvalid          an environment variable or flag
│   ├── HomeUnsafe              a path of the home leads out of it
│   └── CatalogMissing          a model, price or tier the catalogue does not know
├── RequestTooLarge         one request alone passes the limit of a batch
├── LedgerError             the ledger refuses
│   ├── LedgerDamaged           the file, or a file it vouches for, is not what was written
│   ├── LedgerUnreachable       its database gives no answer: run again later; exit code 4
│   ├── LedgerNewer             written by a newer version of this package
│   ├── LedgerOutdated          it knows less than what was sent: restored from a backup; exit code 3
│   ├── WorkspaceMismatch       the key belongs to another workspace than the ledger; exit code 3
│   └── IllegalMove             a state may not follow another
├── Stopped                 nothing more may be sent until a person acts; exit code 3
│   ├── KeyRefused              401, 403: the API refused the key
│   ├── AccountStopped          402, spend limits, low credit
│   └── BudgetReached           the wall of `budget_usd` stands before the next chunk
├── ApiUnclear              the API gave no answer that decides anything; try again later
│   └── ResultsIncomplete       a download holds fewer or other lines than the batch
└── ApiRefused              a clear refusal of one request to the API (4xx)

A message says which thing, what is true, and the way out, in one line; the parts are attributes too.
Errors of other libraries are wrapped once, at the border, with `from` (or `from None` where
the original could carry the key or a record's text).
"""

from __future__ import annotations

import re

API_KEY = re.compile(r"sk-ant-[A-Za-z0-9_-]{8,}")
QUOTED_CHARACTERS_MAX = 200  # of a value in a message
WORDS_MAX = 500  # characters of others' words in a sentence of ours
# What would break the line, or show as something else than it is: controls, marks without width, turns of direction.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")


def one_line(text: str) -> str:
    """The text with what cannot be seen written as Python writes it: names of files and columns may hold anything."""
    return _UNSEEN.sub(lambda match: ascii(match[0])[1:-1], text)


def in_short(words: str) -> str:
    """What others said, fit for a sentence of ours: one line, and no novel."""
    told = one_line(" ".join(words.split()))
    return told if len(told) <= WORDS_MAX else f"{told[: WORDS_MAX - 1]}…"


def quoted_value(value: object) -> str:
    """A value of the user's as a message quotes it: the beginning of a long one."""
    said = repr(value)
    return said if len(said) <= QUOTED_CHARACTERS_MAX else f"{said[:QUOTED_CHARACTERS_MAX]}…"


class ClaudePipelineError(Exception):
    """Base of all errors raised on purpose; `str()` is a sentence for people: one line, without a key from a wrong place."""

    exit_code: int = 1

    def __str__(self) -> str:
        return one_line(API_KEY.sub("sk-ant-…", super().__str__()))


class UsageError(ClaudePipelineError):
    """Something the user can mend before anything is sent."""

    exit_code = 2


class WorkloadInvalid(UsageError):
    """A workload's YAML or one of its fields is wrong. `place` is `file: field`."""

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place


class DatasetInvalid(UsageError):
    """The dataset cannot be read as declared. `place` is `file, line n` where known."""

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place


class DuplicateIds(DatasetInvalid):
    """Two records carry one id. `ids` holds the first three such ids."""

    def __init__(self, message: str, *, place: str = "", ids: tuple[str, ...] = ()) -> None:
        super().__init__(message, place=place)
        self.ids = ids


class PromptInvalid(UsageError):
    """The prompt's template cannot be compiled, or asks for a column the dataset has not."""


class SettingInvalid(UsageError):
    """An environment variable or a flag holds something unusable."""


class HomeUnsafe(UsageError):
    """A path that should lie in the home leads out of it, by a symbolic link or by `..`."""


class CatalogMissing(UsageError):
    """The catalogue has no such model, price or tier; it is never guessed."""


class RequestTooLarge(ClaudePipelineError):
    """One request alone passes the limit of a batch."""

    def __init__(self, record_id: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"record {record_id!r}: its request is {size_bytes:,} bytes, one batch takes "
            f"{limit_bytes:,}; shorten the record or the prompt"
        )
        self.record_id, self.size_bytes, self.limit_bytes = record_id, size_bytes, limit_bytes


class LedgerError(ClaudePipelineError):
    """The ledger refuses."""


class LedgerDamaged(LedgerError):
    """The ledger, or a file whose checksum it holds, is not what was written."""


class LedgerUnreachable(LedgerError):
    """The ledger's database is away, ended the session, or refuses; what was committed stands."""

    exit_code = 4


class LedgerNewer(LedgerError):
    """The ledger was written by a newer version of this package."""


class LedgerOutdated(LedgerError):
    """The ledger has forgotten what it sent: it, or the whole home, was restored from a backup."""

    exit_code = 3


class WorkspaceMismatch(LedgerError):
    """The key belongs to another workspace than the one pinned in the ledger."""

    exit_code = 3


class IllegalMove(LedgerError):
    """A chunk, intent or snapshot may not move from its state to the one asked for."""


class Stopped(ClaudePipelineError):
    """Nothing more may be sent until a person acts."""

    exit_code = 3


class KeyRefused(Stopped):
    """The API refused the key (401, 403), or there is none."""


class AccountStopped(Stopped):
    """The account cannot pay: 402, a spend limit, low credit."""


class BudgetReached(Stopped):
    """The next chunk would pass the budget's wall."""


class ApiUnclear(ClaudePipelineError):
    """The API gave no answer that decides anything: no answer, 5xx, 404 for a while, 429."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ResultsIncomplete(ApiUnclear):
    """A results download does not hold exactly the lines of its batch."""


class ApiRefused(ClaudePipelineError):
    """A clear refusal of one request to the API (4xx)."""

    def __init__(self, message: str, *, status: int, error_type: str, request_id: str | None) -> None:
        super().__init__(message)
        self.status, self.error_type, self.request_id = status, error_type, request_id
