"""The models the simulated API offers: which names it knows, and what each accepts.

A model is retired once the simulator's clock has passed its `retires` date (assumed: the API moves
the lifecycle by hand); a request that names it is then answered like an unknown model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib import resources
from typing import Any

import yaml

from claude_pipeline.simulator.clock import microseconds, rfc3339, rfc3339_or_none


@dataclass(frozen=True, slots=True)
class Model:
    """One model. Moments are microseconds since 1970; see `models.yaml` for the fields' meaning."""

    id: str
    name: str
    line: str
    pool: str
    created_us: int
    context: int
    max_tokens: int
    bytes_per_token: float
    thinking: frozenset[str]
    min_cache: int
    forced_tools: bool
    prefill: bool
    geo: bool
    aliases: tuple[str, ...]
    deprecated_us: int | None
    retires_us: int | None

    def lifecycle(self, now_us: int) -> str:
        if self.retires_us is not None and now_us >= self.retires_us:
            return "retired"
        if self.deprecated_us is not None and now_us >= self.deprecated_us:
            return "deprecated"
        return "active"

    def as_json(self, now_us: int) -> dict[str, Any]:
        """The API's ModelInfo (SDK 2.12, types/model_info.py)."""
        lifecycle = self.lifecycle(now_us)
        past = lifecycle != "active"
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.name,
            "created_at": rfc3339(self.created_us),
            "lifecycle": lifecycle,
            "line": self.line,
            "max_input_tokens": self.context,
            "max_tokens": self.max_tokens,
            "deprecated_at": rfc3339_or_none(self.deprecated_us) if past else None,
            "retires_at": rfc3339_or_none(self.retires_us) if past else None,
            "capabilities": self._capabilities(),
        }

    def _capabilities(self) -> dict[str, Any]:
        yes = {"supported": True}
        efforts = ("low", "medium", "high", "max")
        types = ("adaptive", "between_tools", "disabled", "enabled")
        return {
            "batch": yes,
            "citations": yes,
            "code_execution": yes,
            "context_management": {
                "supported": True,
                "clear_thinking_20251015": yes,
                "clear_tool_uses_20250919": yes,
                "compact_20260112": yes,
            },
            "effort": {"supported": True} | dict.fromkeys(efforts, yes),
            "image_input": yes,
            "pdf_input": yes,
            "server_tools": {"supported": True, "code_execution": yes, "web_search": yes},
            "structured_outputs": yes,
            "thinking": {"supported": True, "types": {t: {"supported": t in self.thinking} for t in types}},
        }


@cache
def all_models() -> tuple[Model, ...]:
    """Newest first, as the API lists them."""
    text = resources.files(__package__).joinpath("models.yaml").read_text(encoding="utf-8")
    return tuple(sorted(map(_model, yaml.safe_load(text)), key=lambda model: -model.created_us))


@cache
def _by_name() -> dict[str, Model]:
    return {name: model for model in all_models() for name in (model.id, *model.aliases)}


def find_model(name: str) -> Model | None:
    """By id or alias; also one that is retired (see `Model.lifecycle`)."""
    return _by_name().get(name)


def _model(entry: dict[str, Any]) -> Model:
    return Model(
        id=entry["id"],
        name=entry["name"],
        line=entry["line"],
        pool=entry["pool"],
        created_us=_day(entry["created"]),
        context=entry["context"],
        max_tokens=entry["max_tokens"],
        bytes_per_token=entry["bytes_per_token"],
        thinking=frozenset(entry["thinking"]),
        min_cache=entry["min_cache"],
        forced_tools=entry["forced_tools"],
        prefill=entry["prefill"],
        geo=entry["geo"],
        aliases=tuple(entry.get("aliases", ())),
        deprecated_us=_day(entry["deprecated"]) if "deprecated" in entry else None,
        retires_us=_day(entry["retires"]) if "retires" in entry else None,
    )


def _day(day: date) -> int:
    return microseconds(datetime(day.year, day.month, day.day, tzinfo=UTC))
