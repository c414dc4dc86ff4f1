"""What one record may cost is bounded, whatever the template does; what prompts do is not touched by the bound."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest

from claude_pipeline.errors import PromptInvalid
from claude_pipeline.request import Prompt
from claude_pipeline.template import Template, Unusable

RECORD: dict[str, Any] = {
    "text": "x\t,a\n" * 2_000,
    "big": "y" * 1_000_000,
    "items": [{"n": n, "t": "word"} for n in range(200)],
    "n": 7,
}
SECONDS_MAX = 4.0  # of this process's time; a second on a machine that does nothing else
GROWTH_MAX_MB = 400

GROWS = "{% set ns = namespace(a=VALUE) %}{% for i in range(60) %}{% set ns.a = EXPRESSION %}{% endfor %}{{ ns.a }}"


def growing(value: str, expression: str) -> str:
    return GROWS.replace("VALUE", value).replace("EXPRESSION", expression)


RUNAWAYS: list[Any] = [
    pytest.param("{{ 'a' * 200000000 }}", id="a-text-times-a-number"),
    pytest.param("{{ 200000000 * text }}", id="a-number-times-a-text"),
    pytest.param("{{ ([big] * 1000) | string }}", id="a-list-times-a-number"),
    pytest.param("{% for i in range(3000) %}{% for j in range(3000) %}x{% endfor %}{% endfor %}", id="loops-in-loops"),
    pytest.param("{% for i in range(90000) %}{% for j in range(90000) if 0 %}{% endfor %}{% endfor %}", id="filtered-loops"),
    pytest.param("{% for i in range(9) recursive %}{% if loop.depth < 9 %}{{ loop(range(9)) }}{% endif %}{% endfor %}", id="a-loop-in-itself"),
    pytest.param("{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}", id="macros"),
    pytest.param("{% macro m() %}{% for i in range(90000) %}{{ big }}{% endfor %}{% endmacro %}{{ m() }}", id="a-macro-of-loops"),
    pytest.param("{% set x %}{% for i in range(90000) %}{{ big }}{% endfor %}{% endset %}{{ x }}", id="a-set-block"),
    pytest.param("{% filter upper %}{% for i in range(90000) %}{{ big }}{% endfor %}{% endfilter %}", id="a-filter-block"),
    pytest.param("{{ 10 ** 100000000 }}", id="power"),
    pytest.param(growing("9", "ns.a * ns.a"), id="squares"),
    pytest.param(growing("'a'", "ns.a ~ ns.a"), id="doubling-with-tilde"),
    pytest.param(growing("'a'", "ns.a + ns.a"), id="doubling-with-plus"),
    pytest.param(growing("[1]", "[ns.a, ns.a]"), id="lists-in-lists"),
    pytest.param(growing("(1,)", "{1: ns.a, 2: ns.a}"), id="mappings-in-mappings"),
    pytest.param("{{ '%1000000000d' % 1 }}", id="percent-width"),
    pytest.param("{{ '%*d' % (1000000000, 1) }}", id="percent-width-of-a-value"),
    pytest.param("{{ '%.1000000000f' | format(1.5) }}", id="percent-precision"),
    pytest.param("{{ '{:1000000000}'.format(1) }}", id="format-width"),
    pytest.param("{{ '{0:{1}}'.format(1, 1000000000) }}", id="format-width-of-a-value"),
    pytest.param("{{ '{x:>1000000000}'.format_map({'x': 1}) }}", id="format-map-width"),
    pytest.param("{{ 'a' | center(1000000000) }}", id="center"),
    pytest.param("{{ 'a'.ljust(1000000000) }}", id="ljust"),
    pytest.param("{{ ['a'] | map('center', 1000000000) | list }}", id="center-by-map"),
    pytest.param("{{ text.expandtabs(10000000) }}", id="expandtabs"),
    pytest.param("{{ text | indent(100000000) }}", id="indent"),
    pytest.param("{{ big | replace('y', big) }}", id="replace"),
    pytest.param("{{ big | replace(new=big, old='y') }}", id="replace-by-name"),
    pytest.param("{{ big.replace('y', big) }}", id="replace-method"),
    pytest.param("{{ items | join(big) }}", id="join"),
    pytest.param("{{ items | map(attribute='t') | join(big) }}", id="join-of-a-map"),
    pytest.param("{{ big.join(big) }}", id="join-method"),
    pytest.param("{{ [1] | batch(1000000000, 'x') | list }}", id="batch"),
    pytest.param("{{ items | slice(1000000000) | list }}", id="slice"),
    pytest.param("{{ items | tojson(indent=100000000) }}", id="tojson-indent"),
    pytest.param("{{ big | wordwrap(1, wrapstring=big) }}", id="wordwrap"),
    pytest.param("{{ text.translate({10: big}) }}", id="translate"),
    pytest.param("{{ (1).to_bytes(1000000000, 'big') }}", id="to-bytes"),
    pytest.param("{% for i in range(90000) %}{% if 'z' in big %}{% endif %}{% endfor %}", id="searching-in-a-loop"),
    pytest.param("{% for i in range(90000) %}{% if big[1:] %}{% endif %}{% endfor %}", id="slicing-in-a-loop"),
    pytest.param("{% for i in range(90000) %}{% if big | upper %}{% endif %}{% endfor %}", id="filtering-in-a-loop"),
    pytest.param("{% set l = [big] * 20 %}{% for i in range(90000) %}{% if l | string %}{% endif %}{% endfor %}", id="text-of-a-list-in-a-loop"),
    pytest.param("{% for i in range(90000) %}{% if big.split('y') %}{% endif %}{% endfor %}", id="calling-in-a-loop"),
]  # fmt: skip


@pytest.mark.parametrize("template", RUNAWAYS)
def test_a_template_that_does_too_much_ends_soon_and_in_little_memory(template: str) -> None:
    prompt = Prompt(template, RECORD)
    began, most = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Unusable) as refused:
        prompt.render(RECORD)
    assert refused.value.code == "too_much_work"
    assert time.process_time() - began < SECONDS_MAX
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) / 1024 < GROWTH_MAX_MB


WITHIN: list[Any] = [
    pytest.param("{% for x in items %}{{ x.n }}/{{ loop.length }}{{ ', ' if not loop.last }}{% endfor %}", 1688, id="a-loop"),
    pytest.param("{{ items | map(attribute='t') | join(', ') }}", 1198, id="a-joined-map"),
    pytest.param("{{ items | tojson }}", 4890, id="json"),
    pytest.param("{{ text | replace('\\t', ' ') | truncate(500) }}", 499, id="truncate"),
    pytest.param("{{ text.split(',') | first }}|{{ '%05.2f of %s' | format(3.14159, n) }}", 13, id="methods-and-formats"),
    pytest.param("{{ n * 3 }} {{ 10 ** 3 }} {{ n % 4 }} {{ 'ab' * 3 }} {{ 'a' ~ (n + 1) }}", 19, id="arithmetic"),
    pytest.param("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(n) }}{% set y %}{{ m(1) }}{% endset %}{{ y }}", 6, id="macros"),
    pytest.param("{% for k, v in items[3].items() %}{{ k }}={{ v }};{% endfor %}", 11, id="a-mapping"),
    pytest.param("{{ big }}{{ big | upper }}", 2_000_000, id="a-large-text"),
    pytest.param("{{ items | selectattr('n', 'gt', 197) | map(attribute='n') | join(' ') }}", 7, id="selected"),
    pytest.param("{% for group in items | groupby('t') %}{{ group.list | length }}{% endfor %}", 3, id="grouped"),
]  # fmt: skip


@pytest.mark.parametrize(("template", "length"), WITHIN)
def test_what_prompts_do_stays_within_the_bound(template: str, length: int) -> None:
    assert len(Prompt(template, RECORD).render(RECORD)) == length


def test_the_budget_is_each_records_own() -> None:
    prompt = Prompt("{% for i in range(90000) %}{% endfor %}{{ n }}", RECORD)
    assert [prompt.render(RECORD) for _ in range(4)] == ["7"] * 4


@pytest.mark.parametrize("template", ["{{ " + "[" * 50 + "text" + "]" * 50 + " }}", "{{ " + "-" * 200 + "1 }}"])
def test_a_template_nested_too_deeply_is_refused_before_it_is_compiled(template: str) -> None:
    """Jinja folds constants at each level again: fifty of them took two seconds, a hundred did not end."""
    with pytest.raises(PromptInvalid, match="is nested more than 45 deep; write it flatter"):
        Template(template, str)


def test_a_macro_in_itself_ends() -> None:
    with pytest.raises(Unusable, match="RecursionError"):
        Prompt("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", RECORD).render(RECORD)
