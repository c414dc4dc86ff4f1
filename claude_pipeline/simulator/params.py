"""Whether a request's Messages params are accepted, as the API would say it.

The same check answers a message at once (an HTTP error) and a line of a batch at its end (an
errored result). Sentences that were seen from the API are marked; the others follow their form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from claude_pipeline.simulator.error import Problem, invalid
from claude_pipeline.simulator.model import Model, find_model
from claude_pipeline.simulator.schema import read_schema
from claude_pipeline.simulator.token import input_tokens

VERSION_WITHOUT_SAMPLING = "2026-10-21"  # from this version on temperature, top_p and top_k are refused
VERSIONS = ("2023-01-01", "2023-06-01", VERSION_WITHOUT_SAMPLING)
LONG_OUTPUT_BETA = "output-300k-2026-03-24"
LONG_OUTPUT_TOKENS = 300_000
MOST_MESSAGES = 100_000

_FIELDS = frozenset(
    (
        *("model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "output_config"),
        *("cache_control", "metadata", "stop_sequences", "service_tier", "inference_geo", "container", "diagnostics"),
        *("stream", "temperature", "top_p", "top_k", "user_profile_id", "context_management", "mcp_servers"),
        *("speed", "store", "previous_thread_event_id", "cache_hint", "context_hint", "fallbacks"),
        "research_preview_2026_02",
    )
)
# API documentation, batch-processing#what-can-be-batched; `stream` and `max_tokens: 0` are looked at apart.
_NOT_IN_BATCH = (
    "speed",
    "store",
    "previous_thread_event_id",
    "cache_hint",
    "context_hint",
    "fallbacks",
    "research_preview_2026_02",
)
_SAMPLING = ("temperature", "top_p", "top_k")
_EFFORTS = ("low", "medium", "high", "max", "xhigh")


@dataclass(frozen=True, slots=True)
class Setting:
    """What surrounds a request: the API version and betas of its call, its lane, its moment."""

    version: str
    betas: tuple[str, ...]
    batch: bool
    now_us: int


def check_params(params: Any, setting: Setting) -> tuple[Model, int] | Problem:
    """The model that will answer and the input tokens, or why the request is refused."""
    if not isinstance(params, dict):
        return invalid("params: Input should be a valid dictionary")
    name = params.get("model")
    if not isinstance(name, str):
        return invalid("model: Field required" if name is None else "model: Input should be a valid string")
    model = find_model(name)
    if model is None or model.lifecycle(setting.now_us) == "retired":
        return Problem("not_found_error", f"model: {name}")  # seen
    for rule in _RULES:
        problem = rule(params, model, setting)
        if problem is not None:
            return problem
    tokens = input_tokens(params, model)
    if tokens > model.context:
        return invalid(f"prompt is too long: {tokens} tokens > {model.context} maximum")
    return model, tokens


def _known_fields(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    unknown = params.keys() - _FIELDS
    if unknown:
        return invalid(f"{min(unknown)}: Extra inputs are not permitted")
    if setting.batch:
        if params.get("stream"):
            return invalid("stream: Streaming is not supported in a batch")
        for name in _NOT_IN_BATCH:
            if name in params:
                return invalid(f"{name}: not supported in a batch")
    return None


def _max_tokens(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    wanted = params.get("max_tokens")
    if wanted is None:
        return invalid("max_tokens: Field required")
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        return invalid("max_tokens: Input should be a valid integer")
    if wanted < 1:
        return invalid("max_tokens: must be greater than or equal to 1")
    most = LONG_OUTPUT_TOKENS if setting.batch and LONG_OUTPUT_BETA in setting.betas else model.max_tokens
    if wanted > most:
        return invalid(
            f"max_tokens: {wanted} > {most}, which is the maximum allowed number of output tokens for {model.id}"
        )
    return None


def _sampling(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    if setting.version >= VERSION_WITHOUT_SAMPLING:
        for name in _SAMPLING:
            if name in params:
                return invalid(f"{name}: not supported with anthropic-version {setting.version}")
    return None


def _messages(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    messages = params.get("messages")
    if messages is None:
        return invalid("messages: Field required")
    if not isinstance(messages, list):
        return invalid("messages: Input should be a valid list")
    if not messages:
        return invalid("messages: at least one message is required")
    if len(messages) > MOST_MESSAGES:
        return invalid(f"messages: List should have at most {MOST_MESSAGES} items")
    for position, message in enumerate(messages):
        problem = _message(position, message)
        if problem is not None:
            return problem
    if messages[0]["role"] != "user":
        return invalid('messages: first message must use the "user" role')
    if messages[-1]["role"] == "assistant" and not model.prefill:
        return invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )  # seen
    return None


def _message(position: int, message: Any) -> Problem | None:
    where = f"messages.{position}"
    if not isinstance(message, dict):
        return invalid(f"{where}: Input should be a valid dictionary")
    if message.get("role") not in ("user", "assistant"):
        return invalid(f"{where}.role: Input should be 'user' or 'assistant'")
    content = message.get("content")
    if isinstance(content, str):
        if not content or content.isspace():
            return invalid("messages: text content blocks must contain non-whitespace text")
        return None
    if not isinstance(content, list) or not content:
        return invalid(f"{where}.content: Input should be a valid string or a non-empty list")
    return _blocks(f"{where}.content", content)


def _system(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    system = params.get("system", "")
    if isinstance(system, str):
        return None
    if not isinstance(system, list):
        return invalid("system: Input should be a valid string or list")
    return _blocks("system", system)


def _blocks(where: str, blocks: list[Any]) -> Problem | None:
    for position, block in enumerate(blocks):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            return invalid(f"{where}.{position}.type: Field required")
        if block["type"] == "text":
            text = block.get("text")
            if not isinstance(text, str):
                return invalid(f"{where}.{position}.text: Input should be a valid string")
            if not text or text.isspace():
                return invalid("messages: text content blocks must contain non-whitespace text")
    return None


def _thinking(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    thinking = params.get("thinking")
    if thinking is None:
        return None
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("adaptive", "between_tools", "disabled", "enabled"):
        return invalid("thinking.type: Input should be 'adaptive', 'between_tools', 'disabled' or 'enabled'")
    if kind in model.thinking:
        return None
    if kind == "enabled":
        return invalid(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )  # seen, in part
    if kind == "adaptive":
        return invalid("adaptive thinking is not supported on this model")  # seen
    return invalid(f'"thinking.type.{kind}" is not supported for this model.')


def _tools(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    tools = params.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) and "name" in tool for tool in tools):
        return invalid("tools: Input should be a list of tools with a name")
    choice = params.get("tool_choice")
    if choice is None:
        return None
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in ("auto", "any", "tool", "none"):
        return invalid("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")
    if kind in ("any", "tool"):
        if not model.forced_tools:
            return invalid(f"tool_choice.type: '{kind}' is not supported for this model")
        if not tools:
            return invalid("tool_choice: may only be specified while providing tools")
        if kind == "tool" and choice.get("name") not in [tool["name"] for tool in tools]:
            return invalid(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")
    return None


def _output(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    config = params.get("output_config")
    if config is None:
        return None
    if not isinstance(config, dict):
        return invalid("output_config: Input should be a valid dictionary")
    if config.get("effort", "low") not in _EFFORTS:
        return invalid(f"output_config.effort: Input should be one of {', '.join(_EFFORTS)}")
    wanted = config.get("format")
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema" or "schema" not in wanted:
        return invalid("output_config.format: Input should be {'type': 'json_schema', 'schema': ...}")
    problem = read_schema(orjson.dumps(wanted["schema"])).problem
    return invalid(f"output_config.format.schema: {problem}") if problem else None


def _others(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    geo = params.get("inference_geo")
    if geo is not None and not model.geo:
        return invalid("inference_geo: not supported for this model")
    if params.get("service_tier", "auto") not in ("auto", "standard_only"):
        return invalid("service_tier: Input should be 'auto' or 'standard_only'")
    stops = params.get("stop_sequences")
    if stops is not None and not (isinstance(stops, list) and all(isinstance(s, str) and s.strip() for s in stops)):
        return invalid("stop_sequences: each stop sequence must contain non-whitespace")
    return None


_RULES: tuple[Callable[[dict[str, Any], Model, Setting], Problem | None], ...] = (
    _known_fields,
    _max_tokens,
    _sampling,
    _messages,
    _system,
    _thinking,
    _tools,
    _output,
    _others,
)
