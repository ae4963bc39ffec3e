"""What is printed of an answer, and where: text, code block, record, and figures on stderr."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.app.answer_output import AnswerOutput
from chat.config.options import Settings
from chat.core.backend import ModelInfo
from chat.core.conversation import ToolCall
from chat.core.events import Completion, ReasoningDelta, Seconds, TextDelta, TokenCounts
from chat.errors import ChatError
from chat.system.environment import Environment
from tests.environments import FakeEnvironment, pipes, terminal
from tests.program import run, run_command

CONTEXT_FULL = "the answer was cut because the context of 64 tokens is full; `--context` makes it larger"
CODE = "first\n```sh\nls\n```\nthen\n```\npwd\n```\n"
INFO = ModelInfo("model.gguf", 7, "F32", "llama", None, 64, 64, "v3", name="tiny")
FENCED = 'start: "```\\nls\\n```"'


def done(text: str, **more: Any) -> Completion:
    plain = Completion(text, "stop", (1, 2), "ab", TokenCounts(1234, 1200, 2), Seconds(0.5, 0.25, 0.05))
    return replace(plain, **more)


def finished(answer: Completion, **settings: Any) -> tuple[int | ChatError, str, str]:
    """The exit code or the error, and what is written to stdout and stderr at the end of an answer."""
    outcome: int | ChatError
    environment = pipes()
    try:
        outcome = AnswerOutput(Settings(**settings), environment).finish(answer, INFO)
    except ChatError as error:
        outcome = error
    return outcome, environment.out, environment.err


def streamed(environment: FakeEnvironment, *pieces: str, **settings: Any) -> FakeEnvironment:
    """The environment after an answer that came in pieces."""
    output = AnswerOutput(Settings(**settings), environment)
    answer = done("".join(pieces))
    with output.waiting():
        output.stream(iter([*map(TextDelta, pieces), answer]), keep=lambda text, reasoning: None)
    output.finish(answer, INFO)
    return environment


def test_a_pipe_gets_the_text_as_it_is_and_a_terminal_styled_markdown() -> None:
    pieces = ("# Title\n\n", "A **bold** wo", "rd \x1b[31m\n")
    assert streamed(pipes(), *pieces).out == "".join(pieces)
    assert streamed(terminal(), *pieces).screen() == ["Title", "", "A bold word ␛[31m"]
    assert "\x1b[1m" in streamed(terminal(NO_COLOR=""), *pieces).out


def thought(environment: FakeEnvironment, text: str, **settings: Any) -> FakeEnvironment:
    """The environment after an answer with reasoning before it."""
    output = AnswerOutput(Settings(**settings), environment)
    pieces = ("Is it so? It ", "may be.\nIt ", "is.")
    answer = done(text, reasoning="".join(pieces))
    with output.waiting():
        deltas = [*map(ReasoningDelta, pieces), *([TextDelta(text)] if text else [])]
        output.stream(iter([*deltas, answer]), keep=lambda text, reasoning: None)
    output.finish(answer, INFO)
    return environment


def test_a_pipe_gets_the_answer_without_the_reasoning_and_a_terminal_shows_it_before() -> None:
    assert (thought(pipes(), "Yes.").out, thought(pipes(), "Yes.").err) == ("Yes.\n", "")
    shown = thought(terminal(columns=16), "Yes.")
    assert shown.screen() == ["Thought for 0.0", "s (8 words).", "", "Yes."]
    assert "\x1b[2mIs it so? It" in shown.out
    assert thought(terminal(), "Yes.", think="hide").screen() == ["Yes."]
    assert thought(terminal(TERM="dumb"), "Yes.").out == "Yes.\n"
    assert json.loads(thought(pipes(), "Yes.", json=True).out)["reasoning"] == "Is it so? It may be.\nIt is."
    assert "reasoning" not in json.loads(streamed(pipes(), "Yes.", json=True).out)


class _Buffered(io.StringIO):
    """A pipe that gets what is written only when it is flushed."""

    def __init__(self, pipe: io.StringIO) -> None:
        super().__init__()
        self._pipe = pipe

    def flush(self) -> None:
        self._pipe.write(self.getvalue())
        self.seek(0)
        self.truncate()


def test_a_note_begins_a_line_where_answers_and_notes_go_to_one_pipe() -> None:
    """`mistral-chat ... 2>&1` wrote `the last wordnote: the answer was cut`, and the end of the line after that."""
    pipe = io.StringIO()
    environment = Environment(stdin=io.StringIO(), stdout=_Buffered(pipe), stderr=pipe, variables={})
    output = AnswerOutput(Settings(max_tokens=2), environment)
    answer = done("Hello there", finish_reason="length")
    output.stream(iter([TextDelta("Hello there"), answer]), keep=lambda text, reasoning: None)
    output.finish(answer, INFO)
    assert pipe.getvalue() == "Hello there\nnote: the answer was cut after 2 tokens; `-n` allows more\n"


def test_an_answer_that_was_all_reasoning_says_so() -> None:
    environment = thought(pipes(), "")
    assert (environment.out, environment.err) == ("\n", "note: the model thought but gave no answer\n")


@pytest.mark.parametrize(
    ("settings", "tokens", "note"),
    [
        ({"max_tokens": 2}, 2, "the answer was cut after 2 tokens; `-n` allows more"),
        ({"max_tokens": 1}, 1, "the answer was cut after 1 token; `-n` allows more"),
        ({"max_tokens": 9}, 2, CONTEXT_FULL),
        ({}, 2, CONTEXT_FULL),
        ({"remote": "http://h"}, 2, "the server cut the answer at its own limit"),
        ({"max_tokens": 2, "quiet": True}, 2, ""),
        ({"max_tokens": 2, "json": True}, 2, ""),
    ],
)  # fmt: skip
def test_an_answer_that_was_cut_says_by_which_limit(settings: dict[str, Any], tokens: int, note: str) -> None:
    """A script that read only stdout could not tell a whole answer from a part; a record tells it in a field."""
    answer = done("one two", finish_reason="length", tokens=TokenCounts(60, 0, tokens))
    code, _, err = finished(answer, **settings)
    assert (code, err) == (0, f"note: {note}\n" if note else "")


def test_a_terminal_gets_plain_text_without_markdown_or_where_it_is_dumb() -> None:
    for environment, settings in ((terminal(), {"markdown": False}), (terminal(TERM="dumb"), {})):
        assert streamed(environment, "# Ti", "tle\x07", **settings).out == "# Title␇\n"


def test_the_lines_of_an_answer_are_wrapped_at_the_width_of_the_terminal() -> None:
    assert streamed(terminal(columns=12), "one two three ", "four\n").screen() == ["one two", "three four"]


def test_notes_go_to_stderr_unless_quiet() -> None:
    environment = pipes()
    for quiet in (False, True):
        AnswerOutput(Settings(quiet=quiet), environment).note("a\x1b[2J note")
    assert (environment.out, environment.err) == ("", "note: a␛[2J note\n")


@pytest.mark.parametrize(("encoding", "line"), [("utf-8", "ö 滑 \ufffd"), ("latin-1", "ö"), ("ascii", "")])
def test_a_record_is_escaped_only_where_the_encoding_lacks_characters(encoding: str, line: str) -> None:
    for text, read in (("ö", "ö"), ("滑", "滑"), ("\ud800", "\ufffd")):
        environment = pipes(encoding=encoding)
        AnswerOutput(Settings(json=True), environment).finish(done(text), INFO)
        assert json.loads(environment.out)["text"] == read
        assert (read in environment.out) == (read in line)


@pytest.mark.parametrize(("flag", "code"), [("extract", "ls\n"), ("extract_last", "pwd\n")])
def test_the_code_alone_is_printed_and_beside_json_it_is_a_part_of_the_record(flag: str, code: str) -> None:
    """`--json` printed the record as if `-x` was not given."""
    assert finished(done(CODE), **{flag: True}) == (0, code, "")
    outcome, record, _ = finished(done(CODE), **{flag: True}, json=True)
    plain = json.loads(record)
    assert (outcome, plain["text"], plain["code"]) == (0, CODE, code)
    assert "code" not in json.loads(finished(done(CODE), json=True)[1])


def test_an_answer_without_code_is_an_error_that_quotes_it() -> None:
    fault, output, _ = finished(done("no"), extract=True)
    assert isinstance(fault, ChatError)
    assert (fault.message, fault.hint, output) == ("the answer has no code block", "the answer was: no", "")
    fault, output, _ = finished(done("no"), extract=True, json=True)
    assert isinstance(fault, ChatError)
    assert (fault.message, fault.hint, json.loads(output)["code"]) == ("the answer has no code block", None, None)


def test_a_call_is_shown_also_where_code_was_wanted() -> None:
    """It was lost: the answer held no code, so nothing was printed."""
    answer = done("", tool_calls=(ToolCall("now", "{}", "1"),))
    outcome, output, _ = finished(answer, extract=True)
    assert (outcome, json.loads(output)) == (0, {"name": "now", "arguments": "{}", "id": "1"})


def test_a_stopped_answer_without_code_is_no_error() -> None:
    assert finished(done("no", finish_reason="interrupted"), extract=True) == (130, "", "")


def test_the_figures_are_one_line_on_stderr_when_asked_for() -> None:
    words = "2 tokens · 40.0 tokens/s · 0.8 s · first token after 0.8 s · prompt 1,234 tokens (1,200 from the cache)\n"
    assert finished(done("hi"), stats=True) == (0, "\n", words)
    assert finished(done("hi")) == (0, "\n", "")
    fault, _, said = finished(done("hi", finish_reason="length"), stats=True, fail_on_length=True)
    assert isinstance(fault, ChatError)
    assert said == words


def test_unknown_figures_are_left_out() -> None:
    answer = done("hi", tokens=TokenCounts())
    assert finished(answer, stats=True)[2] == "0.8 s · first token after 0.8 s\n"
    assert finished(done("hi", choice={"hi": 1.0}), stats=True)[2] == (
        "2 tokens · 0.8 s · prompt 1,234 tokens (1,200 from the cache)\n"
    )


def test_the_figures_are_those_of_the_record(tiny_model: Path) -> None:
    answer = run("-m", tiny_model, "--json", "--stats", "-n", 5, "--draft", "off", "hi")
    tokens, seconds = (json.loads(answer.stdout)[part] for part in ("tokens", "seconds"))
    first = seconds["load"] + seconds["prompt"]
    assert re.sub(r"[\d,.]+ tokens/s", "N/s", answer.stderr.decode()) == (
        f"{tokens['generated']} tokens · N/s · {first + seconds['generate']:.1f} s"
        f" · first token after {first:.1f} s · prompt {tokens['prompt']} tokens\n"
    )


def test_a_batch_holds_the_code_of_each_answer_and_fails_if_one_has_none(tiny_model: Path) -> None:
    lines = b'{"prompt": "a", "max_tokens": 40}\n{"prompt": "b", "grammar": "start: \\"no\\""}\n'
    answer = run("-m", tiny_model, "-x", "--grammar", FENCED, "--stats", "--batch", "-", stdin=lines)
    assert [json.loads(line)["code"] for line in answer.stdout.splitlines()] == ["ls\n", None]
    assert answer.returncode == 1
    assert re.match(rb"2 answers \xc2\xb7 1 failed \xc2\xb7 \d+ tokens \xc2\xb7 [\d.]+/s \xc2\xb7 ", answer.stderr)


def test_verbose_puts_the_engines_log_on_stderr(tiny_model: Path, tmp_path: Path) -> None:
    """The help had promised it, but only a log file got it; one file may be stderr of both processes."""
    with (tmp_path / "stderr").open("wb") as stderr:
        command = [sys.executable, "-m", "chat", "-v", "--stats", "-m", str(tiny_model), "-n", "2", "hi"]
        run_command(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, check=True)
    lines = (tmp_path / "stderr").read_text().splitlines()
    assert any("general.architecture" in line for line in lines)
    assert [line for line in lines if "first token after" in line]
