"""Limits and rules of the API as typed values; source and doubt of each stand in limits.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from claude_pipeline.catalog.document import Block, Problem, decimal, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Each attribute is one entry of limits.yaml, under the same name."""

    requests_per_batch: int
    bytes_per_batch: int
    bytes_per_messages_request: int
    messages_per_request: int
    batch_expires_after_hours: int
    batch_usual_hours: int
    batch_results_kept_days: int
    concurrent_batches: int
    custom_id_pattern: str
    batch_list_page_max: int
    batch_list_page_default: int
    batch_max_output_tokens_beta: int
    batch_price_factor: Decimal
    geo_price_factors: Mapping[str, Decimal]
    cache_write_5m_price_factor: Decimal
    cache_write_1h_price_factor: Decimal
    cache_read_price_factor: Decimal
    new_tokenizer_factor: Decimal
    #: By script: latin, cjk, code, other.
    characters_per_token: Mapping[str, Decimal]
    reserve_overhead_tokens: int
    reserve_overhead_with_features_tokens: int
    output_schema_optional_params_max: int
    output_schema_union_params_max: int
    api_version: str
    sdk_read_timeout_seconds: int
    sdk_connect_timeout_seconds: int
    sdk_max_retries: int
    sdk_nonstreaming_max_tokens: int


def read_limits(blocks: Mapping[str, Block]) -> Limits:
    """All limits; each must be there and of its attribute's type."""
    kinds = {field.name: str(field.type) for field in fields(Limits)}
    for name, block in blocks.items():
        block.only("value")
        if name not in kinds:
            raise Problem(("limits", name), f"unknown limit{did_you_mean(name, kinds)}")
    missing = next((name for name in kinds if name not in blocks), None)
    if missing is not None:
        raise Problem(("limits", missing), "is missing")
    return Limits(**{name: _typed(blocks[name], kind) for name, kind in kinds.items()})


def _typed(block: Block, kind: str) -> Any:
    block.required("value")
    match kind:
        case "int":
            return block.whole("value")
        case "str":
            return block.text("value")
        case "Decimal":
            return block.decimal("value")
        case _:
            factors = block.block("value")
            return {name: decimal(value, (*factors.path, name)) for name, value in factors.content.items()}
