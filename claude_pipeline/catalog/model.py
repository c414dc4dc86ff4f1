"""What is known of a model: its names, sizes, abilities and the days of its life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal, assert_never, cast

from claude_pipeline.catalog.document import Block, Problem

Lifecycle = Literal["active", "deprecated", "retired"]

MODEL_KEYS = (
    "display_name",
    "aliases",
    "line",
    "rate_pool",
    "context_tokens",
    "max_output_tokens",
    "released",
    "deprecated_at",
    "retires_at",
    "successor",
    "by_invitation",
    "min_cacheable_tokens",
    "default_effort",
    "new_tokenizer",
    "relative_speed",
    "capabilities",
)
CAPABILITY_KEYS = (
    "batch",
    "structured_outputs",
    "inference_geo",
    "prefill",
    "forced_tool_choice",
    "thinking_accepted",
    "thinking_refused",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a request to the model may ask for; None where nobody said."""

    batch: bool | None
    structured_outputs: bool | None
    inference_geo: bool | None
    #: The conversation may end with words put into the assistant's mouth.
    prefill: bool | None
    #: `tool_choice` any or tool.
    forced_tool_choice: bool | None
    #: Values of `thinking.type` known to work, and known to be answered with 400; others are unknown.
    thinking_accepted: tuple[str, ...]
    thinking_refused: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of the API; None where a value was not published or not found."""

    id: str
    aliases: tuple[str, ...]
    display_name: str
    line: str | None
    #: Models of one pool share their rate limits; None where the API publishes none.
    rate_pool: str | None
    context_tokens: int | None
    max_output_tokens: int | None
    released: date | None
    deprecated_at: date | None
    #: The first day on which requests fail.
    retires_at: date | None
    #: What to use instead, as published or assumed; None for a model that stays.
    successor: str | None
    #: Only invited accounts may use it.
    by_invitation: bool
    #: A shorter prefix is silently not cached.
    min_cacheable_tokens: int | None
    default_effort: str | None
    #: The tokenizer that makes about 30 % more tokens of a text (models from 4.7 on).
    new_tokenizer: bool | None
    #: Tokens per second against a Sonnet, assumed; None for an unknown line.
    relative_speed: float | None
    capabilities: Capabilities
    source: str
    read: date | None
    #: Fields that no official page states, as `min_cacheable_tokens` or `capabilities.batch`.
    assumed: frozenset[str]

    def lifecycle(self, at: date) -> Lifecycle:
        """The stage on a day. A model with a retirement day but no known day of deprecation
        counts as deprecated until it retires: that is how one learns of such a day."""
        if self.retires_at is not None and at >= self.retires_at:
            return "retired"
        if self.deprecated_at is not None:
            return "deprecated" if at >= self.deprecated_at else "active"
        return "deprecated" if self.retires_at is not None else "active"

    def warning(self, at: date) -> str | None:
        """Why not to rely on the model, with the day and what to use instead; None for an active one."""
        instead = f"; use {self.successor}" if self.successor else ""
        match self.lifecycle(at):
            case "active":
                return None
            case "retired":
                return f"{self.id} is retired since {self.retires_at}{instead}"
            case "deprecated" if self.retires_at is None:
                return f"{self.id} is deprecated since {self.deprecated_at}, no day of its end was found{instead}"
            case "deprecated":
                days = (self.retires_at - at).days if self.retires_at else 0
                return f"{self.id} is deprecated and retires on {self.retires_at}, in {days} day{'s' * (days != 1)}{instead}"
            case _ as unknown:
                assert_never(unknown)


def read_model(model_id: str, block: Block, lines: Mapping[str, Block]) -> Model:
    """A model from its block; its line lends it what it does not say itself."""
    block.only(*MODEL_KEYS)
    able = block.block("capabilities")
    able.only(*CAPABILITY_KEYS)
    line = block.text("line")
    if line is not None and line not in lines:
        raise Problem((*block.path, "line"), f"{line!r} is no line (known: {', '.join(lines)}); add it to lines:")
    speed = block.decimal("relative_speed")
    lent = lines[line].decimal("relative_speed") if line is not None and speed is None else None
    return Model(
        id=model_id,
        aliases=block.texts("aliases"),
        display_name=block.text("display_name") or model_id,
        line=line,
        rate_pool=block.text("rate_pool"),
        context_tokens=block.whole("context_tokens"),
        max_output_tokens=block.whole("max_output_tokens"),
        released=block.day("released"),
        deprecated_at=block.day("deprecated_at"),
        retires_at=block.day("retires_at"),
        successor=block.text("successor"),
        by_invitation=bool(block.flag("by_invitation")),
        min_cacheable_tokens=block.whole("min_cacheable_tokens"),
        default_effort=block.text("default_effort"),
        new_tokenizer=block.flag("new_tokenizer"),
        relative_speed=float(speed or lent) if (speed or lent) else None,  # type: ignore[arg-type]  # one is a number
        capabilities=Capabilities(
            batch=able.flag("batch"),
            structured_outputs=able.flag("structured_outputs"),
            inference_geo=able.flag("inference_geo"),
            prefill=able.flag("prefill"),
            forced_tool_choice=able.flag("forced_tool_choice"),
            thinking_accepted=able.texts("thinking_accepted"),
            thinking_refused=able.texts("thinking_refused"),
        ),
        source=cast(str, block.required("source")),
        read=block.day("read"),
        assumed=block.assumed() | ({"relative_speed"} if lent else set()),
    )
