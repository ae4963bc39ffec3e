"""Grammars that would fail during an answer are refused before it starts, and no others are."""

from __future__ import annotations

import signal

import pytest

from chat.core.request import Constraint, ConstraintKind
from chat.errors import UsageError
from chat.inference import grammar_sandbox
from chat.inference.grammar_sandbox import checked_grammar


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('start: "a" x | "b"\nx: x "c"', "it has beginnings that nothing can follow"),
        ('start: "b" | "ad" x\nx: x "c"', "it has beginnings that nothing can follow"),
        ('start: start "a"', "nothing can match it"),
    ],
)
def test_a_grammar_that_fails_at_the_first_bytes_does_not_compile(source: str, words: str) -> None:
    """These compile; the library failed only during the answer, which was lost."""
    with pytest.raises(UsageError, match=r"^the constraint of `--grammar` does not compile: ") as caught:
        checked_grammar(Constraint("lark", source), False)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "((((a{1,100}){1,100}){1,100}){1,100})"),
        ("schema", '{"type": "string", "pattern": "^(((a{1,100}){1,100}){1,100})$"}'),
        ("lark", "start: A\nA: /((a{1,100}){1,100}){1,100}/"),
        ("lark", "start: " + " | ".join(f'"{at:05}"' for at in range(3000))),
        ("lark", "start: " + "a? " * 2000 + '\na: "x"'),
    ],
)
def test_what_the_library_gives_up_within_an_answer_is_refused_before_it(kind: ConstraintKind, source: str) -> None:
    """The first failed with exit code 8 after 16 tokens; the last ones in the library's words, `Current row has`."""
    with pytest.raises(UsageError, match=r"is too complex: an answer would have too many ways to match it$"):
        checked_grammar(Constraint(kind, source), False)


@pytest.mark.parametrize("source", ["", "(?i)", "x{0}"])
@pytest.mark.parametrize("space", [False, True])
def test_an_expression_that_only_an_empty_answer_matches_is_refused(source: str, space: bool) -> None:
    """With a vocabulary that begins each answer with a space, they compiled, and the answer was empty."""
    with pytest.raises(UsageError, match=r"`--regex` does not compile: only an empty answer matches it$"):
        checked_grammar(Constraint("regex", source), space)


@pytest.mark.parametrize("source", ["(?R)", r"\((?:[^()]|(?R))*\)"])
def test_a_recursion_is_refused(source: str) -> None:
    """`(?R)` was taken for a flag: `((a))` was never an answer of the second."""
    with pytest.raises(UsageError, match=r"does not compile: it uses recursion, `\(\?R\)`, which is not supported$"):
        checked_grammar(Constraint("regex", source), False)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="without setitimer the limit is of elapsed time")
def test_the_limit_is_of_processor_time_not_of_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit was of elapsed time: on a busy machine ordinary constraints were refused as too complex."""
    monkeypatch.setattr(grammar_sandbox, "SECONDS", 0.02)
    with pytest.raises(UsageError) as caught:
        checked_grammar(Constraint("regex", "[a-c]{3}"), False)
    assert caught.value.message == "the constraint of `--regex` is too complex: compiling takes over 0.02 seconds"
    assert caught.value.hint == "use fewer repetitions, numbers and alternatives in it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "a?"),
        ("regex", r"\(\?R\)"),
        ("regex", "[a-c]{3}-[0-9]+x"),
        ("lark", 'start: s\ns: s s | "a" |'),
        ("lark", 'start: start "a" | "b"'),
        ("gbnf", 'root ::= "yes" | "no" " " [0-9]'),
        ("schema", '{"enum": ["a", "b"]}'),
    ],
)
@pytest.mark.parametrize("space", [False, True])
def test_a_grammar_that_something_matches_compiles(kind: ConstraintKind, source: str, space: bool) -> None:
    assert checked_grammar(Constraint(kind, source), space).startswith('{"grammars": ')
