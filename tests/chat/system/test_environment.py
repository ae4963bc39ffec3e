"""What the environment writes and asks, and standard streams that the caller closed or that take nothing."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chat.errors import UsageError
from tests.environments import FakeEnvironment, FakeStream, pipes, terminal
from tests.folders import CHECKPOINTS

PROGRAM = f'"{sys.executable}" -m chat'
CHECKPOINT = CHECKPOINTS / "mistral-v0.3"


def test_a_notice_is_one_line_without_control_characters() -> None:
    environment = pipes()
    environment.notify("warning: `\x1b[2J` is\nleft out")
    assert (environment.out, environment.err) == ("", "warning: `␛[2J` is left out\n")


def test_json_on_a_terminal_has_no_control_characters_and_says_the_same() -> None:
    plain = {"name": "\x9b31m \u202e \x7f \u2028 \x1b \n é"}
    on_terminal, in_pipe = terminal(), pipes()
    for environment in (on_terminal, in_pipe):
        environment.print_json(plain)
        assert json.loads(environment.out) == plain
    assert on_terminal.out == '{"name": "\\u009b31m \\u202e \\u007f \\u2028 \\u001b \\n é"}\n'
    assert in_pipe.out == '{"name": "\x9b31m \u202e \x7f \u2028 \\u001b \\n é"}\n'


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_notice_breaks_between_words_on_a_terminal(columns: int) -> None:
    """A terminal breaks a line at its last column, which may be inside a word."""
    sentence = "error: there is no file /srv/long.gguf; `mistral-chat models list` shows what is here"
    environment = terminal(columns=columns)
    environment.notify(sentence)
    lines = environment.err.splitlines()
    assert " ".join(lines) == sentence
    assert all(len(line) <= columns for line in lines)


def test_a_word_longer_than_a_row_begins_behind_the_one_before() -> None:
    """A path left `error:` alone in its row."""
    environment = terminal(columns=20)
    environment.notify("error: /srv/models/a-long-name.gguf: is a folder, not a GGUF file")
    assert environment.err == "error: /srv/models/a-long-name.gguf: is\na folder, not a GGUF\nfile\n"


@pytest.mark.parametrize(
    ("typed", "is_yes"),
    [("y\n", True), (" YES \n", True), ("\n", False), ("n\n", False), ("yesterday\n", False), ("", False)],
)
def test_only_a_yes_confirms(typed: str, is_yes: bool) -> None:
    environment = terminal(typed)
    assert environment.confirm("delete `a\x07`?", "deletes") is is_yes
    assert (environment.out, environment.err) == (typed, "delete `a␇`? [y/N] ")


def test_a_question_without_a_terminal_is_an_error() -> None:
    with pytest.raises(UsageError, match="there is no terminal to ask on") as caught:
        pipes(b"y\n").confirm("delete?", "deletes")
    assert caught.value.hint == "`--yes` deletes without asking"


def test_a_line_is_read_behind_its_prompt_and_the_end_of_stdin_is_an_eof_error() -> None:
    environment = terminal("2\n")
    assert environment.ask("Choice: ") == "2"
    assert environment.screen() == ["Choice: 2"]
    with pytest.raises(EOFError):
        environment.ask("Choice: ")


def test_stdin_is_read_from_a_pipe_and_never_from_a_terminal() -> None:
    assert pipes(b"text\xff").read_stdin() == b"text\xff"
    assert terminal("typed").read_stdin() == b""


@pytest.mark.parametrize(
    ("variables", "can_redraw", "colours"),
    [
        ({"NO_COLOR": ""}, True, [True, True, False]),
        ({"NO_COLOR": "1"}, True, [True, False, False]),
        ({"TERM": "dumb", "NO_COLOR": ""}, False, [True, True, False]),
        ({"TERM": "", "NO_COLOR": ""}, False, [True, True, False]),
    ],
)
def test_variables_decide_about_redrawing_and_colours(
    variables: dict[str, str], can_redraw: bool, colours: list[bool]
) -> None:
    environment = terminal(**variables)
    assert environment.can_redraw(environment.stdout) is can_redraw
    assert [environment.has_colour(choice) for choice in ("always", "auto", "never")] == colours
    assert not environment.can_redraw(pipes().stdout)


def test_the_width_is_the_terminals_or_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal(columns=33).columns(100) == 33
    monkeypatch.setenv("COLUMNS", "44")
    assert pipes().columns(100) == 44


class FullStream(FakeStream):
    """A stream on a full disk."""

    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


def test_an_unwritable_error_message_is_no_fault() -> None:
    FakeEnvironment(stderr=FullStream()).print_error("gone")


def shell(command: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a shell's command."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")]
)
@pytest.mark.parametrize("arguments", ["--help", "--version", "templates list", "-q -m guide hello"])
def test_an_answer_that_cannot_be_written_is_exit_7_and_one_sentence(
    arguments: str, redirection: str, reason: str
) -> None:
    code, _, errors = shell(f"{PROGRAM} {arguments} {redirection}")
    assert (code, errors) == (7, f"error: cannot read or write: {reason}\n")


@functools.cache
def greeted() -> tuple[int, str, str]:
    """A quiet answer of the guide, whose stdin is a terminal or empty."""
    return shell(f"{PROGRAM} -q -m guide hello </dev/null")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
@pytest.mark.slow
def test_an_unwritable_stderr_changes_neither_answer_nor_exit_code(redirection: str) -> None:
    assert shell(f"{PROGRAM} -m guide hello {redirection} </dev/null") == greeted()
    assert shell(f"printf 'hello\\xff' | {PROGRAM} -m guide {redirection}")[0] == 0  # a note is due
    assert shell(f"{PROGRAM} -m nowhere hello {redirection}") == (3, "", "")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
@pytest.mark.slow
def test_a_conversion_succeeds_if_its_notes_cannot_be_written(redirection: str, tmp_path: Path) -> None:
    """It ended with 7 when the file was written, and did not say its name."""
    output = tmp_path / "out.gguf"
    said = shell(f"{PROGRAM} convert {CHECKPOINT} -o {output} --no-verify {redirection}")
    assert (said, output.exists()) == ((0, f"{output}\n", ""), True)


@pytest.mark.slow
def test_a_closed_stdin_is_an_empty_one() -> None:
    assert shell(f"{PROGRAM} -q -m guide hello <&-") == greeted()


@pytest.mark.skipif(sys.platform == "win32", reason="its shell closes no streams")
def test_no_file_that_we_open_gets_the_number_of_a_closed_stream() -> None:
    """A history that was opened as descriptor 2 would have had every warning written into it."""
    code = (
        "import os, sys; from chat.system.environment import open_missing_streams; open_missing_streams(); "
        "file = os.open(os.devnull, os.O_RDONLY); sys.exit(file if file > 2 else 1)"
    )
    done, _, _ = shell(f"\"{sys.executable}\" -c '{code}' <&- >&- 2>&-")
    assert done > 2


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "?l? ??"), ("latin-1", "\xf6l\xe9 ??"), ("utf-8", "\xf6l\xe9 \u6ed1\u52a8")]
)
def test_letters_that_an_encoding_lacks_become_question_marks(encoding: str, shown: str) -> None:
    """A session under a locale that is not UTF-8 ended at the first dot of its first line."""
    code = "from chat.system.environment import prepare_streams\nprepare_streams()\nprint('\xf6l\xe9 \u6ed1\u52a8')"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert done.stdout.decode(encoding) == shown + "\n"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TERM": "xterm-kitty"}, True),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, True),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7600"}, True),
        ({"TERM": "xterm-256color", "VTE_VERSION": "950"}, False),
        ({"TERM": "xterm-256color"}, False),
        ({"TERM": "dumb", "WT_SESSION": "1"}, False),
    ],
)
def test_only_terminals_that_are_known_to_link_get_links(variables: dict[str, str], expected: bool) -> None:
    environment = terminal(**variables)
    assert environment.has_links(environment.stdout) is expected
    assert not pipes().has_links(pipes().stdout)
