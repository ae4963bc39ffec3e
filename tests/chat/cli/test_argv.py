"""Flags of the main command: told from words as people write them, with a sentence for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from chat.cli.argv import read_flags
from chat.errors import UsageError


@pytest.mark.parametrize(
    ("arguments", "words", "flags"),
    [
        ("", [], {}),
        ("what is this", ["what", "is", "this"], {}),
        ("--temp 0.3 hi", ["hi"], {"temperature": "0.3"}),
        ("--temp=0.3 hi", ["hi"], {"temperature": "0.3"}),
        ("hi --temp 0.1 there --temp 0.2", ["hi", "there"], {"temperature": "0.2"}),
        ("-m=x", [], {"model": "=x"}),
        ("-mx -n-5", [], {"model": "x", "max_tokens": "-5"}),
        ("-n -5", [], {"max_tokens": "-5"}),
        ("-qvn5 hi", ["hi"], {"quiet": True, "verbose": True, "max_tokens": "5"}),
        ("-cn 5", [], {"continue_last": True, "max_tokens": "5"}),
        ("--xl -x", [], {"extract_last": True, "extract": True}),
        ("--markdown", [], {"markdown": True}),
        ("--no-markdown", [], {"markdown": False}),
        ("--stop a -f - --stop=b --stop=", [], {"stop": ["a", "b", ""], "file": ["-"]}),
        ("--system= - -- --temp -x", ["-", "--temp", "-x"], {"system": ""}),
        ("--stop -- hi", ["hi"], {"stop": ["--"]}),
    ],
)
def test_options_stand_anywhere_and_are_written_in_every_usual_way(
    arguments: str, words: list[str], flags: dict[str, Any]
) -> None:
    line = read_flags(arguments.split())
    assert (line.words, line.flags) == (words, flags)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("--tempe 1", "no such option: --tempe", "did you mean --temp or --template or --temperature?"),
        ("--qqqqqqq", "no such option: --qqqqqqq", "`mistral-chat --help` shows what there is"),
        ("-qz", "no such option: -z", None),
        ("hi --temp", "--temp needs a value", None),
        ("-qm", "-m needs a value", None),
        ("--json=yes", "--json takes no value", None),
        ("--no-markdown=", "--no-markdown takes no value", None),
    ],
)
def test_what_is_wrong_with_an_option_is_said(arguments: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        read_flags(arguments.split())
    assert caught.value.message == message
    assert hint is None or caught.value.hint == hint


def test_a_question_is_asked_without_waiting_for_typer() -> None:
    code = "import sys; from chat.cli.main import run; run(['--no-such']); sys.exit('typer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
