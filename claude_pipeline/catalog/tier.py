"""The account's rate-limit tier: how fast one may ask, and how much may wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal, cast

from claude_pipeline.catalog.document import Block, Problem
from claude_pipeline.catalog.model import Model

TIER_KEYS = (
    "title",
    "ladder",
    "qualify",
    "monthly_spend_cap_usd",
    "count_tokens_requests_per_minute",
    "batch",
    "rates",
)
RATE_KEYS = ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
BATCH_KEYS = ("requests_per_minute", "queued_requests", "requests_per_batch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Limits of the Messages API for one model, or one pool of models; None where not published.

    Tokens read from the cache do not count as input, and `max_tokens` does not count as output.
    """

    requests_per_minute: int | None
    input_tokens_per_minute: int | None
    output_tokens_per_minute: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRate:
    """Limits of Message Batches, shared by all models; None where not published."""

    #: Calls to the batch endpoints.
    requests_per_minute: int | None
    #: Requests inside batches that have not ended.
    queued_requests: int | None
    requests_per_batch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One rung: `current` since 2026-06-26, or of the older ladder that `guide`s print."""

    name: str
    title: str
    ladder: Literal["current", "guide"]
    qualify: str
    monthly_spend_cap_usd: Decimal | None
    count_tokens_requests_per_minute: int | None
    batch: BatchRate
    #: By model line.
    rates: Mapping[str, Rate]
    source: str
    read: date | None
    assumed: frozenset[str]
    note: str | None

    def rate(self, model: Model) -> Rate | None:
        """The model's limits, None where this tier publishes none for its line."""
        return self.rates.get(model.line) if model.line is not None else None


def tier_name(written: str) -> str:
    """The name as the catalogue spells it: `Tier 1` is `tier1`, `Scale` is `scale`."""
    name = "".join(c for c in written.lower() if c.isalnum())
    return f"tier{name}" if name.isdigit() else name


def read_tier(name: str, block: Block) -> Tier:
    block.only(*TIER_KEYS)
    batch = block.block("batch")
    batch.only(*BATCH_KEYS)
    rates = block.block("rates")
    ladder = block.text("ladder") or "current"
    if ladder not in ("current", "guide"):
        raise Problem((*block.path, "ladder"), f"must be current or guide, got {ladder!r}")
    return Tier(
        name=name,
        title=block.text("title") or name,
        ladder=cast(Literal["current", "guide"], ladder),
        qualify=block.text("qualify") or "",
        monthly_spend_cap_usd=block.decimal("monthly_spend_cap_usd"),
        count_tokens_requests_per_minute=block.whole("count_tokens_requests_per_minute"),
        batch=BatchRate(
            requests_per_minute=batch.whole("requests_per_minute"),
            queued_requests=batch.whole("queued_requests"),
            requests_per_batch=batch.whole("requests_per_batch"),
        ),
        rates={line: _read_rate(rates.block(line)) for line in rates.content},
        source=cast(str, block.required("source")),
        read=block.day("read"),
        assumed=block.assumed(),
        note=block.text("note"),
    )


def _read_rate(block: Block) -> Rate:
    block.only(*RATE_KEYS)
    return Rate(
        requests_per_minute=block.whole("requests_per_minute"),
        input_tokens_per_minute=block.whole("input_tokens_per_minute"),
        output_tokens_per_minute=block.whole("output_tokens_per_minute"),
    )
