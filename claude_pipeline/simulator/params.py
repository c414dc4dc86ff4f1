"""Whether a request's Messages params are accepted, as the API would say it.

The same check answers a message at once (an HTTP error) and a line of a batch at its end (an
errored result). Sentences that were seen from the API are marked; the others follow their form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from claude_pipeline.simulator.content import fault_of_cache_control, fault_of_messages, fault_of_system
from claude_pipeline.simulator.error import Problem, invalid
from claude_pipeline.simulator.model import Model, find_model
from claude_pipeline.simulator.schema import NOT_A_SCHEMA, read_schema
from claude_pipeline.simulator.token import input_tokens

VERSION_WITHOUT_SAMPLING = "2026-10-21"  # from this version on temperature, top_p and top_k are refused
VERSIONS = ("2023-01-01", "2023-06-01", VERSION_WITHOUT_SAMPLING)
LONG_OUTPUT_BETA = "output-300k-2026-03-24"
LONG_OUTPUT_TOKENS = 300_000
LEAST_BUDGET = 1024  # of `thinking.budget_tokens`
MOST_STRICT_TOOLS = 20

_FIELDS = frozenset(
    (
        *("model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "output_config"),
        *("cache_control", "metadata", "stop_sequences", "service_tier", "inference_geo", "container", "diagnostics"),
        *("stream", "temperature", "top_p", "top_k", "user_profile_id", "context_management", "mcp_servers"),
        *("speed", "store", "previous_thread_event_id", "cache_hint", "context_hint", "fallbacks"),
        *("research_preview_2026_02", "billing_policy", "compaction", "fallback_credit_token", "thread"),
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
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}", re.ASCII)
_EFFORTS = (None, "low", "medium", "high", "max", "xhigh")


@dataclass(frozen=True, slots=True)
class Setting:
    """What surrounds a request: the API version and betas of its call, its lane, its moment."""

    version: str
    betas: tuple[str, ...]
    batch: bool
    now_us: int
    counting: bool = False  # tokens are only counted: nothing is to be written


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
        policy = params.get("billing_policy")
        if isinstance(policy, dict) and policy.get("bill_to") == "user_profile":
            return invalid("billing_policy.bill_to: user_profile is not supported in a batch")
    if not isinstance(params.get("stream", False), bool):
        return invalid("stream: Input should be a valid boolean")
    metadata = params.get("metadata") if params.get("metadata") is not None else {}
    if not isinstance(metadata, dict):
        return invalid("metadata: Input should be a valid dictionary")
    if not isinstance(metadata.get("user_id"), str | None):
        return invalid("metadata.user_id: Input should be a valid string")
    if metadata.keys() - {"user_id"}:
        return invalid(f"metadata.{min(metadata.keys() - {'user_id'})}: Extra inputs are not permitted")
    return None


def _max_tokens(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    wanted = params.get("max_tokens")
    if wanted is None and setting.counting:
        return None
    if wanted is None:
        return invalid("max_tokens: Field required")
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        return invalid("max_tokens: Input should be a valid integer")
    least = 1 if setting.batch else 0  # 0 fills the prompt cache and writes nothing
    if wanted < least:
        return invalid(f"max_tokens: must be greater than or equal to {least}")
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
    for name, most in (("temperature", 1), ("top_p", 1), ("top_k", None)):
        value = params.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int if name == "top_k" else int | float):
            return invalid(f"{name}: Input should be a valid {'integer' if name == 'top_k' else 'number'}")
        if value < 0:
            return invalid(f"{name}: Input should be greater than or equal to 0")
        if most is not None and value > most:
            return invalid(f"{name}: Input should be less than or equal to {most}")
    return None


def _messages(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    newest = setting.version >= VERSION_WITHOUT_SAMPLING
    fault = fault_of_messages(params.get("messages"), prefill=model.prefill, newest_version=newest)
    return invalid(fault) if fault else None


def _system(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    fault = fault_of_system(params.get("system", ""))
    return invalid(fault) if fault else None


def _cache_control(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    fault = fault_of_cache_control(params)
    return invalid(fault) if fault else None


def _thinking(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    thinking = params.get("thinking")
    if thinking is None:
        return None
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("adaptive", "between_tools", "disabled", "enabled"):
        return invalid("thinking.type: Input should be 'adaptive', 'between_tools', 'disabled' or 'enabled'")
    if kind in model.thinking:
        return _budget(thinking, params, setting) if kind == "enabled" else None
    if kind == "enabled":
        return invalid(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )  # seen, in part
    if kind == "adaptive":
        return invalid("adaptive thinking is not supported on this model")  # seen
    return invalid(f'"thinking.type.{kind}" is not supported for this model.')


def _budget(thinking: dict[str, Any], params: dict[str, Any], setting: Setting) -> Problem | None:
    budget = thinking.get("budget_tokens")
    if budget is None:
        return invalid("thinking.enabled.budget_tokens: Field required")
    if not isinstance(budget, int) or isinstance(budget, bool):
        return invalid("thinking.enabled.budget_tokens: Input should be a valid integer")
    if budget < LEAST_BUDGET:
        return invalid(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {LEAST_BUDGET}")
    if not setting.counting and params["max_tokens"] <= budget:
        return invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
    return None


def _tools(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    tools = params.get("tools", [])
    if not isinstance(tools, list):
        return invalid("tools: Input should be a valid list")
    for position, tool in enumerate(tools):
        problem = _tool(f"tools.{position}", tool)
        if problem:
            return problem
    names = [tool["name"] for tool in tools if isinstance(tool.get("name"), str)]
    if len(set(names)) < len(names):
        return invalid("tools: Tool names must be unique.")
    if sum(tool.get("strict") is True for tool in tools) > MOST_STRICT_TOOLS:
        return invalid(f"tools: at most {MOST_STRICT_TOOLS} tools may be strict")
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
        if isinstance(params.get("thinking"), dict) and params["thinking"]["type"] == "enabled":
            return invalid("Thinking may not be enabled when tool_choice forces tool use.")
        if kind == "tool" and choice.get("name") not in names:
            return invalid(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")
    return None


def _tool(where: str, tool: Any) -> Problem | None:
    if not isinstance(tool, dict):
        return invalid(f"{where}: Input should be a valid dictionary")
    custom = tool.get("type") in (None, "custom")
    if not custom:  # a tool of the vendor's, which brings its own schema
        return None if isinstance(tool["type"], str) else invalid(f"{where}.type: Input should be a valid string")
    name = tool.get("name")
    if not isinstance(name, str):
        return invalid(f"{where}.custom.name: " + ("Input should be a valid string" if name else "Field required"))
    if not _TOOL_NAME.fullmatch(name):
        return invalid(f"{where}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        return invalid(f"{where}.custom.input_schema: " + ("Field required" if schema is None else "not an object"))
    if schema.get("type") != "object":
        return invalid(f"{where}.custom.input_schema.type: Input should be 'object'")
    problem = read_schema(orjson.dumps(schema)).problem
    if problem == NOT_A_SCHEMA:
        return invalid(f"{where}.custom.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12")
    if tool.get("strict") is not True:  # then the subset of structured output does not bind it
        return None
    return invalid(f"{where}.custom: {problem}") if problem else None


def _output(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    config = params.get("output_config")
    if config is None:
        return None
    if not isinstance(config, dict):
        return invalid("output_config: Input should be a valid dictionary")
    if config.get("effort") not in _EFFORTS:
        return invalid(f"output_config.effort: Input should be one of {', '.join(filter(None, _EFFORTS))}")
    unknown = config.keys() - {"effort", "format", "task_budget"}
    if unknown:
        return invalid(f"output_config.{min(unknown)}: Extra inputs are not permitted")
    wanted = config.get("format")
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema" or "schema" not in wanted:
        return invalid("output_config.format: Input should be {'type': 'json_schema', 'schema': ...}")
    problem = read_schema(orjson.dumps(wanted["schema"])).problem
    return invalid(f"output_config.format.schema: {problem}") if problem else None


def _others(params: dict[str, Any], model: Model, setting: Setting) -> Problem | None:
    geo = params.get("inference_geo")
    if geo not in (None, "us", "global"):
        return invalid("inference_geo: Input should be 'us' or 'global'")
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
    _cache_control,
    _output,
    _others,
)
