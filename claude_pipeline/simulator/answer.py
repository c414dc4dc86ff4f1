"""What the simulated model answers: the same question, the same answer, whenever it is asked.

An answer follows from the simulator's seed and the digest of the canonical params. Free text and
every free string of a structured answer carry the prompt's digest token (`token.digest_token`), so
anyone can check that a row got its own answer.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import orjson

from claude_pipeline.simulator.dice import Dice
from claude_pipeline.simulator.model import Model
from claude_pipeline.simulator.schema import read_schema
from claude_pipeline.simulator.token import tokens_of_text
from claude_pipeline.simulator.word import SENTENCES

_THINKING_SHARE_OF_SENTENCES = 3  # sentences in a thinking block
_TOOL_USE_TOKENS = 12  # around the input of a tool call (assumed)


class Answer(NamedTuple):
    """Content blocks and how the answer stopped; `output_tokens` counts the thinking too."""

    content: list[dict[str, Any]]
    stop_reason: str
    stop_sequence: str | None
    output_tokens: int
    thinking_tokens: int


# API documentation, handle-streaming-refusals: a prompt that holds this is refused, so that clients can be tested.
REFUSED_PROMPT = (
    b"ANTHROPIC_MAGIC_STRING_TRIGGER_REFUSAL_1FAEFB6177B4672DEE07F9D3AFC62588CCD2631EDCF22E8CCC1FB35B501C9C86"
)
REFUSAL = Answer([], "refusal", None, 0, 0)  # nothing was written, so no output is billed (assumed)


def answer(params: dict[str, Any], model: Model, token: str, dice: Dice, thinking_rate: float) -> Answer:
    """The model's answer to accepted params; `token` is the digest token of the prompt."""
    left = params["max_tokens"]
    if left == 0:  # asked only to fill the prompt cache
        return Answer([], "max_tokens", None, 0, 0)
    content: list[dict[str, Any]] = []
    thinking_tokens = 0
    if thinking_rate and _may_think(params, model) and dice.chance(thinking_rate):
        thought = " ".join(dice.pick(SENTENCES) for _ in range(_THINKING_SHARE_OF_SENTENCES))
        thought, thinking_tokens, cut = _fit(thought, left, model)
        shown = "" if (params.get("thinking") or {}).get("display") == "omitted" else thought
        content.append({"type": "thinking", "thinking": shown, "signature": "c2ltdWxhdGVk"})
        left -= thinking_tokens
        if cut or left == 0:
            return Answer(content, "max_tokens", None, thinking_tokens, thinking_tokens)
    tool = _forced_tool(params, dice)
    if tool is not None:
        made = read_schema(orjson.dumps(tool.get("input_schema", {"type": "object"}))).make(dice, token)
        made = made if isinstance(made, dict) else {}  # a schema that nothing can be made for
        tokens = tokens_of_text(orjson.dumps(made).decode(), model) + _TOOL_USE_TOKENS
        block = {"type": "tool_use", "id": f"toolu_01{dice.below(16**22):022x}", "name": tool["name"], "input": made}
        if tokens > left:
            return Answer(content, "max_tokens", None, left + thinking_tokens, thinking_tokens)
        return Answer([*content, block], "tool_use", None, tokens + thinking_tokens, thinking_tokens)
    text = _text(params, token, dice)
    stop_reason, stop_sequence = "end_turn", None
    for stop in params.get("stop_sequences") or ():
        head, found, _ = text.partition(stop)
        if found:
            text, stop_reason, stop_sequence = head, "stop_sequence", stop
    text, tokens, cut = _fit(text, left, model)
    if cut:
        stop_reason, stop_sequence = "max_tokens", None
    content.append({"type": "text", "text": text})
    return Answer(content, stop_reason, stop_sequence, tokens + thinking_tokens, thinking_tokens)


def _text(params: dict[str, Any], token: str, dice: Dice) -> str:
    config = params.get("output_config")
    if config and config.get("format"):
        made = read_schema(orjson.dumps(config["format"]["schema"])).make(dice, token)
        return orjson.dumps(made).decode()
    # The token comes first, so that it survives a cut at max_tokens.
    return " ".join([token, *(dice.pick(SENTENCES) for _ in range(1 + dice.below(6)))])


def _may_think(params: dict[str, Any], model: Model) -> bool:
    thinking = params.get("thinking")
    if thinking is None:
        return "adaptive" in model.thinking
    return thinking["type"] in ("adaptive", "enabled")


def _forced_tool(params: dict[str, Any], dice: Dice) -> dict[str, Any] | None:
    choice = params.get("tool_choice")
    if not choice or choice["type"] not in ("any", "tool"):
        return None
    tools: list[dict[str, Any]] = [tool for tool in params["tools"] if isinstance(tool.get("name"), str)]
    if choice["type"] == "tool":
        tools = [tool for tool in tools if tool["name"] == choice["name"]]
    return dice.pick(tools) if tools else None


def _fit(text: str, most_tokens: int, model: Model) -> tuple[str, int, bool]:
    """The text within `most_tokens`, its tokens, and whether something was cut off."""
    tokens = tokens_of_text(text, model)
    if tokens <= most_tokens:
        return text, max(tokens, 1), False
    size_bytes = math.floor(most_tokens * model.bytes_per_token)
    return text.encode()[:size_bytes].decode("utf-8", "ignore"), most_tokens, True
