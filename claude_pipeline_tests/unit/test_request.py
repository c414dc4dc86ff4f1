"""Records become requests, or the reason why not."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from claude_pipeline.errors import PromptInvalid
from claude_pipeline.request import NoMoment, Prompt, Rejection, Request, RequestMaker, params_of
from claude_pipeline_tests.factory import make_workload

SCHEMA = {"type": "object", "properties": {"queue": {"type": "string"}}, "required": ["queue"]}


def make(template: str, record: dict[str, Any], **changes: Any) -> Request | Rejection:
    workload = make_workload(prompt=template, **changes)
    return RequestMaker.of(workload, record).make(3, "n3", record)


def text_of(made: Request | Rejection) -> str:
    assert isinstance(made, Request), made
    content: str = json.loads(made.params)["messages"][0]["content"]
    return content


RENDERED: list[Any] = [
    pytest.param("{{ a }}, {{ b }}", {"a": "x", "b": 2}, "x, 2", id="columns"),
    pytest.param("{{ a.b.c }}", {"a": {"b": {"c": "deep"}}}, "deep", id="nested-fields"),
    pytest.param("{{ a[1] }}", {"a": ["x", "y"]}, "y", id="list-item"),
    pytest.param("{% for x in a %}{{ x }};{% endfor %}", {"a": [1, 2]}, "1;2;", id="loop"),
    pytest.param("{% if a is none %}-{% else %}{{ a }}{% endif %}", {"a": None}, "-", id="null-looked-at"),
    pytest.param("{{ a | default('none', true) }}", {"a": None}, "none", id="default-for-null"),
    pytest.param("{{ a or 'none' }}", {"a": None}, "none", id="or-for-null"),
    pytest.param("{{ a }}", {"a": "{{ b }} {% raise %}"}, "{{ b }} {% raise %}", id="template-in-data-is-text"),
    pytest.param("{{ a }}", {"a": "<b>&"}, "<b>&", id="no-escaping"),
    pytest.param("{{ a }}", {"a": "0"}, "0", id="zero-is-text"),
    pytest.param("{{ a }}: {{ b }}", {"a": "", "b": "x"}, ": x", id="one-of-two-is-empty"),
    pytest.param("{{ a or 'none' }}", {"a": ""}, "none", id="or-for-empty"),
    pytest.param("-{{ a | default('none', true) }}", {"a": ""}, "-none", id="default-for-empty"),
    pytest.param("{% if not a %}no text{% endif %}", {"a": ""}, "no text", id="empty-looked-at"),
    pytest.param("{{ a }} {{ b }}", {"a": 0, "b": False}, "0 False", id="falsy-values"),
    pytest.param("{{ a }}\n\n", {"a": "x"}, "x\n", id="last-newline-cut"),
    pytest.param("{{ a | tojson }}", {"a": {"k": 1}}, '{"k": 1}', id="filter"),
    pytest.param("{{ range }} {{ dict }}", {"range": "1-2", "dict": "d"}, "1-2 d", id="column-named-as-a-jinja-global"),
]


@pytest.mark.parametrize(("template", "record", "text"), RENDERED)
def test_a_record_is_rendered(template: str, record: dict[str, Any], text: str) -> None:
    assert text_of(make(template, record)) == text


@pytest.mark.parametrize(
    "template", ["{{ a }}", "100 % {{ a }} %s {{ b }}{{ a }}\n\n", "{ {{- a }} %(a)s {# told #} {{ b -}} \n}", "{% raw %}{{ a }}{% endraw %} {{ b }}{{ a }}"]
)  # fmt: skip
@given(
    a=st.text(min_size=1),
    b=st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_a_template_of_columns_gives_what_jinja_gives(template: str, a: str, b: Any) -> None:
    record = {"a": a, "b": b}
    assert Prompt(template, record).render({**record, "a": f"x{a}"}) == jinja(template, {**record, "a": f"x{a}"})


def jinja(template: str, record: dict[str, Any]) -> str:
    return ImmutableSandboxedEnvironment().from_string(template).render(record)


UNUSABLE: list[Any] = [
    pytest.param("{{ a }}", {"a": None}, "missing_text", "column a is null", id="null"),
    pytest.param("{{ a.b }}", {"a": {"b": None}}, "missing_text", "a column is null", id="nested-null"),
    pytest.param("{{ a.b }}", {"a": None}, "missing_text", "missing", id="field-of-null"),
    pytest.param("{{ a.b }}", {"a": {"c": 1}}, "missing_text", "a field that the prompt asks for", id="no-such-field"),
    pytest.param("{{ a }}", {"a": float("nan")}, "not_text", "column a is NaN", id="nan"),
    pytest.param("{{ a.b }}", {"a": {"b": float("-inf")}}, "not_text", "a column is infinite", id="nested-infinity"),
    pytest.param("{{ a }}", {"a": b"secret"}, "wrong_type", "column a holds bytes", id="bytes"),
    *(
        pytest.param(template, {"a": NoMoment()}, "wrong_type", "outside the years 1 to 9999", id=f"no-moment-{name}")
        for name, template in {
            "printed": "{{ a }}",
            "filter": "{{ a | upper }}",
            "joined": "{{ 'x' ~ a }}",
            "list": "{{ [a] | string }}",
        }.items()
    ),
    pytest.param("{{ a }}", {"a": ["secret"]}, "wrong_type", "write {{ a | join(', ') }}", id="list"),
    pytest.param(
        "{{ a }}", {"a": {"k": "secret"}}, "wrong_type", "write {{ a.field }} or {{ a | tojson }}", id="object"
    ),
    pytest.param("Sort: {{ a }}", {"a": ""}, "empty_text", "column a is empty", id="empty"),
    pytest.param(" {{ a | trim }}\n", {"a": " \u2003"}, "empty_text", "column a is empty", id="white-space"),
    pytest.param("{{ a }}: {{ b }}", {"a": "", "b": " "}, "empty_text", "columns a, b are empty", id="all-empty"),
    pytest.param("{% if a %}{{ a }}{% endif %}", {"a": ""}, "empty_prompt", "blank", id="empty-prompt"),
    pytest.param("{{ a }}", {"a": "x\ud800"}, "bad_unicode", "column a holds half a character", id="lone-surrogate"),
    pytest.param("{{ a }}", {"a": "x\x00y"}, "control_char", "column a holds a NUL", id="nul"),
    pytest.param("{{ a + 1 }}", {"a": "secret"}, "template_failed", "TypeError", id="template-fails"),
    pytest.param("{{ 1 // a }}", {"a": 0}, "template_failed", "ZeroDivisionError", id="division"),
    pytest.param("{{ a[b] }}", {"a": "secret", "b": "__class__"}, "template_failed", "SecurityError", id="dunder-item"),
    pytest.param("{{ a | attr(b) }}", {"a": "secret", "b": "__class__"}, "template_failed", "", id="dunder-attr"),
    pytest.param(
        "{% for b in a %}{{ c }}{% endfor %}",
        {"a": [1] * 100, "c": "x" * 999_999},
        "too_large",
        "over 20,000,000",
        id="too-large",
    ),
    pytest.param("{{ a }}{{ a }}{{ a }}", {"a": "x" * 7_000_000}, "too_large", "over 20,000,000", id="too-large-plain"),
    pytest.param("{{ a | upper }}", {"a": None}, "missing_text", "column a is null", id="null-in-a-filter"),
    pytest.param("{{ 'x: ' ~ a }}", {"a": None}, "missing_text", "column a is null", id="null-joined"),
    pytest.param("{{ '%s' % a }}", {"a": None}, "missing_text", "column a is null", id="null-formatted"),
    pytest.param("{{ '%s'|format(a) }}", {"a": None}, "missing_text", "column a is null", id="null-in-format-filter"),
    pytest.param("{{ '{}'.format(a) }}", {"a": None}, "missing_text", "column a is null", id="null-in-format"),
    pytest.param("{{ a | join(',') }}", {"a": ["x", None]}, "missing_text", "a column is null", id="null-in-a-list"),
    pytest.param(
        "{{ ','.join(a) }}", {"a": ["x", None]}, "missing_text", "a column is null", id="null-in-a-joined-list"
    ),
    pytest.param("{{ a.upper }}", {"a": "secret"}, "not_text", "call a method with ()", id="method-not-called"),
    pytest.param("{{ a | map('upper') }}", {"a": ["secret"]}, "not_text", "end a chain with | list", id="generator"),
]


@pytest.mark.parametrize(("template", "record", "code", "detail"), UNUSABLE)
def test_an_unusable_record_is_rejected_without_its_text(
    template: str, record: dict[str, Any], code: str, detail: str
) -> None:
    made = make(template, record)
    assert isinstance(made, Rejection)
    assert (made.row, made.record_id) == (3, "n3")
    assert made.code in code.split("|")
    assert detail in made.detail
    assert "secret" not in made.detail


def test_an_escaped_nul_in_the_text_is_no_nul() -> None:
    assert text_of(make("{{ a }}", {"a": "\\u0000"})) == "\\u0000"


REFUSED: list[Any] = [
    pytest.param("{{ txt }}", r"asks for \{\{ txt \}\}, but the records have only text, stars", id="no-such-column"),
    pytest.param("{{ text", "line 1: unexpected end of template", id="syntax"),
    pytest.param("a\n{% include 'x' %}", "line 2: include is not allowed", id="include"),
    pytest.param("{% import 'x' as x %}", "import is not allowed", id="import"),
    pytest.param("{% from 'x' import y %}", "fromimport is not allowed", id="from-import"),
    pytest.param("{% extends 'x' %}", "extends is not allowed", id="extends"),
    pytest.param("{{ text.__class__ }}", "'__class__' is not allowed", id="dunder"),
    pytest.param("{{ text['__class__'] }}", "'__class__' is not allowed", id="dunder-item"),
    pytest.param("{{ ''|attr('__class__') }}", "'__class__' is not allowed", id="dunder-attr"),
    pytest.param("{{ '{0.__class__}'.format(text) }}", "a field of format that begins with _", id="dunder-format"),
    pytest.param("{{ [1, 2] | random }}", "random is not allowed: a record must be the same", id="chance"),
    pytest.param("{{ lipsum() }}", r"asks for \{\{ lipsum \}\}", id="chance-of-words"),
    pytest.param("{{ " + "(" * 3000 + ")" * 3000 + " }}", "cannot be compiled", id="nested-too-deeply"),
    pytest.param("{% for a in text %}" * 30 + "{% endfor %}" * 30, "cannot be compiled", id="too-many-loops-in-loops"),
    pytest.param("{{ 1" + "0" * 5000 + " }}", "cannot be compiled", id="a-number-of-5000-digits"),
    pytest.param("{{ text }}" * 20_000, "parts; a template has at most 20,000", id="too-many-parts"),
    pytest.param("x" * 1_000_001, "is 1,000,001 characters", id="too-long"),
    pytest.param("{{ text._private }}", "'_private' is not allowed", id="underscore"),
    pytest.param("{{ text | nofilter }}", "No filter named 'nofilter'", id="no-such-filter"),
]


@pytest.mark.parametrize(("template", "sentence"), REFUSED)
def test_a_template_that_cannot_work_is_refused_before_any_record(template: str, sentence: str) -> None:
    with pytest.raises(PromptInvalid, match=f"w.yaml: prompt.*{sentence}"):
        Prompt(template, ["text", "stars"], place="w.yaml: prompt")


def test_only_the_columns_that_are_asked_for_are_read() -> None:
    assert Prompt("{{ b }} {% set c = 1 %}{{ c }}", ["a", "b", "c"]).columns == ("b",)


def test_a_column_named_as_a_jinja_global_is_read_like_any_other() -> None:
    # It was left out, and each prompt held `<class 'range'>` instead of the record's value.
    assert Prompt("{{ range }} {{ text }}", ["text", "range"]).columns == ("text", "range")
    assert Prompt("{% for n in range(2) %}{{ text }}{% endfor %}", ["text"]).columns == ("text",)


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1).filter(str.strip))
def test_params_are_canonical_json_of_what_was_meant(text: str) -> None:
    workload = make_workload(
        prompt="-{{ text }}", system="Sört.", params={"stop_sequences": ["z"], "metadata": {"user_id": "u"}},
        output=SCHEMA,
    )  # fmt: skip
    made = RequestMaker.of(workload, ["text"]).make(0, "n0", {"text": text})
    assert isinstance(made, Request)
    meant = params_of(workload, text_of(made))
    assert json.loads(made.params) == meant
    assert made.params == json.dumps(meant, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    del meant["max_tokens"]
    question = json.dumps(meant, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert made.fingerprint == hashlib.sha256(question).digest()


def test_equal_questions_have_one_fingerprint_whatever_the_record() -> None:
    maker = RequestMaker.of(make_workload(), ["text", "other"])
    made = [maker.make(n, f"n{n}", {"text": "same", "other": n}) for n in range(2)]
    assert len({request.fingerprint for request in made if isinstance(request, Request)}) == 1


def test_how_long_an_answer_may_be_is_not_part_of_the_question() -> None:
    record = {"text": "x"}
    short, long = (RequestMaker.of(make_workload(max_tokens=n), record).make(0, "n0", record) for n in (64, 128))
    assert isinstance(short, Request)
    assert isinstance(long, Request)
    assert short.fingerprint == long.fingerprint
    assert short.params != long.params


CHANGES: list[dict[str, Any]] = [{"model": "claude-sonnet-5-5"}, {"system": "x"}, {"prompt": "S{{ text }}"},
    {"output": SCHEMA}, {"params": {"service_tier": "auto"}}]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=[next(iter(change)) for change in CHANGES])
def test_whatever_changes_the_question_changes_the_fingerprint(change: dict[str, Any]) -> None:
    record = {"text": "x"}
    before, after = (
        RequestMaker.of(workload, record).make(0, "n0", record)
        for workload in (make_workload(), make_workload(**change))
    )
    assert isinstance(before, Request)
    assert isinstance(after, Request)
    assert before.fingerprint != after.fingerprint


def test_a_prompt_that_looks_like_the_gap_in_the_params_is_only_text() -> None:
    tricky = '","role":"user"}],"model":"x'
    assert text_of(make("{{ a }}", {"a": tricky}, system=tricky)) == tricky


def test_output_joins_other_output_config() -> None:
    workload = make_workload(output=SCHEMA, params={"output_config": {"effort": "low"}})
    config = params_of(workload, "x")["output_config"]
    assert config["effort"] == "low"
    assert config["format"] == {"type": "json_schema", "schema": {**SCHEMA, "additionalProperties": False}}
