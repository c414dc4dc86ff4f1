"""Prompt templates that are not what they should be: cases D01 to D12 of the catalogue of bad inputs, and further ones.

What a template may cost for one record is tested at length in `unit/test_template.py`; here is what people see of it.
D12 in the batch lane (chunks that run go on with the old text) is `integration/test_changed_workload.py`.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from claude_pipeline_tests.bad_input.ground import CANARY, Ground, Reason, Refusal, good_rows, row

IDS = [f"D{number:02}" for number in range(1, 13)]
MADE: set[str] = set()
PROMPT = r"notes\.yaml: prompt"


def case(ident: str, *values: Any) -> Any:
    MADE.add(ident[:3])
    return pytest.param(*values, id=ident)


AT_ONCE: list[Any] = [
    case("D02", "a\n\n{{ text", Refusal(f"{PROMPT} line 3: ", "unexpected end of template", "end")),
    case("D02-block", "{% if text %}x", Refusal(f"{PROMPT} line 1: ", "Unexpected end of template", "endif")),
    case("D02-filter", "{{ text | nofilter }}", Refusal(f"{PROMPT} line 1: ", "No filter named 'nofilter'", "named")),
    case(
        "D03",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        Refusal(f"{PROMPT} line 1: ", "'__globals__' is not allowed", "no part of a record"),
    ),
    case("D03-item", "{{ text['__class__'] }}", Refusal(PROMPT, "'__class__' is not allowed", "no part of a record")),
    case("D04", "{{ ''|attr('__class__') }}", Refusal(PROMPT, "'__class__' is not allowed", "no part of a record")),
    case(
        "D04-format", "{{ '{0.__class__}'.format('') }}", Refusal(PROMPT, "begins with _ is not allowed", "of a record")
    ),
    case("D07", "{% include '/etc/passwd' %}", Refusal(PROMPT, "include is not allowed", "a prompt is one template")),
    case("D07-import", "{% import 'os' as os %}", Refusal(PROMPT, "import is not allowed", "a prompt is one template")),
    case(
        "D11",
        "{{ '{r.m.__globals__}'.format(r=text) }}",
        Refusal(PROMPT, "a field of format that begins with _ is not allowed", "no part of a record"),
    ),
    case("D13-random", "{{ [text] | random }}", Refusal(PROMPT, "random is not allowed", "the same question each time")),
    case("D14-nested", "{{ " + "(" * 3000 + ")" * 3000 + " }}", Refusal(PROMPT, "cannot be compiled", "nest less")),
    case("D15-key", "sk-ant-api03-" + "a" * 40, Refusal("notes.yaml: prompt:", "holds an API key", "revoke it")),
    case("D16-nul", "{{ text }}\0", Refusal("notes.yaml: prompt:", "NUL character", "take it out")),
    case("D17-parts", "{{ text }}" * 20_000, Refusal(PROMPT, "has .* parts", "at most 20,000")),
]  # fmt: skip


@pytest.mark.parametrize(("template", "refusal"), AT_ONCE)
def test_a_template_that_cannot_be_is_refused_when_its_file_is_read(
    ground: Ground, template: str, refusal: Refusal
) -> None:
    ground.rows("notes.jsonl", good_rows(2))
    ground.refused(ground.run(ground.workload(prompt=template)), refusal)


FILES: list[Any] = [
    case("D10-missing", None, Refusal("notes.yaml: prompt_file: ", r"cannot read .*p\.j2 \(No such file", "name a text file")),
    case("D10-empty", b" \n", Refusal("notes.yaml: prompt_file: ", r"p\.j2 is empty", "write the prompt into it")),
    case("D10-latin-1", b"caf\xe9 {{ text }}", Refusal("prompt_file: ", r"not UTF-8 \(byte 0xE9 at offset 3\)", "convert it")),
    case("D10-large", b"x" * 4_000_001, Refusal(r"p\.j2: ", "is 4,000,001 characters", "has at most 1,000,000")),
    case("D10-syntax", b"\n\n{{ text", Refusal(r"p\.j2 line 3: ", "unexpected end of template", "end")),
]  # fmt: skip


@pytest.mark.parametrize(("content", "refusal"), FILES)
def test_a_template_file_that_cannot_be_used_is_refused(
    ground: Ground, content: bytes | None, refusal: Refusal
) -> None:
    ground.rows("notes.jsonl", good_rows(2))
    if content is not None:
        ground.put("p.j2", content)
    ground.refused(ground.run(ground.workload(prompt=None, prompt_file="p.j2")), refusal)


OVER_RECORDS: list[Any] = [
    case("D01", "{{ nope }}", Refusal(PROMPT, r"asks for \{\{ nope \}\}", "have only id, text")),
    case("D05", "{{ 'a' * 200000000 }} {{ text }}", Refusal(PROMPT, "does too much for one record", "make it simpler")),
    case("D05-width", "{{ '%999999999s' | format(text) }}", Refusal(PROMPT, "does too much", "make it simpler")),
    case("D05-power", "{{ 9 ** 99999999 }} {{ text }}", Refusal(PROMPT, "does too much", "make it simpler")),
    case(
        "D06",
        "{% for i in range(3000) %}{% for j in range(3000) %}{{ text }}{% endfor %}{% endfor %}",
        Refusal(PROMPT, r"does too much for one record.*in 1 of the first 1 records", "make it simpler"),
    ),
    case("D06-range", "{% for i in range(10**9) %}{{ text }}{% endfor %}", Refusal("", "template_failed 4", "mend the")),
    case("D08", "Say hello.", Refusal(PROMPT, "names no column, so all 4 records would be one question", r"\{\{ text \}\}")),
    case("D18-uncalled", "{{ text.upper }}", Refusal("", "not_text 4.*is no value", r"call a method with \(\)")),
    case("D19-generator", "{{ [text] | map('upper') }}", Refusal("", "not_text 4", r"end a chain with \| list")),
    case("D20-lipsum", "{{ lipsum() }} {{ text }}", Refusal(PROMPT, r"asks for \{\{ lipsum \}\}", "have only id, text")),
]  # fmt: skip


@pytest.mark.parametrize(("template", "refusal"), OVER_RECORDS)
def test_a_template_that_fails_over_records_is_refused_before_anything_is_paid(
    ground: Ground, template: str, refusal: Refusal
) -> None:
    ground.rows("notes.jsonl", good_rows(4))
    began = time.process_time()
    said = ground.plan(ground.workload(prompt=template), "--offline")
    assert time.process_time() - began < 10
    ground.refused(said, refusal)


def test_a_run_refuses_as_its_plan_does(ground: Ground) -> None:
    ground.rows("notes.jsonl", good_rows(4))
    said = ground.run(ground.workload(prompt="{{ text * 200000000 }}"))
    ground.refused(said, Refusal(PROMPT, "does too much for one record", "make it simpler"))


@pytest.mark.parametrize("ident", [case("D09", "D09")])
def test_records_whose_prompt_is_blank_or_null_or_too_much_are_kept_aside(ground: Ground, ident: str) -> None:
    rows = [*good_rows(3), row("blank", text=" \n"), row("null", text=None), row("long", text=f"{CANARY} " * 200_000)]
    ground.rows("notes.jsonl", rows)
    template = (
        "{{ text | trim ~ '' }}{% for word in text.split(' ') %}{% if word | length > 99 %}!{% endif %}{% endfor %}"
    )
    said = ground.run(ground.workload(prompt=template, max_reject_ratio=0.6))
    ground.quarantined(
        said,
        delivered=3,
        rejected={
            "blank": Reason("empty_prompt", "", ""),
            "null": Reason("missing_text", "column text is null", ""),
            "long": Reason("too_much_work", "make it simpler", ""),
        },
    )


@pytest.mark.parametrize("ident", [case("D12", "D12")])
def test_an_edited_template_asks_anew_and_pays_nothing_twice(ground: Ground, ident: str) -> None:
    ground.rows("notes.jsonl", good_rows(2))
    file = ground.workload(prompt_file="p.j2", prompt=None)
    ground.put("p.j2", "Sort: {{ text }}")
    ground.accepted(ground.run(file), delivered=2)
    ground.put("p.j2", "Order: {{ text }}")
    ground.accepted(ground.run(file), delivered=2)
    assert ground.calls("messages") == 4


def test_every_case_of_the_catalogue_is_here() -> None:
    assert sorted(MADE & set(IDS)) == IDS
