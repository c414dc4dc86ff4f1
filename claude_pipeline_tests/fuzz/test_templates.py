"""Any template over any record: a request, a rejection without the record's text, or a refusal; and soon."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from claude_pipeline.errors import PromptInvalid, WorkloadInvalid
from claude_pipeline.request import Rejection, Request, RequestMaker, constant_head
from claude_pipeline_tests.factory import make_workload
from claude_pipeline_tests.fuzz.claim import SECONDS_MAX, claim
from claude_pipeline_tests.fuzz.value import CANARY, FLOATS, MARKED, SCALARS, WHOLE, WIDE, nested

COLUMNS = ("id", "text", "stars", "tags", "größe", "range", "loop", "self", "a b")
PROMPT_CHARACTERS_MAX = 20_000_000

_EXPRESSIONS = st.sampled_from(
    ["text", "stars", "tags", "range", "loop", "self", "größe", "nope", "text[0]", "tags.x", "tags['x'][0]", "text.upper()",
     "stars + 1", "stars / 0", "text * 3", "-text", "text < stars", "text ~ stars", "not text", "1 if text", "{'a': text}", "[text]",
     "text | length", "text | int", "text | default('x')", "tags | join(',')", "tags | tojson", "text | attr('upper')",
     "tags | map(attribute='x') | list", "tags | sum", "tags | sort", "stars | round(400)", "text | batch(2)", "tags | random",
     "text.__class__", "text['__class__']", "text|attr('__init__')", "().__class__.__bases__", "'{0.__class__}'.format(text)",
     "'%s' % text", "'%(x)s' % tags", "'{:>9}'.format(stars)", "text.format(1)", "text.format_map(tags)", "namespace(a=1).a",
     "cycler('a').next()", "joiner()()", "lipsum(n=1)", "dict(a=text)", "range(3) | list", "range(10**6)", "10**400",
     "text | truncate(3)", "text | wordwrap(1)", "text | urlize", "text | xmlattr", "tags | xmlattr", "text | e", "text | safe",
     "caller()", "varargs", "super()", "self.x()", "loop.index", "_", "__import__('os')", "text | nofilter", "text is nosuch",
     "text | int(base=99)", "stars is divisibleby 0", "text | replace('a', 'b', 'c')", "tags | groupby('x')", "tags | tojson(indent='x')",
     "text.encode('nope')", "text.encode()", "text | indent(width='x')", "tags | dictsort", "text | pprint", "(1).__add__(1)", "stars.real"],
)  # fmt: skip
_STATEMENTS = st.sampled_from(
    ["{% for x in tags %}", "{% for x, y in tags %}", "{% for x in text recursive %}", "{% endfor %}", "{% if text %}", "{% elif stars %}",
     "{% else %}", "{% endif %}", "{% set a = text %}", "{% set a %}", "{% endset %}", "{% macro m(x, *y) %}", "{% endmacro %}",
     "{% call m(1) %}", "{% endcall %}", "{{ m(text) }}", "{{ loop(tags) }}", "{% filter upper %}", "{% endfilter %}", "{% block x %}",
     "{% endblock %}", "{% raw %}", "{% endraw %}", "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% with a = 1 %}",
     "{% endwith %}", "{% autoescape true %}", "{% do x %}", "{% break %}", "{# c #}", "{#", "{{", "}}", "{%", "%}", "{%- ", " -%}",
     "{% set ns = namespace(x=0) %}", "{% set ns.x = 1 %}", "{% set loop = 1 %}", "{% for range in range %}"],
)  # fmt: skip
_PIECES = st.one_of(
    _EXPRESSIONS.map(lambda inner: f"{{{{ {inner} }}}}"), _STATEMENTS, st.sampled_from(["a", " ", "\n", "\x00", "é"])
)
_DEEP = st.builds(
    lambda depth, form: "{{ " + form[0] * depth + "text" + form[1] * depth + " }}",
    st.sampled_from([5, 15]),
    st.sampled_from(
        [("(", ")"), ("[", "]"), ("-", ""), ("not ", ""), ("", "|e"), ("", "[0]"), ("text if text else ", "")]
    ),
)
_WELL = st.builds(
    lambda inner, after: f"{{% for x in tags %}}{{{{ {inner} }}}}{{% endfor %}}{{{{ {after} }}}} {{{{ text }}}}",
    _EXPRESSIONS,
    _EXPRESSIONS,
)
# Each of these would take minutes, or all memory, if nothing bounded it.
_ENDLESS = st.sampled_from(
    ["{{ 9 ** 9 ** 9 }}", "{{ stars ** 99999999 }}", "{{ 'a' * 30000000000 }}", "{{ [0] * 30000000000 }}",
     "{{ text * 30000000 * 30000000 }}", "{{ '%0*d' % (30000000000, 1) }}", "{{ '%30000000000d' % 1 }}",
     "{{ '{:30000000000}'.format(1) }}", "{{ text | center(30000000000) }}", "{{ text.ljust(30000000000) }}",
     "{{ text | indent(30000000000, first=true) }}", "{{ range(99999) | list * 99999 }}", "{{ lipsum(n=99999999) }}",
     "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}{{ text }}",
     "{% for a in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
     "{% set ns = namespace(x=text) %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
     "{% set ns = namespace(x=text) %}{% for a in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
     "{% set ns = namespace(x=[1]) %}{% for a in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
     "{% set ns = namespace(x=9) %}{% for a in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ text }}",
     "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
     "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}{{ text }}",
     "{% for x in [[1]] recursive %}{{ loop([[1], [2]]) }}{{ loop([[1], [2]]) }}{% endfor %}",
     "{{ 1 << 99999999999 }}", "{{ (text * 999) | replace('', text * 999) | replace('', text * 9999) }}"],
)  # fmt: skip
TEMPLATES = st.one_of(st.lists(_PIECES, min_size=1, max_size=8).map("".join), _WELL, _DEEP)

_LEAVES = st.one_of(SCALARS, WIDE, MARKED, st.sampled_from(
    [b"\xff", date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.5"), float("nan"), float("inf"), "\ud800"],
))  # fmt: skip
RECORDS = st.fixed_dictionaries(
    {"id": MARKED, "text": MARKED | st.none() | _LEAVES, "stars": WHOLE | FLOATS | _LEAVES, "tags": nested(_LEAVES)},
    optional=dict.fromkeys(COLUMNS[4:], _LEAVES),
)


def check_template(template: str, record: dict[str, Any]) -> None:
    whole = {name: record.get(name) for name in COLUMNS}
    started = time.perf_counter()
    try:
        maker = RequestMaker.of(make_workload(prompt=template), COLUMNS)
        constant_head(template)
    except (PromptInvalid, WorkloadInvalid) as refused:
        assert "\n" not in str(refused)
        assert len(str(refused)) < 1_000
        assert time.perf_counter() - started < SECONDS_MAX
        return
    made = maker.make(0, "n0", whole)
    assert time.perf_counter() - started < SECONDS_MAX
    if isinstance(made, Rejection):
        assert CANARY not in made.detail
        assert "\n" not in made.detail
        return
    assert isinstance(made, Request)
    text = json.loads(made.params)["messages"][0]["content"]
    assert text.strip()
    assert len(text) <= PROMPT_CHARACTERS_MAX
    assert "\x00" not in text
    # Asking again asks the same: else a second plan of the same records would pay for all of them once more.
    assert maker.make(1, "n1", whole) == made._replace(row=1, record_id="n1")


@claim(150, template=TEMPLATES, record=RECORDS)
def test_any_template_makes_a_request_a_rejection_or_a_refusal(template: str, record: dict[str, Any]) -> None:
    if template.strip():
        check_template(template, record)


@claim(30, template=_ENDLESS, record=RECORDS)
def test_a_template_without_end_is_cut_short(template: str, record: dict[str, Any]) -> None:
    check_template(template, record)
