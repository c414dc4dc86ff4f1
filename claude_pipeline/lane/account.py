"""What the API tells of an account for free: its models, its rate limits, and how many tokens a request has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from claude_pipeline.errors import ApiUnclear
from claude_pipeline.lane.client import UNREADABLE, BatchClient

MODELS = "/v1/models"
COUNT_TOKENS = "/v1/messages/count_tokens"
PAGE_MAX = 1000
PAGES_MAX = 10
# What count_tokens takes of a request's params (SDK 2.12, message_count_tokens_params).
COUNTED = ("cache_control", "messages", "model", "output_config", "system", "thinking", "tool_choice", "tools")
_LIMIT = re.compile(r"anthropic-ratelimit-([a-z-]+)-limit")


@dataclass(frozen=True)
class Told:
    """An answer, and the limits that came with it in its headers, as {"requests": 1000}."""

    value: Any
    limits: Mapping[str, int]


def list_models(client: BatchClient) -> Told:
    """All active and deprecated models, newest first, as the API describes them.

    Raises:
        ApiUnclear, ApiRefused, KeyRefused, AccountStopped.
    """
    found: list[dict[str, Any]] = []
    limits: dict[str, int] = {}
    params: dict[str, object] = {"limit": PAGE_MAX}
    for _ in range(PAGES_MAX):
        page, headers = client.look(MODELS, params)
        limits |= limits_of(headers)
        try:
            found += [{**model, "id": str(model["id"])} for model in page["data"]]
            if not page.get("has_more"):
                return Told(found, limits)
            params = {"limit": PAGE_MAX, "after_id": page["last_id"]}
        except UNREADABLE:
            raise ApiUnclear("the list of models cannot be read") from None
    raise ApiUnclear(f"the list of models does not end after {PAGES_MAX} pages")


def count_tokens(client: BatchClient, params: bytes) -> Told:
    """Input tokens of a request, by its params as canonical JSON; free, with a limit of its own.

    Raises:
        ApiUnclear, ApiRefused, KeyRefused, AccountStopped.
    """
    content = {key: value for key, value in orjson.loads(params).items() if key in COUNTED}
    document, headers = client.ask(COUNT_TOKENS, orjson.dumps(content))
    try:
        return Told(int(document["input_tokens"]), limits_of(headers))
    except UNREADABLE:
        raise ApiUnclear("the answer of count_tokens cannot be read") from None


def limits_of(headers: Mapping[str, str]) -> dict[str, int]:
    """Limits a minute by name, from `anthropic-ratelimit-<name>-limit`; others are left out."""
    found = {}
    for name, value in headers.items():
        match = _LIMIT.fullmatch(name.lower())
        if match and value.isdigit():
            found[match[1]] = int(value)
    return found
