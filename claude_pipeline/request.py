"""Turn a record into a request: the rendered prompt, the params as canonical JSON, the fingerprint.

All requests of a workload share everything but the prompt, and the canonical JSON sorts its keys;
so the params are one constant head, the prompt as a JSON string, one constant tail. The
fingerprint is the sha256 of the same bytes without `max_tokens`: equal fingerprints are the same
question. (How long an answer may be does not change what is asked: an answer that ended by itself
holds under any limit, and only a cut one is asked again under a higher one.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from claude_pipeline.errors import PromptInvalid
from claude_pipeline.output_schema import enforceable
from claude_pipeline.template import (
    NULL,
    PROMPT_CHARACTERS_MAX,
    RejectCode,
    Template,
    Unusable,
    constant_head,
    is_undefined,
)
from claude_pipeline.workload import Workload

_SENTINEL = "\x00prompt\x00"
Printed = str | int | bool | float  # values that a prompt takes as Python prints them; of numbers, finite ones


class NoMoment:
    """A date or time that Python cannot hold: outside the years 1 to 9999, or in a time zone nobody knows. No filter can
    make a text of it."""

    def __str__(self) -> str:
        raise Unusable("wrong_type", f"a column {_PRINTED_AS_PYTHON[NoMoment]}")

    __repr__ = __str__


_PRINTED_AS_PYTHON: Mapping[type, str] = {
    NoMoment: "is a date outside the years 1 to 9999, or in an unknown time zone; cast it to text in dataset.sql",
    bytes: "holds bytes; decode it in dataset.sql",
    list: "is a list; write {{ … | join(', ') }} or {{ … | tojson }}",
    tuple: "is a list; write {{ … | join(', ') }} or {{ … | tojson }}",
    dict: "is an object; write {{ ….field }} or {{ … | tojson }}",
}


class Request(NamedTuple):
    """One question, ready to be sent. `row` is the record's row in its snapshot, from 0."""

    row: int
    record_id: str
    fingerprint: bytes  # sha256 of params without max_tokens, 32 bytes
    params: bytes  # canonical JSON of the Messages params
    model: str = ""  # as the workload names it
    further: tuple[bytes, ...] = ()  # fingerprints of the same prompt asked of a cascade's later models


class Rejection(NamedTuple):
    """A record that cannot become a request, and why; `detail` holds no text of the record."""

    row: int
    record_id: str
    code: RejectCode
    detail: str


class Questions(NamedTuple):
    """Prompts as JSON strings and their fingerprints, but for those that stand at `odd`: each of these is made by itself."""

    quoted: list[bytes]
    fingerprints: list[bytes]
    odd: list[int]


def _usable(value: Any) -> Any:
    """What may not become text in a prompt (null, NaN, what only Python prints) stops the record."""
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return value
    if value is None:
        raise Unusable("missing_text", NULL)
    if kind in _PRINTED_AS_PYTHON:
        raise Unusable("wrong_type", f"a column {_PRINTED_AS_PYTHON[kind]}")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unusable("not_text", "a column is NaN" if math.isnan(value) else "a column is infinite")
    elif isinstance(value, Iterator) or (callable(value) and not is_undefined(value)):
        raise Unusable("not_text", "a part of the prompt is no value: call a method with (), end a chain with | list")
    return value


class Prompt:
    """A compiled template over a record's columns.

    Raises:
        PromptInvalid: syntax, a statement that is not allowed, or a column that does not exist.
    """

    def __init__(self, template: str, columns: Iterable[str], *, place: str = "prompt") -> None:
        known = list(columns)
        try:
            self._template = Template(template, _usable, place=place)
        except PromptInvalid as invalid:
            odd = [name for name in known if not name.isidentifier() and name in template]
            way = f"; select the column {odd[0]!r} under a plain name with dataset.sql" if odd else ""
            raise PromptInvalid(f"{invalid}{way}") from None
        # A column wins over Jinja's global of the same name (range, dict, …).
        asked = self._template.names | (self._template.overridable & set(known))
        for name in sorted(asked - set(known)):
            raise PromptInvalid(f"{place}: asks for {{{{ {name} }}}}, but the records have only {', '.join(known)}")
        self.columns = tuple(name for name in known if name in asked)
        self._prints_only = bool(self.columns) and not self._template.looked_at & set(self.columns)

    def render(self, record: Mapping[str, Any]) -> str:
        """The prompt's text.

        Raises:
            Unusable: the record cannot be asked; `code` and `detail` say why.
        """
        try:
            text = self._template.render(record if isinstance(record, dict) else dict(record))
        except Unusable as problem:
            raise self._named(problem, record) from None
        if self._prints_only and self._all_blank(record):
            alone = (
                f"column {self.columns[0]} is" if len(self.columns) == 1 else f"columns {', '.join(self.columns)} are"
            )
            raise Unusable("empty_text", f"{alone} empty")
        if not text or text.isspace():
            raise Unusable("empty_prompt", "the prompt is blank")
        return text

    def text(self, record: Mapping[str, Any]) -> str | None:
        """`render`, with None in place of what it raises.

        Raises:
            Unusable: `too_much_work`, which takes a second to find out: not to be done twice for thousands.
        """
        try:
            return self.render(record)
        except Unusable as problem:
            if problem.code == "too_much_work":
                raise
            return None

    def render_texts(self, columns: Mapping[str, Sequence[Printed]]) -> list[str | None] | None:
        """The prompts of many records, in whose columns all values are printed and of a kind; None for one that `render`
        may refuse. None instead of all where each has to be rendered by itself.
        """
        texts = self._template.render_texts(columns)
        if texts is None:
            return None
        blank = list(range(len(texts)))
        for values in [columns[name] for name in self.columns] if self._prints_only else [texts]:
            blank = [at for at in blank if isinstance(text := values[at], str) and (not text or text.isspace())]
        prompts: list[str | None] = list(texts)
        for at in blank:
            prompts[at] = None
        if max(map(len, texts), default=0) > PROMPT_CHARACTERS_MAX:
            prompts = [None if text is None or len(text) > PROMPT_CHARACTERS_MAX else text for text in prompts]
        return prompts

    def holding(self, what: Callable[[str], bool], record: Mapping[str, Any]) -> str:
        """Words for the first column whose text is such; for the prompt where it is none alone."""
        found = (name for name in self.columns if isinstance(record.get(name), str) and what(record[name]))
        return next((f"column {name}" for name in found), "the prompt")

    def _all_blank(self, record: Mapping[str, Any]) -> bool:
        for name in self.columns:
            value = record.get(name)
            if not isinstance(value, str) or (value and not value.isspace()):
                return False
        return True

    def _named(self, problem: Unusable, record: Mapping[str, Any]) -> Unusable:
        """The problem with the column's name, where a column is it as a whole."""
        for name in self.columns:
            try:
                _usable(record.get(name))
            except Unusable as own:
                if (own.code, own.detail) == (problem.code, problem.detail):
                    return Unusable(own.code, own.detail.replace("a column", f"column {name}", 1).replace("…", name))
        return problem


@dataclass(frozen=True)
class RequestMaker:
    """Makes the requests of one workload."""

    prompt: Prompt
    head: bytes
    tail: bytes
    question: Any  # sha256 of the head without max_tokens, to be copied
    question_tail: bytes
    model: str

    @classmethod
    def of(cls, workload: Workload, columns: Iterable[str]) -> RequestMaker:
        """Raises PromptInvalid, WorkloadInvalid (an unreadable prompt_file)."""
        prompt = Prompt(workload.template(), columns, place=workload.template_place)
        params = params_of(workload, _SENTINEL)
        head, tail = _around(params)
        del params["max_tokens"]
        question_head, question_tail = _around(params)
        return cls(prompt, head, tail, hashlib.sha256(question_head), question_tail, workload.model)

    def make(self, row: int, record_id: str, record: Mapping[str, Any]) -> Request | Rejection:
        """One record to one request, or the reason why not."""
        try:
            text = self.prompt.render(record)
            quoted = orjson.dumps(text)
        except Unusable as problem:
            return Rejection(row, record_id, problem.code, problem.detail)
        except (orjson.JSONEncodeError, UnicodeEncodeError):
            place = self.prompt.holding(_has_surrogate, record)
            return Rejection(row, record_id, "bad_unicode", f"{place} holds half a character (a lone surrogate)")
        if "\x00" in text:
            place = self.prompt.holding(lambda value: "\x00" in value, record)
            return Rejection(row, record_id, "control_char", f"{place} holds a NUL character")
        return Request(row, record_id, self.fingerprint(quoted), self.head + quoted + self.tail, self.model)

    def questions(self, texts: Sequence[str | None]) -> Questions:
        """The questions of many prompts; None stands for one that was refused."""
        asked = Questions([], [], [])
        question_tail, dumps, copy = self.question_tail, orjson.dumps, self.question.copy
        quote, finish = asked.quoted.append, asked.fingerprints.append
        for at, text in enumerate(texts):
            if text is None or "\x00" in text:
                asked.odd.append(at)
                continue
            try:
                quoted = dumps(text)
            except (orjson.JSONEncodeError, UnicodeEncodeError):
                asked.odd.append(at)
                continue
            question = copy()
            question.update(quoted)
            question.update(question_tail)
            quote(quoted)
            finish(question.digest())
        return asked

    def fingerprint(self, quoted: bytes) -> bytes:
        """The fingerprint of a prompt, given as a JSON string."""
        question = self.question.copy()
        question.update(quoted)
        question.update(self.question_tail)
        return bytes(question.digest())

    def quoted(self, request: Request) -> bytes:
        """The prompt of a request of this maker, as a JSON string."""
        return request.params[len(self.head) : len(request.params) - len(self.tail)]


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _around(params: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The canonical JSON of params before and after the prompt."""
    head, tail = orjson.dumps(params, option=orjson.OPT_SORT_KEYS).split(orjson.dumps(_SENTINEL))
    return head, tail


def params_of(workload: Workload, prompt: str) -> dict[str, Any]:
    """The Messages params of a prompt, as the workload wants them."""
    params: dict[str, Any] = {
        **workload.params,
        "model": workload.model,
        "max_tokens": workload.max_tokens,
        "messages": [{"role": "user", "content": prompt}],
    }
    if workload.system is not None:
        params["system"] = workload.system
    if workload.output is not None:
        config = dict(workload.params.get("output_config", {}))
        params["output_config"] = {**config, "format": {"type": "json_schema", "schema": enforceable(workload.output)}}
    return params


__all__ = ["NoMoment", "Prompt", "Rejection", "Request", "RequestMaker", "constant_head", "params_of"]
