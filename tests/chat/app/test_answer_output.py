"""What of an answer goes where: the code alone, the record, both; and its figures on stderr."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.app.answer_output import AnswerOutput
from chat.batch.summary import BatchSummary
from chat.config.options import Settings
from chat.core.backend import ModelInfo
from chat.core.conversation import ToolCall
from chat.core.events import Completion, Seconds, TokenCounts
from chat.errors import ChatError
from tests.program import run, run_command

CODE = "first\n```sh\nls\n```\nthen\n```\npwd\n```\n"
INFO = ModelInfo("model.gguf", 7, "F32", "llama", None, 64, 64, "v3", name="tiny")
FENCED = 'start: "```\\nls\\n```"'


def done(text: str, **more: Any) -> Completion:
    plain = Completion(text, "stop", (1, 2), "ab", TokenCounts(1234, 1200, 2), Seconds(0.5, 0.25, 0.05))
    return replace(plain, **more)


def shown(answer: Completion, capsys: pytest.CaptureFixture[str], **settings: Any) -> tuple[int | ChatError, str, str]:
    """The exit code or the fault, and what stands on stdout and stderr."""
    outcome: int | ChatError
    try:
        outcome = AnswerOutput(Settings(**settings)).finish(answer, INFO)
    except ChatError as error:
        outcome = error
    captured = capsys.readouterr()
    return outcome, captured.out, captured.err


@pytest.mark.parametrize(("flag", "code"), [("extract", "ls\n"), ("extract_last", "pwd\n")])
def test_the_code_alone_is_printed_and_beside_json_it_is_a_part_of_the_record(
    flag: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` printed the record as if `-x` had not been said."""
    assert shown(done(CODE), capsys, **{flag: True}) == (0, code, "")
    outcome, record, _ = shown(done(CODE), capsys, **{flag: True}, json=True)
    plain = json.loads(record)
    assert (outcome, plain["text"], plain["code"]) == (0, CODE, code)
    assert "code" not in json.loads(shown(done(CODE), capsys, json=True)[1])


def test_an_answer_without_code_is_a_fault_that_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fault, output, _ = shown(done("no"), capsys, extract=True)
    assert isinstance(fault, ChatError)
    assert (fault.message, fault.hint, output) == ("the answer holds no code block", "it was: no", "")
    fault, output, _ = shown(done("no"), capsys, extract=True, json=True)
    assert isinstance(fault, ChatError)
    assert (fault.message, fault.hint, json.loads(output)["code"]) == ("the answer holds no code block", None, None)


def test_a_call_is_shown_also_where_code_was_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    """It was lost: the answer held no code, so nothing was printed."""
    answer = done("", tool_calls=(ToolCall("now", "{}", "1"),))
    outcome, output, _ = shown(answer, capsys, extract=True)
    assert (outcome, json.loads(output)) == (0, {"name": "now", "arguments": "{}", "id": "1"})


def test_who_stops_an_answer_is_not_told_that_it_has_no_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(done("no", finish_reason="interrupted"), capsys, extract=True) == (130, "", "")


def test_the_figures_are_one_line_on_stderr_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    words = "2 tokens · 40.0/s · 0.8 s · first token after 0.8 s · prompt 1,234 (1,200 cached)\n"
    assert shown(done("hi"), capsys, stats=True) == (0, "\n", words)
    assert shown(done("hi"), capsys) == (0, "\n", "")
    fault, _, said = shown(done("hi", finish_reason="length"), capsys, stats=True, fail_on_length=True)
    assert isinstance(fault, ChatError)
    assert said == words


def test_figures_that_nobody_told_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    answer = done("hi", tokens=TokenCounts())
    assert shown(answer, capsys, stats=True)[2] == "0.8 s · first token after 0.8 s\n"
    assert shown(done("hi", choice={"hi": 1.0}), capsys, stats=True)[2] == (
        "2 tokens · 0.8 s · prompt 1,234 (1,200 cached)\n"
    )


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([], "0 answers · 3.0 s"),
        ([({"tokens": None}, False)], "1 answer · 3.0 s"),
        ([({"error": "no"}, True)], "0 answers · 1 failed · 3.0 s"),
        ([({"tokens": 7, "ids": []}, False)], "1 answer · 3.0 s"),  # of a dry run
        (
            [({"tokens": {"prompt": 1000, "cached": 990, "generated": 30}}, False)] * 2,
            "2 answers · 60 tokens · 20.0/s · 3.0 s · prompts 2,000 (1,980 cached)",
        ),
    ],
)
def test_a_batch_is_summed_up(results: list[tuple[dict[str, Any], bool]], words: str) -> None:
    tally = BatchSummary()
    for result, is_failed in results:
        tally.add(result, is_failed=is_failed)
    assert tally.words(3.0) == words


def test_the_figures_are_those_of_the_record(tiny_model: Path) -> None:
    answer = run("-m", tiny_model, "--json", "--stats", "-n", 5, "--draft", "off", "hi")
    tokens, seconds = (json.loads(answer.stdout)[part] for part in ("tokens", "seconds"))
    first = seconds["load"] + seconds["prompt"]
    assert re.sub(r"\d+(\.\d+)?/s", "N/s", answer.stderr.decode()) == (
        f"{tokens['generated']} tokens · N/s · {first + seconds['generate']:.1f} s"
        f" · first token after {first:.1f} s · prompt {tokens['prompt']}\n"
    )


def test_a_batch_tells_the_code_of_each_answer_and_fails_where_there_is_none(tiny_model: Path) -> None:
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
