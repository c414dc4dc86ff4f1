"""Answers that succeed oddly: what `line_answer` and `odd_characters` faults make of a message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from claude_pipeline.simulator.character import put_odd_characters

BENDING_KINDS = ("line_answer", "odd_characters")
# The forms of `line_answer`.
ANSWER_FORMS = {
    "refusal": "stop_reason refusal, with an explanation and without content",
    "max_tokens": "cut, stop_reason max_tokens",
    "context_window": "cut, stop_reason model_context_window_exceeded",
    "pause_turn": "stop_reason pause_turn",
    "empty": "no content blocks",
    "thinking": "a block of thinking and no text",
    "tool_use": "a call of a tool that nobody offered, and no text",
    "prose": "a sentence where JSON was asked",
    "cut_json": "the text loses its second half",
    "extra_key": "a JSON object with a property more",
    "nan": "the first value of a JSON object is NaN",
    "other_model": "another model's name",
    "no_usage": "usage is missing",
    "odd_usage": "negative, huge and null counts in usage",
}
_CUT = {"max_tokens": "max_tokens", "context_window": "model_context_window_exceeded", "pause_turn": "pause_turn"}
_FIRST_VALUE = re.compile(r'(\{\s*"(?:[^"\\]|\\.)*"\s*:)\s*("(?:[^"\\]|\\.)*"|[^,}]*)')
_ODD_USAGE: dict[str, Any] = {
    "input_tokens": -7, "output_tokens": 2**62, "cache_creation_input_tokens": None, "cache_read_input_tokens": "many",
    "cache_creation": [], "inference_geo": {},
}  # fmt: skip


def bend(message: dict[str, Any], kind: str, form: str | None) -> None:
    """Change an answer as a rule about lines says."""
    if kind == "odd_characters":
        put_odd_characters(message, form)
        return
    texts = [block for block in message["content"] if block["type"] == "text"]
    match form:
        case "refusal":
            explanation = "The request was declined."
            message |= {"stop_reason": "refusal", "content": []}
            message["stop_details"] = {"type": "refusal", "category": None, "explanation": explanation}
        case "max_tokens" | "context_window" | "pause_turn":
            message["stop_reason"] = _CUT[form]
            if form != "pause_turn":
                _shorten(texts)
        case "thinking":
            message["content"] = [{"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"}]
        case "tool_use":
            message["content"] = [{"type": "tool_use", "id": "toolu_01", "name": "unheard_of", "input": {}}]
            message["stop_reason"] = "tool_use"
        case "prose":
            for block in texts:
                block["text"] = f"Here is what I found: {block['text']}"
        case "cut_json":
            _shorten(texts)
        case "extra_key" | "nan":
            for block in texts:
                block["text"] = _spoiled_json(block["text"], form)
        case "other_model":
            message["model"] = "claude-unheard-of-1"
        case "no_usage":
            message.pop("usage")
        case "odd_usage":
            message["usage"] = _ODD_USAGE
        case _:
            message["content"] = []


def _shorten(texts: Sequence[dict[str, Any]]) -> None:
    for block in texts:
        block["text"] = block["text"][: len(block["text"]) // 2]


def _spoiled_json(text: str, form: str) -> str:
    """JSON text, changed as text: NaN is none. Other text stays as it is."""
    if form == "extra_key":
        return text.replace("{", '{"nobody_asked": 1, ', 1)
    return _FIRST_VALUE.sub(r"\1 NaN", text, count=1)
