"""Constrained answers always match, and constraints that do not compile are refused."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import jsonschema
import pytest

from chat.app.request_builder import constraint_of
from chat.config.resolve import resolve_settings
from chat.core.request import Constraint, ConstraintKind
from chat.errors import UsageError
from chat.inference.grammar_sandbox import checked_grammar
from tests.program import run

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["mood", "count"],
    "additionalProperties": False,
}


@pytest.fixture(params=["v1", "v3"])
def model(request: pytest.FixtureRequest, tiny_model: Path, tiny_v3_model: Path) -> Path:
    return {"v1": tiny_model, "v3": tiny_v3_model}[request.param]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_answer_under_a_schema_is_valid_json_of_it(model: Path, seed: int) -> None:
    done = run("-m", model, "--schema", json.dumps(SCHEMA), "--seed", seed, "--temperature", 1.5, "hi")
    assert (done.returncode, done.stderr) == (0, b"")
    jsonschema.validate(json.loads(done.stdout), SCHEMA)


def test_the_short_form_of_a_schema_is_one(model: Path) -> None:
    answer = json.loads(run("-m", model, "--schema", "mood good|bad, ok bool", "--seed", 4, "hi").stdout)
    assert set(answer) == {"mood", "ok"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "source", "pattern"),
    [
        ("--regex", "[a-c]{3}-[0-9]+x", r"[a-c]{3}-[0-9]+x"),
        ("--grammar", 'root ::= "yes" | "no" " " [0-9]', r"yes|no [0-9]"),
        ("--grammar", 'start: "a" NUMBER\nNUMBER: /[0-9]{2}/', r"a[0-9]{2}"),
    ],
)
def test_an_answer_under_a_grammar_matches_all_of_it(model: Path, flag: str, source: str, pattern: str) -> None:
    done = run("-m", model, flag, source, "--seed", 5, "hi")
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.fullmatch(pattern, done.stdout.decode().removesuffix("\n"))


@pytest.mark.parametrize(
    ("kind", "source", "reason"),
    [
        ("regex", "a((", "unclosed group"),
        ("regex", "(?=a)b", "look-around, including look-ahead and look-behind, is not supported"),
        ("schema", '{"type": "string", "pattern": "(("}', "unclosed group"),
        ("lark", "start: b\nc: d", 'line 1, column 8: unknown name: "b"'),
        ("gbnf", "root ::= (", "Expected ')' at line 1, 'root ::= (' ^ ''"),
    ],
)
def test_a_compile_error_is_reported_without_the_librarys_wrapping(
    kind: ConstraintKind, source: str, reason: str
) -> None:
    with pytest.raises(UsageError) as caught:
        checked_grammar(Constraint(kind, source), space=True)
    flag = {"regex": "--regex", "schema": "--schema"}.get(kind, "--grammar")
    assert caught.value.message == f"the constraint of `{flag}` does not compile: {reason}"


def test_a_schema_that_is_no_json_gets_a_hint_at_the_forms(tiny_model: Path) -> None:
    done = run("-m", tiny_model, "--schema", "{bad", "hi")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == (
        "error: --schema is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"
        "hint: fields like `name, age int, tags [str]`, a JSON schema in braces, or a file with one\n"
    )


def test_a_choice_is_one_of_the_options_with_their_probabilities(model: Path) -> None:
    options = ["yes", "no", "no way", "[INST]"]
    flags = [part for option in options for part in ("--choice", option)]
    answer = json.loads(run("-m", model, *flags, "--json", "--temperature", 0, "hi").stdout)
    assert set(answer["choice"]) == set(options)
    assert abs(sum(answer["choice"].values()) - 1) < 1e-6
    assert answer["text"] == max(answer["choice"], key=answer["choice"].get)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--schema", '{"type": "nonsense"}'],
        ["--schema", '{"$ref": "https://example.com/x.json"}'],
        ["--schema", '{"$ref": "#"}'],
        ["--grammar", "start: nowhere"],
        ["--grammar", "root ::= " + "(" * 60000 + '"a"' + ")" * 60000],
        ["--regex", "a", "--choice", "b"],
        ["--schema", ""],
        ["--regex", ""],
        ["--grammar", ""],
    ],
)
def test_a_constraint_that_does_not_compile_is_exit_2_and_never_ignored(
    arguments: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    if len(arguments[1]) > 100_000:  # more than a command line takes
        (tmp_path / "long").write_text(arguments[1])
        arguments = [arguments[0], str(tmp_path / "long")]
    done = run("-m", tiny_model, *arguments, "hi")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: ")


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors have no names there")
def test_a_schema_and_a_grammar_come_from_a_pipe() -> None:
    """`--schema <(command)` was read as the name of a field, and `--grammar` as the grammar itself."""
    for option, text in (("schema", '{"type": "integer"}'), ("grammar", 'start: "a"')):
        reading, writing = os.pipe()
        os.write(writing, text.encode())
        os.close(writing)
        found = constraint_of(resolve_settings({option: f"/dev/fd/{reading}"}, {}, None).settings)
        os.close(reading)
        assert found is not None and found.source == text
