"""Chat templates run with limits, and only what they write themselves counts as markup."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chat.prompts import jinja_budget
from chat.prompts.jinja_sandbox import TemplateFailedError, render, variables_of
from chat.prompts.traced_text import DATA, TEMPLATE, TracedText, origins_of

NEST = "{% set ns = namespace(a=['x'], b=['x'], t=(1, 2)) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
NEST += "{% set ns.b = [ns.b, ns.b] %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}"
LONG = "{% set s = 'x' * 100000 %}"

STOPPED = {
    "steps": (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        *(
            NEST + use
            for use in (
                "{{ ns.a }}",
                "{{ ns.a | tojson }}",
                "{{ ns.a == ns.b }}",
                "{{ ns.a in [ns.b] }}",
                "{{ ns.a is eq(ns.b) }}",
                "{{ cycler(*'x' * 10**7) }}",
                "{{ ('x' * 10**7) | join('y') }}",
                "{{ {ns.t: 1} }}",
                "{{ {}[ns.t] }}",
                "{{ {}.get(ns.t) }}",
                "{{ [ns.a, ns.b] | sort }}",
                "{{ ns.a ~ '' }}",
                "{{ '{}'.format(ns.a) }}",
                "{{ '%s' % (ns.a,) }}",
                "{{ [ns.a, ns.b] | unique | list }}",
            )
        ),
    ),
    "characters": (
        "{{ 'x' * 10**12 }}",
        "{{ 10**12 * 'x' }}",
        "{{ [0] * 10**12 }}",
        "{{ [0] * 5000000 }}",
        "{{ ('x' * 5000000).replace('x', '') }}",
        "{{ ('x' * 5000000) | replace('x', 'y') }}",
        "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        *(
            LONG + use
            for use in (
                "{{ ('a ' * 10**7).split() | length }}",
                "{{ ('\n' * 10**7).splitlines() | length }}",
                "{{ ('\n' * 10**6) | indent(9999, true, true) }}",
                "{{ ('\t' * 10**6).expandtabs(9999) }}",
                "{{ [range(9999) | list] | tojson(indent=9999) }}",
                "{{ s.replace('', s) }}",
                "{{ s | replace('x', s) }}",
                "{{ range(9999) | join(s) }}",
                "{{ s.join(range(999) | map('string')) }}",
                "{% for i in range(9999) %}{{ s }}{% endfor %}",
            )
        ),
    ),
    "width": (
        "{{ 5 | round(-10**9) }}",
        "{{ 'x' | center(10**9) }}",
        "{{ 'x'.ljust(10**9) }}",
        "{{ 'x'.zfill(10**9) }}",
        "{{ '\t'.expandtabs(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format('x') }}",
        "{{ '{0:{1}}'.format('x', '1000000000') }}",
        "{{ [1] | tojson(indent=10**9) }}",
        "{{ [1] | batch(10**9, 0) | list }}",
        "{{ [1] | slice(10**9) | list }}",
        "{{ 'x' | indent(10**9, true) }}",
        "{{ strftime_now('%1000000000Y') }}",
        "{{ ['x'] | map('center', 10**9) | list }}",
    ),
    "range": ("{% for i in range(10**9) %}{% endfor %}", "{{ range(10**9) | list }}"),
    "bits": (
        "{{ 10 ** 10000 }}",
        "{{ ('f' * 10**5) | int(base=16) }}",
        "{% set ns = namespace(x=3) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    ),
    "nested too deeply": (
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in [[1]] recursive %}{{ loop([a]) }}{% endfor %}",
        "{% block a %}{{ self.a() }}{% endblock %}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% for i in [1] %}" * 30 + "{% endfor %}" * 30,
        "{% if 1 %}" * 300 + "{% endif %}" * 300,
        "{{ 1" + "|string" * 5000 + " }}",
    ),
    "characters, more than": ("x" * 300_000,),
}
BOMBS = [(template, words) for words, templates in STOPPED.items() for template in templates]


@pytest.mark.slow
@pytest.mark.parametrize(("template", "words"), BOMBS, ids=range(len(BOMBS)))
def test_a_bomb_is_stopped_with_one_line(template: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja_budget, "MOST_STEPS", 20_000)
    with pytest.raises(TemplateFailedError, match=words) as caught:
        render(template, {"messages": []})
    assert caught.value.is_final and "\n" not in str(caught.value)
    assert render("{{ 1 }}", {}) == "1"


def test_time_is_limited_where_steps_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja_budget, "MOST_SECONDS", -1.0)  # Windows counts in steps of 16 ms
    with pytest.raises(TemplateFailedError, match="it takes more than -1 seconds"):
        render("{% for i in range(9999) %}{% endfor %}", {})


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ ''.__class__.__mro__ }}", "line 1: access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ messages.__class__.__base__ }}", "access to attribute '__class__' of 'list' object is unsafe"),
        ("\n{{ namespace.__init__.__globals__ }}", "line 2: access to attribute '__init__'"),
        ("{{ [].append(1) }}", "access to attribute 'append' of 'list' object is unsafe"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "a namespace cannot hold '__class__'"),
        ("{{ 'x'.encode() * 10**10 }}", "access to attribute 'encode' of 'str' object is unsafe"),
        ("{{ (1).to_bytes(10**10) }}", "access to attribute 'to_bytes' of 'int' object is unsafe"),
        ("{{ missing.name }}", "line 1: 'missing' is undefined"),
        ("{{ 1 // 0 }}", "by zero"),
        ("{% if x %}", "line 1: Unexpected end of template"),
        ("{% nonsense %}", "line 1: Encountered unknown tag 'nonsense'"),
        ("{{ 1 | nonsense }}", "line 1: No filter named 'nonsense'"),
        ("{% include '/etc/passwd' %}", "no loader for this environment specified"),
        ("{{ lipsum(9) }}", "'lipsum' is undefined"),
    ],
)
def test_what_a_template_may_not_do_is_named_with_its_line(template: str, words: str) -> None:
    with pytest.raises(TemplateFailedError) as caught:
        render(template, {"messages": []})
    assert words in str(caught.value) and not caught.value.refuses


def test_a_template_that_raises_refuses_the_conversation_in_one_printable_line() -> None:
    with pytest.raises(TemplateFailedError, match=r"^no \[2Jsystem role$") as caught:
        render("{{ raise_exception('no\n\x1b[2Jsystem role.') }}", {})
    assert caught.value.refuses


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("<|a|>{{ x }}<|b|>", "TTTTTuuuuuTTTTT"),
        ("{{ '<' + x + '>' }}", "TuuuuuT"),
        ("{{ '<' ~ x ~ 1 ~ '>' }}", "TuuuuuuT"),
        ("{{ '<%s>' % x }}{{ '<{}>'.format(x) }}", "TuuuuuTTuuuuuT"),
        ("{{ ['<', x] | join('|') }}", "TTuuuuu"),
        ("{{ x | replace('i', '<|i|>') }}", "uuTTTTTuu"),
        ("{{ x | trim | upper }}", "uuuuu"),
        ("{{ x[1:] }}{{ x.split('|')[0] }}{{ x | first }}", "uuuuuu"),
        ("{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m(x) }}", "TuuuuuT"),
        ("{% set b %}<{{ x }}>{% endset %}{{ b }}", "TuuuuuT"),
        ("{% generation %}<{{ x }}>{% endgeneration %}", "TuuuuuT"),
        ("{% filter indent %}<{{ x }}>{% endfilter %}", "TuuuuuT"),
        ("{{ {'k': x} | tojson }}", "u" * 14),
        ("{% for c in x %}{{ c }}{% endfor %}", "uuuuu"),
    ],
)
def test_only_literals_of_the_template_are_its_own(template: str, expected: str) -> None:
    """`T` for a character of the template, `u` for one that the user or nobody in particular wrote."""
    found = origins_of(render(template, {"x": TracedText("<|i|>")}))
    assert found.replace(TEMPLATE, "T").replace(DATA, "u") == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ a }}{{ b }}",
        "{{ a ~ b }}",
        "{{ c | replace('-', '') }}",
        "{{ a }}end|>",
        "{{ d | lower }}",
        "{{ e.format('|') }}",
    ],
)
def test_a_name_that_is_put_together_of_the_users_texts_is_not_the_templates(template: str) -> None:
    variables = {"a": "<|", "b": "end|>", "c": "<|-end|>", "d": "<|END|>", "e": "<{0}end{0}>"}
    written = render(template, {name: TracedText(text) for name, text in variables.items()})
    assert written == "<|end|>" and set(origins_of(written)) != {TEMPLATE}


def test_names_that_a_template_takes_are_found_and_a_broken_template_takes_none() -> None:
    assert variables_of("{% if tools %}{{ bos_token }}{% endif %}{% set x = 1 %}{{ x }}") == {"tools", "bos_token"}
    assert variables_of("{% if") == frozenset()


def test_the_program_starts_without_jinja2() -> None:
    code = "import sys, chat.cli.main, chat.prompts.registry, chat.prompts.detect; print('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
