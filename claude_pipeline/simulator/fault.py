"""Faults on order: rules that make the simulated API fail in the ways the real one is known to.

A rule names an endpoint and a kind, and how often it strikes: it skips the first `after` calls,
strikes `count` of the following (all, without it), each with `probability`. See README.md for the
kinds and their fields. Rules are data: YAML, JSON over HTTP, keyword arguments, or one line of text
such as `lost_after endpoint=create count=1`.
"""

from __future__ import annotations

import random
import shlex
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from claude_pipeline.simulator.bend import ANSWER_FORMS
from claude_pipeline.simulator.character import ODD_CHARACTERS

# The first sentence is of a public report of a batch of which thousands of lines came back so; the second is assumed.
LOW_CREDIT = (
    "Your credit balance is too low to access the Anthropic API. "
    "Please go to Plans & Billing to upgrade or purchase credits."
)
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
    "poison": "create",  # 400 for the whole batch where the params of a request hold the text `form` (none: always)
    "accept_late": "create",  # connection dropped at once; accepted `seconds` (real ones) later
    "list_lag": "create",  # the new batch is in no list for `seconds` (simulated ones)
    "take": "create",  # the batch takes `seconds` (simulated ones), whatever the model; also beyond 24 h
    "expire": "create",  # `share` of the batch's requests expire at 24 h
    "line_error": "create",  # `share` of the lines come back errored
    "line_answer": "create",  # `share` of the lines succeed oddly: see `form` in bend.py
    "odd_characters": "create",  # `share` of the answers hold the character `form`, or all of character.py
    "other_workspace": "*",  # as if the key belonged to another workspace
    "short_list": "list",  # the older half of the page is missing, and nothing says so
    "empty_list": "list",  # no batch at all
    "foreign_url": "retrieve",  # results_url points to `location`
    "status_word": "retrieve",  # processing_status is `form`
    "cut_results": "results",  # the stream breaks off after `share` of its bytes; `form`: clean or reset
    "empty_results": "results",  # 200 and not a byte
    "blank_lines": "results",
    "malformed_lines": "results",
    "duplicate_lines": "results",
    "foreign_lines": "results",
    "missing_lines": "results",
    "unknown_result": "results",
    "line_separator": "results",  # texts hold U+2028 and U+0085, as raw UTF-8
}
_NOT_FOUND = {"kind": "status", "status": 404, "endpoint": "retrieve", "per_batch": True, "count": 1}
# Short names of rules that are often wanted; what the rule itself says goes before.
SHORTHANDS: dict[str, dict[str, Any]] = {
    "early_404": _NOT_FOUND,
    "late_404": _NOT_FOUND | {"when": "ended"},
    "low_credit": {"kind": "line_error", "error_type": "invalid_request_error", "message": LOW_CREDIT},
    "stuck": {"kind": "expire", "share": 1.0},
    "unreachable_results": {"kind": "foreign_url"},
}
# At most one of these decides an answer.
_DECIDING = frozenset(
    (
        *("status", "reset_before", "lost_after", "bad_body", "redirect", "html_413", "accept_late"),
        *("cut_results", "empty_results"),
    )
)
LINE_KINDS = ("line_error", "line_answer", "odd_characters")  # what they hit is drawn question by question
_BATCH_KINDS = frozenset(("list_lag", "take", "expire", *LINE_KINDS))
# Beyond the endpoint of KINDS, where a kind has a meaning too.
_ALSO = {
    **dict.fromkeys(LINE_KINDS, ("messages",)),
    **dict.fromkeys(("foreign_url", "status_word"), ("create", "list", "cancel")),
    "html_413": ENDPOINTS,
}
_FORMS = {
    "bad_body": ("html", "cut", "empty", "no_id", "counts"),
    "line_answer": tuple(ANSWER_FORMS),
    "malformed_lines": ("cut", "scalar", "list", "no_id"),
    "duplicate_lines": ("same", "other"),
    "odd_characters": tuple(ODD_CHARACTERS),
    "cut_results": ("clean", "reset"),
}
_SECONDS = {"hang": 600.0, "hang_after": 600.0, "accept_late": 1.0, "list_lag": 60.0}  # where a rule names none
MOST_SECONDS = 10 * 366 * 86_400
_STATES = ("in_progress", "canceling", "ended")


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
    model: str | None = None  # only questions to this model; for kinds about lines
    workspace: str | None = None  # only calls with this key, or of this workspace id
    when: str | None = None  # only while the batch asked for is in_progress, canceling or ended
    per_batch: bool = False  # `after` and `count` count anew for each batch that is asked for
    number: int = 0  # given by Faults: no two rules have one
    place: int = 0  # given by Faults: its place among the rules in force; what it strikes follows from it and the seed

    @property
    def name(self) -> str:
        """Names the rule in the store: what it met before is kept under this name."""
        return f"{self.number}:{self.kind}:{self.seed}"

    @property
    def is_for_batch(self) -> bool:
        return self.kind in _BATCH_KINDS

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def concerns(self, endpoint: str, names: Collection[str], state: str) -> bool:
        """Whether a call is one of those that this rule is about."""
        return (
            self.endpoint in (endpoint, "*")
            and (self.workspace is None or self.workspace in names)
            and (self.when is None or self.when == state)
        )


# What a value of a field may be, and the words for it.
_OF_TYPE: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "a text"),
}
_TYPES = {field.name: str(field.type).partition(" ")[0] for field in fields(Rule)}


Entry = Mapping[str, Any] | str


def read_rule(entry: Entry) -> Rule:
    """A rule from YAML, JSON, keyword arguments or a line of text; a status may stand for the kind: `kind: 529`.

    Raises:
        ValueError: an unknown kind, endpoint, field or form, or a value that cannot be.
    """
    values = _entry_of_text(entry) if isinstance(entry, str) else entry
    if not isinstance(values, Mapping):
        raise ValueError(f"fault {values!r}: give an object with a kind, or a text such as '529 endpoint=create'")
    values = {name: value for name, value in values.items() if value is not None}
    kind = str(values.pop("kind", ""))
    if kind in SHORTHANDS:
        values = SHORTHANDS[kind] | values
        kind = values.pop("kind")
    elif kind.isdigit():
        values, kind = values | {"status": int(kind)}, "status"
    if kind not in KINDS:
        known = [*KINDS, *SHORTHANDS]
        raise ValueError(
            f"fault of kind {kind!r}: there is none{_nearest(kind, known)}; choose a status or one of {', '.join(known)}"
        )
    for name, value in values.items():
        _check_field(kind, name, value)
    values["endpoint"] = values.get("endpoint") or KINDS[kind]
    _check_place(kind, values["endpoint"])
    if kind in _SECONDS:
        values.setdefault("seconds", _SECONDS[kind])
    if kind == "status" and not 400 <= (values.get("status") or 0) <= 599:
        raise ValueError("fault of kind status: give the status, from 400 to 599, for example kind: 529")
    if values.get("model") and kind not in LINE_KINDS:
        raise ValueError(f"fault of kind {kind}: model is for the kinds {', '.join(LINE_KINDS)} only")
    return Rule(kind=kind, **values)


def read_rules(source: Path | Iterable[Entry]) -> list[Rule]:
    """Rules from a YAML file (a list), or from entries."""
    return [read_rule(entry) for entry in (read_entries(source) if isinstance(source, Path) else source)]


def read_entries(path: Path) -> list[Entry]:
    """What a YAML file lists, unread."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    except yaml.YAMLError as wrong:
        raise ValueError(f"{path}: no YAML: {wrong}") from wrong
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a list of faults")
    return content


def _entry_of_text(text: str) -> dict[str, Any]:
    """`lost_after endpoint=create count=1`, quoted as in a shell."""
    kind, *settings = shlex.split(text) or [""]
    values: dict[str, Any] = {}
    for setting in [f"kind={kind}" if "=" not in kind else kind, *settings]:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"fault {text!r}: {setting!r} is no setting; write name=value, for example count=1")
        values[name] = _value_of_text(_TYPES.get(name, "str"), value)
    return values


def _value_of_text(kind: str, text: str) -> Any:
    """The value a text stands for; itself where it stands for none, and `_check_field` refuses it."""
    if kind == "bool":
        return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text)
    try:
        return {"int": int, "float": float}.get(kind, str)(text)
    except ValueError:
        return text


def _check_field(kind: str, name: str, value: Any) -> None:
    if name not in _TYPES:
        raise ValueError(f"fault of kind {kind}: unknown field {name}{_nearest(name, list(_TYPES))}")
    said = f"fault of kind {kind}: {name} is {value!r}"
    wanted = _TYPES[name]
    python_types, words = _OF_TYPE[wanted]
    fits = isinstance(value, python_types) and (wanted == "bool" or not isinstance(value, bool))
    if not fits:
        raise ValueError(f"{said}; give {words}")
    if name in ("share", "probability") and not 0 <= value <= 1:
        raise ValueError(f"{said}; give a number from 0 to 1")
    least = 1 if name == "bytes_per_second" else 0
    if wanted in ("int", "float") and name != "seed" and value < least:
        raise ValueError(f"{said}; give {least} or more")
    if name in ("seconds", "retry_after") and value > MOST_SECONDS:
        raise ValueError(f"{said}; give {MOST_SECONDS:,} or less: ten years")
    for field, known in (("form", _FORMS.get(kind, ())), ("when", _STATES)):
        if name == field and known and value not in known:
            raise ValueError(f"{said}{_nearest(value, known)}; choose one of {', '.join(known)}")


def _check_place(kind: str, endpoint: str) -> None:
    if endpoint not in (*ENDPOINTS, "*"):
        near = _nearest(endpoint, ENDPOINTS)
        raise ValueError(f"fault of kind {kind}: unknown endpoint {endpoint}{near}; one of {', '.join(ENDPOINTS)}")
    places = dict.fromkeys((KINDS[kind], *_ALSO.get(kind, ())))
    if "*" not in places and endpoint not in places:
        raise ValueError(f"fault of kind {kind}: does nothing at {endpoint}; it belongs to {', '.join(places)}")


def _nearest(word: str, known: Iterable[str]) -> str:
    """Words that name the known one next to a misspelling; nothing where none is near."""
    near = get_close_matches(word, list(known), n=1)
    return f" (nearest: {near[0]})" if near else ""


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
            values = asdict(rule) | {"number": self._number, "place": len(self._states) + 1}
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

    def ask_state(self, endpoint: str) -> bool:
        """Whether a rule about this endpoint depends on the state of the batch asked for."""
        with self._lock:
            return any(state.rule.when and state.rule.endpoint in (endpoint, "*") for state in self._states)

    def take(self, endpoint: str, names: Collection[str] = (), batch_id: str = "", state: str = "") -> list[Rule]:
        """The rules that strike this call, in the order they were given.

        `names` are the caller's key and workspace; `batch_id` and `state` those of the batch asked for.
        """
        struck = []
        decided = False
        with self._lock:
            for rule_state in self._states:
                rule = rule_state.rule
                if not rule.concerns(endpoint, names, state):
                    continue
                deciding = rule.kind in _DECIDING
                if (deciding and decided) or not rule_state.strikes(batch_id if rule.per_batch else ""):
                    continue
                decided = decided or deciding
                struck.append(rule)
        return struck


class _State:
    """A rule with its counters, one for each batch where the rule says so."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._calls: Counter[str] = Counter()
        self._struck: Counter[str] = Counter()
        self._chance = random.Random(f"fault:{rule.seed}:{rule.place}")

    @property
    def struck(self) -> int:
        return self._struck.total()

    def strikes(self, key: str) -> bool:
        rule = self.rule
        self._calls[key] += 1
        if self._calls[key] <= rule.after or (rule.count is not None and self._struck[key] >= rule.count):
            return False
        if rule.probability < 1 and self._chance.random() >= rule.probability:
            return False
        self._struck[key] += 1
        return True
