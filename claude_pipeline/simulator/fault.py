"""Faults on order: rules that make the simulated API fail in the ways the real one is known to.

A rule names an endpoint and a kind, and how often it strikes: it skips the first `after` calls,
strikes `count` of the following (all, without it), each with `probability`. See README.md for the
kinds and their fields. Rules are data: YAML, JSON over HTTP, or keyword arguments.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

ENDPOINTS = ("create", "retrieve", "list", "cancel", "delete", "results", "messages", "count_tokens", "models")

# kind -> the endpoint it belongs to when the rule names none ("*": any).
KINDS = {
    "status": "*",  # answer `status` instead; with `accepted` only after the work is done
    "reset_before": "*",  # connection dropped, nothing done
    "lost_after": "*",  # work done, connection dropped without an answer
    "hang": "*",  # wait `seconds` (real ones) before anything is done
    "hang_after": "*",  # do the work, then wait `seconds` before the answer
    "slow_bytes": "*",  # answer at `bytes_per_second`
    "bad_body": "*",  # work done, 2xx, but the body is `form`: html, cut, empty, no_id or counts
    "redirect": "*",  # 307 to `location`
    "html_413": "create",  # the edge refuses the size with an HTML page
    "accept_late": "create",  # connection dropped at once; accepted `seconds` (real ones) later
    "list_lag": "create",  # the new batch is in no list for `seconds` (simulated ones)
    "take": "create",  # the batch takes `seconds` (simulated ones), whatever the model; also beyond 24 h
    "expire": "create",  # `share` of the batch's requests expire at 24 h
    "line_error": "create",  # `share` of the lines come back errored
    "line_answer": "create",  # `share` of the lines succeed oddly: see `form` in line.py
    "other_workspace": "*",  # as if the key belonged to another workspace
    "short_list": "list",  # the older half of the page is missing, and nothing says so
    "empty_list": "list",  # no batch at all
    "foreign_url": "retrieve",  # results_url points to `location`
    "status_word": "retrieve",  # processing_status is `form`
    "cut_results": "results",  # the stream breaks off after `share` of its bytes
    "blank_lines": "results",
    "malformed_lines": "results",
    "duplicate_lines": "results",
    "foreign_lines": "results",
    "missing_lines": "results",
    "unknown_result": "results",
    "line_separator": "results",  # texts hold U+2028 and U+0085, as raw UTF-8
}
# At most one of these decides an answer.
_DECIDING = frozenset(
    ("status", "reset_before", "lost_after", "bad_body", "redirect", "html_413", "accept_late", "cut_results")
)
_BATCH_KINDS = frozenset(("list_lag", "take", "expire", "line_error", "line_answer"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One fault; which fields a kind reads is in README.md."""

    kind: str
    endpoint: str = ""
    count: int | None = None
    after: int = 0
    probability: float = 1.0
    seed: int = 0
    status: int | None = None
    accepted: bool = False
    error_type: str | None = None
    error_code: str | None = None
    message: str | None = None
    retry_after: float | None = None
    should_retry: bool | None = None
    seconds: float = 0.0
    share: float = 1.0
    attempts: int | None = None
    bytes_per_second: int = 65_536
    form: str | None = None
    location: str | None = None
    number: int = 0  # given by Faults

    @property
    def name(self) -> str:
        """Names the rule in the store: what it met before is kept under this name."""
        return f"{self.number}:{self.kind}:{self.seed}"

    @property
    def is_for_batch(self) -> bool:
        return self.kind in _BATCH_KINDS

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_rule(entry: Mapping[str, Any]) -> Rule:
    """A rule from YAML, JSON or keyword arguments; a status may stand for the kind: `kind: 529`.

    Raises:
        ValueError: an unknown kind, endpoint or field.
    """
    values = dict(entry)
    kind = str(values.get("kind", ""))
    if kind.isdigit():
        values |= {"kind": "status", "status": int(kind)}
        kind = "status"
    if kind not in KINDS:
        raise ValueError(f"fault of kind {kind!r}: there is none; choose a status or one of {', '.join(KINDS)}")
    unknown = values.keys() - {field.name for field in fields(Rule)}
    if unknown:
        raise ValueError(f"fault of kind {kind}: unknown field {min(unknown)}")
    values["endpoint"] = values.get("endpoint") or KINDS[kind]
    if values["endpoint"] not in (*ENDPOINTS, "*"):
        raise ValueError(f"fault of kind {kind}: unknown endpoint {values['endpoint']}; one of {', '.join(ENDPOINTS)}")
    if kind == "status" and not values.get("status"):
        raise ValueError("fault of kind status: give the status, for example kind: 529")
    return Rule(**values)


def read_rules(source: Path | Iterable[Mapping[str, Any]]) -> list[Rule]:
    """Rules from a YAML file (a list), or from mappings."""
    if isinstance(source, Path):
        content = yaml.safe_load(source.read_text(encoding="utf-8")) or []
        if not isinstance(content, list):
            raise ValueError(f"{source}: expected a list of faults")
        source = content
    return [read_rule(entry) for entry in source]


class Faults:
    """The rules in force and how often each has struck. Safe for several threads; forgets at a restart."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._lock = threading.Lock()
        self._states: list[_State] = []
        self._number = 0
        for rule in rules:
            self.put(rule)

    def add(self, **entry: Any) -> Rule:
        """`faults.add(endpoint="create", kind="lost_after", count=1)`"""
        return self.put(read_rule(entry))

    def put(self, rule: Rule) -> Rule:
        """Put a rule in force behind those that are; returns it with its number."""
        with self._lock:
            self._number += 1
            values = asdict(rule) | {"number": self._number}
            state = _State(Rule(**values))
            self._states.append(state)
            return state.rule

    def clear(self) -> None:
        with self._lock:
            self._states.clear()

    def as_json(self) -> list[dict[str, Any]]:
        """The rules with `struck`, how often each has struck."""
        with self._lock:
            return [state.rule.as_json() | {"struck": state.struck} for state in self._states]

    def take(self, endpoint: str) -> list[Rule]:
        """The rules that strike this call, in the order they were given."""
        struck = []
        decided = False
        with self._lock:
            for state in self._states:
                rule = state.rule
                if rule.endpoint not in (endpoint, "*"):
                    continue
                deciding = rule.kind in _DECIDING
                if (deciding and decided) or not state.strikes():
                    continue
                decided = decided or deciding
                struck.append(rule)
        return struck


class _State:
    """A rule with its counters."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.calls = 0
        self.struck = 0
        self._chance = random.Random(f"fault:{rule.seed}:{rule.number}")

    def strikes(self) -> bool:
        rule = self.rule
        self.calls += 1
        if self.calls <= rule.after or (rule.count is not None and self.struck >= rule.count):
            return False
        if rule.probability < 1 and self._chance.random() >= rule.probability:
            return False
        self.struck += 1
        return True
