"""The command line is read once: options, their values, words and a command are separated by Typer's rules."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from chat.cli.argv import CommandLine, page_spellings, read_command_line, spellings
from chat.cli.command_tree import main_flags
from chat.cli.main import COMMANDS


def read(arguments: str) -> CommandLine:
    return read_command_line(arguments.split(), (*COMMANDS, "completion"))


@pytest.mark.parametrize(
    ("arguments", "words", "flags"),
    [
        ("", (), {}),
        ("what is this", ("what", "is", "this"), {}),
        ("--temp 0.3 hi", ("hi",), {"temperature": "0.3"}),
        ("--temp=0.3 hi", ("hi",), {"temperature": "0.3"}),
        ("hi --temp 0.1 there --temp 0.2", ("hi", "there"), {"temperature": "0.2"}),
        ("-m=x", (), {"model": "=x"}),
        ("-mx -n-5", (), {"model": "x", "max_tokens": "-5"}),
        ("-n -5", (), {"max_tokens": "-5"}),
        ("-qvn5 hi", ("hi",), {"quiet": True, "verbose": True, "max_tokens": "5"}),
        ("-cn 5", (), {"continue_last": True, "max_tokens": "5"}),
        ("--xl -x", (), {"extract_last": True, "extract": True}),
        ("--markdown", (), {"markdown": True}),
        ("--no-markdown", (), {"markdown": False}),
        ("--stop a -f - --stop=b --stop=", (), {"stop": ("a", "b", ""), "file": ("-",)}),
        ("--system= - -- --temp -x", ("-", "--temp", "-x"), {"system": ""}),
        ("--stop -- hi", ("hi",), {"stop": ("--",)}),
        ("-qs convert --dry-run hello", ("hello",), {"quiet": True, "system": "convert", "dry_run": True}),
        ("-qm models hi", ("hi",), {"quiet": True, "model": "models"}),
        ("-qmmodels hi", ("hi",), {"quiet": True, "model": "models"}),
        ("hi convert", ("hi", "convert"), {}),
        ("-q -- convert x", ("convert", "x"), {"quiet": True}),
        ("- convert", ("-", "convert"), {}),
        ("-s -v -- -v", ("-v",), {"system": "-v"}),
    ],
)
def test_options_may_be_anywhere_and_have_all_usual_forms(
    arguments: str, words: tuple[str, ...], flags: dict[str, Any]
) -> None:
    assert replace(read(arguments), is_marked=False) == CommandLine(words, flags, None, None, (), (), None)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("--tempe 1", "no such option: --tempe", "did you mean --temp or --template or --temperature?"),
        ("--verson", "no such option: --verson", "did you mean --version or --json or --verbose?"),
        ("--qqqqqqq", "no such option: --qqqqqqq", "`mistral-chat --help` explains the usage"),
        ("-qz", "no such option: -z", None),
        ("-zh", "no such option: -z", None),
        ("hi --temp", "--temp needs a value", None),
        ("-qm", "-m needs a value", None),
        ("--json=yes", "--json takes no value", None),
        ("--no-markdown=", "--no-markdown takes no value", None),
        ("--help=models", "--help takes no value", None),
        ("--no-such --json=yes", "no such option: --no-such", None),
    ],
)
def test_a_wrong_option_is_refused_with_the_reason(arguments: str, message: str, hint: str | None) -> None:
    line = read(arguments)
    assert line.fault is not None
    assert (line.page, line.fault.message) == (None, message)
    assert hint is None or line.fault.hint == hint


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        ("-h", "help"),
        ("hi --help", "help"),
        ("-qh", "help"),
        ("-qVx", "version"),
        ("--version --man", "man"),
        ("--version --man -h", "help"),
        ("--no-such --help", "help"),
        ("-hz", "help"),
        ("--help --temp", "help"),
        ("-- --help", None),
        ("-m --help", None),
        ("--stop -h -s -V --file --man", None),
        ("-sh", None),
        ("--system=--help", None),
    ],
)
def test_an_option_prints_a_page_and_the_value_of_an_option_does_not(arguments: str, page: str | None) -> None:
    assert read(arguments).page == page


@pytest.mark.parametrize(
    ("arguments", "command", "before", "behind"),
    [
        ("convert", "convert", (), ()),
        ("convert -qs x -- -v", "convert", (), ("-qs", "x", "--", "-v")),
        ("completion bash", "completion", (), ("bash",)),
        ("-q convert x", "convert", ("-q",), ("x",)),
        ("-qs convert models list", "models", ("-qs", "convert"), ("list",)),
        ("--no-such --help convert", "convert", ("--no-such", "--help"), ()),
        ("-m --help convert", "convert", ("-m", "--help"), ()),
    ],
)
def test_a_command_is_the_first_word_and_gets_the_arguments_after_it(
    arguments: str, command: str, before: tuple[str, ...], behind: tuple[str, ...]
) -> None:
    line = read(arguments)
    assert (line.command, line.before, line.arguments, line.words) == (command, before, behind, ())


def test_verbose_is_an_option_and_not_a_value_or_a_word() -> None:
    """`-v` anywhere on the line once switched tracebacks on, and `-xv` did not."""
    assert [read(line).verbose for line in ("-v", "-xv", "--verbose hi", "hi -v")] == [True] * 4
    assert [read(line).verbose for line in ("-s -v", "--system=-v", "-- -v", "convert -v", "-sv")] == [False] * 5


def test_help_manual_and_completion_show_all_options_that_are_read() -> None:
    assert {*spellings()} == {spelling for flag in main_flags() for spelling in flag.spellings}


def test_other_options_are_read_by_the_same_rules() -> None:
    line = read_command_line(["bash", "-q", "--", "--help"], options=page_spellings("help"))
    assert (line.words, line.page) == (("bash", "--help"), None)
    assert line.fault is not None and line.fault.message == "no such option: -q"


def test_a_prompt_does_not_import_typer() -> None:
    code = "import sys; from chat.cli.main import run; run(['--no-such']); sys.exit('typer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
