"""Params of the Messages API that a workload may add: which, and of what shape."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

REFUSED_PARAMS = {
    "stream": "a batch cannot stream",
    "speed": "a batch has no fast mode",
    "store": "a batch cannot store threads",
    "cache_hint": "the API refuses it in a batch",
    "context_hint": "the API refuses it in a batch",
    "temperature": "the API version in use refuses sampling parameters",
    "top_p": "the API version in use refuses sampling parameters",
    "top_k": "the API version in use refuses sampling parameters",
}
# Params of the Messages API that a batch takes and no field of ours covers (SDK 2.12, message_create_params).
PARAM_TYPES: dict[str, tuple[type, str]] = {
    "cache_control": (dict, "a mapping"),
    "container": (str, "a text"),
    "diagnostics": (dict, "a mapping"),
    "inference_geo": (str, "a text"),
    "metadata": (dict, "a mapping"),
    "output_config": (dict, "a mapping"),
    "service_tier": (str, "a text"),
    "stop_sequences": (list, "a list"),
    "thinking": (dict, "a mapping"),
    "tool_choice": (dict, "a mapping"),
    "tools": (list, "a list"),
}
OWN_PARAMS = {
    "model": "model:",
    "messages": "prompt:",
    "system": "system:",
    "max_tokens": "max_tokens:",
}
METADATA = frozenset({"user_id"})
SERVICE_TIERS = ("auto", "standard_only")


def problem_of(params: Mapping[str, Any]) -> str | None:
    """Why params cannot be sent with each request of a workload, in a clause; None where they can."""
    for name, value in params.items():
        problem = _of_name(name) or _of_type(name, value) or _of_shape(name, value)
        if problem is not None:
            return problem
    return None


def _of_name(name: str) -> str | None:
    if name in REFUSED_PARAMS:
        return f"{name} cannot be used: {REFUSED_PARAMS[name]}; leave it out"
    if name in OWN_PARAMS:
        return f"{name} has a field of its own: {OWN_PARAMS[name]}"
    if name not in PARAM_TYPES:
        near = difflib.get_close_matches(name, PARAM_TYPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(PARAM_TYPES)}"
        return f"{name} is no param of a batch ({hint})"
    return None


def _of_type(name: str, value: Any) -> str | None:
    kind, words = PARAM_TYPES[name]
    return None if isinstance(value, kind) else f"{name} must be {words}, got {value!r}"


def _of_shape(name: str, value: Any) -> str | None:
    match name:
        case "tool_choice" if value.get("type") in ("any", "tool"):
            return "tool_choice cannot force a tool: its input would be no answer; ask for JSON with output:"
        case "metadata" if not (set(value) <= METADATA and isinstance(value.get("user_id", ""), str | None)):
            return "metadata takes user_id alone, a text, as in {user_id: nightly}"
        case "service_tier" if value not in SERVICE_TIERS:
            return f"service_tier must be {' or '.join(SERVICE_TIERS)}, got {value!r}"
        case "stop_sequences" if not all(isinstance(stop, str) and stop.strip() for stop in value):
            return "stop_sequences takes texts that are not blank; quote each of them"
        case "thinking" if not isinstance(value.get("type"), str):
            return "thinking has a type, as in {type: adaptive}"
        case "tools" if not all(isinstance(tool, dict) for tool in value):
            return "tools takes mappings, as in {name: …, input_schema: …}"
    return None
