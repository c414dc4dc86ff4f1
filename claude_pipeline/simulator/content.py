"""Whether the content of a request is well formed: messages, their blocks, the system prompt, `cache_control`.

Each function gives the API's sentence about the first fault, or None. Block types are those of SDK
2.12 (types/content_block_param.py); what stands inside a block of another type than text, tool_use
and tool_result is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST_MESSAGES = 100_000
MOST_BREAKPOINTS = 4

_BLANK_TEXT = "messages: text content blocks must contain non-whitespace text"
_ROLES = ("user", "assistant", "system")  # the last one is new in SDK 2.12
_MESSAGE_FIELDS = frozenset(("role", "content"))
_TYPES = frozenset(
    (
        *("text", "image", "document", "search_result", "thinking", "redacted_thinking", "tool_use", "tool_result"),
        *("server_tool_use", "web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result"),
        *("bash_code_execution_tool_result", "text_editor_code_execution_tool_result", "tool_search_tool_result"),
        *("container_upload", "tool_reference", "mcp_tool_use", "mcp_tool_result", "compaction", "browser_state"),
    )
)
_LIVES = ("5m", "1h")


def fault_of_messages(messages: Any, *, prefill: bool, newest_version: bool) -> str | None:
    """`prefill`: the model continues an assistant message; `newest_version`: the rules of 2026-10-21 hold."""
    if messages is None:
        return "messages: Field required"
    if not isinstance(messages, list):
        return "messages: Input should be a valid list"
    if not messages:
        return "messages: at least one message is required"
    if len(messages) > MOST_MESSAGES:
        return f"messages: List should have at most {MOST_MESSAGES} items"
    called: set[str] = set()
    for position, message in enumerate(messages):
        fault = _fault_of_message(f"messages.{position}", message, newest_version)
        fault = fault or _fault_of_tool_results(f"messages.{position}", message, called)
        if fault:
            return fault
        called = {block["id"] for block in _blocks_of(message, "tool_use")}
    if messages[0]["role"] != "user":
        return 'messages: first message must use the "user" role'
    if messages[-1]["role"] == "assistant" and not prefill:
        return "This model does not support assistant message prefill. The conversation must end with a user message."
    return None  # the last sentence was seen


def fault_of_system(system: Any) -> str | None:
    if isinstance(system, str):
        return None
    if not isinstance(system, list):
        return "system: Input should be a valid string or list"
    for position, block in enumerate(system):
        if isinstance(block, dict) and block.get("type") != "text":
            return f"system.{position}.type: Input should be 'text'"
    return _fault_of_blocks("system", system)


def fault_of_cache_control(params: Mapping[str, Any]) -> str | None:
    """Forms, number and order of the breakpoints. The content itself must be well formed."""
    shorter_met = False
    count = 0
    for where, control in _breakpoints(params):
        fault = _fault_of_form(where, control)
        if fault:
            return fault
        count += 1
        longer = control.get("ttl") == "1h"
        if longer and shorter_met:
            return (
                f"{where}.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
                "Note that blocks are processed in the following order: `tools`, `system`, `messages`."
            )
        shorter_met = shorter_met or not longer
    if count > MOST_BREAKPOINTS:
        return f"A maximum of {MOST_BREAKPOINTS} blocks with cache_control may be provided. Found {count}."
    return None


def _fault_of_message(where: str, message: Any, newest_version: bool) -> str | None:
    if not isinstance(message, dict):
        return f"{where}: Input should be a valid dictionary"
    role = message.get("role")
    if role not in _ROLES:
        return f"{where}.role: Input should be 'user' or 'assistant'"
    unknown = message.keys() - _MESSAGE_FIELDS
    if unknown:
        return f"{where}.{min(unknown)}: Extra inputs are not permitted"
    content = message.get("content")
    if isinstance(content, str):
        return _BLANK_TEXT if not content or content.isspace() else None
    if not isinstance(content, list) or not content:
        return f"{where}.content: Input should be a valid string or a non-empty list"
    fault = _fault_of_blocks(f"{where}.content", content)
    if fault or not newest_version:
        return fault
    for position, block in enumerate(content):
        if role == "assistant" and block["type"] == "document":
            return f"{where}.content.{position}: document blocks are not supported in assistant messages"
        if role == "user" and block["type"] == "text" and block.get("citations"):
            return f"{where}.content.{position}.citations: not supported in user messages"
    return None


def _fault_of_blocks(where: str, blocks: list[Any]) -> str | None:
    for position, block in enumerate(blocks):
        here = f"{where}.{position}"
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            return f"{here}.type: Field required"
        kind = block["type"]
        if kind not in _TYPES:
            return f"{here}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
        if kind == "text":
            text = block.get("text")
            if not isinstance(text, str):
                return f"{here}.text: Input should be a valid string"
            if not text or text.isspace():
                return _BLANK_TEXT
        elif kind == "tool_use" and not (isinstance(block.get("id"), str) and isinstance(block.get("name"), str)):
            return f"{here}.tool_use: id and name should be valid strings"
        elif kind == "tool_result" and not isinstance(block.get("tool_use_id"), str):
            return f"{here}.tool_result.tool_use_id: Field required"
    return None


def _fault_of_tool_results(where: str, message: dict[str, Any], called: set[str]) -> str | None:
    """Whether the results in a message are those of the calls in the one before."""
    given = {block["tool_use_id"] for block in _blocks_of(message, "tool_result")}
    if given - called:
        return (
            f"{where}.content: unexpected `tool_use_id` found in `tool_result` blocks: {min(given - called)}. Each "
            "`tool_result` block must have a corresponding `tool_use` block in the previous message."
        )
    if called - given:
        return (
            f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(sorted(called - given))}. Each `tool_use` block must have a corresponding `tool_result` "
            "block in the next message."
        )
    return None


def _blocks_of(message: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    content = message["content"]
    if isinstance(content, list):
        yield from (block for block in content if block["type"] == kind)


def _breakpoints(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(place, cache_control) in the order of the cache: tools, system, messages, the one of the whole request."""
    places = [("tools", params.get("tools")), ("system", params.get("system"))]
    places += [(f"messages.{n}.content", message["content"]) for n, message in enumerate(params["messages"])]
    for where, blocks in places:
        if isinstance(blocks, list):
            for position, block in enumerate(blocks):
                if block.get("cache_control") is not None:
                    yield f"{where}.{position}.cache_control", block["cache_control"]
    if params.get("cache_control") is not None:
        yield "cache_control", params["cache_control"]


def _fault_of_form(where: str, control: Any) -> str | None:
    if not isinstance(control, dict):
        return f"{where}: Input should be a valid dictionary"
    if control.get("type") != "ephemeral":
        return f"{where}.type: Input should be 'ephemeral'"
    if control.get("ttl", "5m") not in _LIVES:
        return f"{where}.ttl: Input should be '5m' or '1h'"
    unknown = control.keys() - {"type", "ttl", "scope"}
    if unknown:
        return f"{where}.{min(unknown)}: Extra inputs are not permitted"
    return None
