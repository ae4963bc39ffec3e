"""`--batch --run-tools`: which calls run, what the results hold, and how a batch ends, is stopped and goes on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.batch.call_rounds import MOST_OPEN, CallRounds
from chat.batch.records import BatchRecord
from chat.core.conversation import Message, ToolCall
from chat.core.events import Completion, Seconds, TokenCounts
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.errors import ChatError
from chat.tools.loop import CallLoop
from chat.tools.rules import ToolRules, read_rules
from chat.tools.tool import CallLimits
from chat.tools.toolbox import Toolbox
from chat.worker.client import LocalBackend
from tests.chat.tools.calling_server import CallingServer, calling_server
from tests.chat.tools.fake_source import FakeSource
from tests.processes import children_of, ends
from tests.program import PROGRAM, Popen, run_command

CALCULATE = [["calculate", {"expression": "6 * 7"}]]
COUNTING = """
import os, time
def note(line: str, seconds: float = 0):
    with open("calls.txt", "a") as out:
        out.write(f"{line} {os.getpid()}\\n")
    time.sleep(seconds)
    return f"noted {line}"
"""
Batch = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def server() -> Iterator[CallingServer]:
    with calling_server() as server:
        yield server


def command(server: CallingServer, *arguments: str) -> list[str]:
    return [*PROGRAM, "--remote", server.url, "--run-tools", "--batch", *arguments]


@pytest.fixture
def batch(server: CallingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """Runs a batch of questions, and gives its exit code, its results and what it says."""
    monkeypatch.chdir(tmp_path)

    def run(questions: list[Any], *flags: str) -> tuple[int, list[dict[str, Any]], str]:
        lines = [each if isinstance(each, dict) else {"prompt": json.dumps(each)} for each in questions]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        done = run_command(command(server, "-", *flags), input=text.encode(), capture_output=True, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()

    return run


def test_each_line_has_its_answer_and_its_calls_with_their_results(batch: Batch) -> None:
    wrong = [["calculate", "{"], ["delete", {}], ["calculate", {"expression": 1}]]
    code, results, said = batch(
        [[CALCULATE, "It is =."], ["Hello."], [wrong, CALCULATE, "="]], "--allow-tool", "calculate"
    )
    assert (code, said) == (0, "")
    assert [(each["id"], each["text"], "tool_calls" in each) for each in results[:2]] == [
        (1, "It is 42.", False), (2, "Hello.", False),
    ]  # fmt: skip
    (call,) = results[0]["tool_results"]
    assert call.pop("seconds") >= 0
    assert call == {
        "name": "calculate", "arguments": {"expression": "6 * 7"}, "id": "r0000c000", "outcome": "done", "result": "42",
    }  # fmt: skip
    assert results[1]["tool_results"] == []
    assert [(each["arguments"], each["outcome"], each["result"][:39]) for each in results[2]["tool_results"]] == [
        ("{", "failed", "error: the arguments are not JSON"),
        ({}, "failed", "error: there is no function delete; fun"),
        ({"expression": 1}, "failed", "error: the argument `expression` must b"),
        ({"expression": "6 * 7"}, "done", "42"),
    ]


def test_nothing_runs_that_no_rule_allows_and_each_function_is_named_once(batch: Batch) -> None:
    code, results, said = batch([[CALCULATE, "="]] * 5, "--allow-tool", "current_date")
    assert code == 0
    assert said == "note: calculate was not run, as a batch asks nobody; `--allow-tool calculate` allows it\n"
    assert {each["tool_results"][0]["outcome"] for each in results} == {"refused"}
    assert {each["text"] for each in results} == {
        "The user's rules do not allow this call. Do not make it again; continue without it."
    }


def test_a_line_cannot_allow_itself_more(batch: Batch) -> None:
    code, results, _ = batch([{"prompt": "[]", "allow-tool": "*"}, {"prompt": "[]", "run_tools": True}])
    assert (code, [each["error"] for each in results]) == (
        1, ["line 1: unknown key `allow-tool`", "line 2: unknown key `run_tools`"],
    )  # fmt: skip


def test_a_line_with_functions_of_its_own_gets_their_calls_back(batch: Batch, server: CallingServer) -> None:
    """Even where one has the name of a function that could run here."""
    own = {"name": "calculate", "parameters": {"type": "object", "properties": {}}}
    line = {"prompt": json.dumps([CALCULATE, "="]), "tools": [own]}
    code, results, _ = batch([line, {"prompt": json.dumps(["Hi."]), "tools": []}], "--allow-tool", "*")
    assert (code, len(server.requests)) == (0, 2)
    assert (results[0]["tool_calls"][0]["name"], results[0]["tool_results"]) == ("calculate", [])
    assert (results[1]["text"], [body.get("tools") for body in server.requests if "Hi." in str(body)]) == (
        "Hi.",
        [None],
    )


def test_calls_are_counted_for_each_line_and_one_too_many_fails_that_line(batch: Batch) -> None:
    two = [[*CALCULATE, *CALCULATE], CALCULATE, "Enough: =."]
    code, results, _ = batch([two, [CALCULATE] * 9, two], "--allow-tool", "*", "--tool-steps", "2")
    assert code == 1
    limit = "Not run: the limit of 2 calls for one question is reached. Answer with what you know."
    assert [each.get("text") for each in results] == [
        f"Enough: 42 + 42 + {limit}.",
        None,
        f"Enough: 42 + 42 + {limit}.",
    ]
    assert results[1]["error"] == "the model still calls functions after 2 calls"
    assert [each["outcome"] for each in results[1]["tool_results"]] == ["done", "done", "refused"]


def test_a_program_can_wait_for_each_answer_on_a_pipe(server: CallingServer) -> None:
    """The request after a call must not wait for the next line, which comes after the answer."""
    process = Popen(command(server, "-", "--allow-tool", "*"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdin is not None and process.stdout is not None
        for rounds in ([CALCULATE, "="], [CALCULATE] * 12, [CALCULATE, CALCULATE, "="]):
            process.stdin.write(json.dumps(json.dumps(rounds)).encode() + b"\n")
            process.stdin.flush()
            result = json.loads(process.stdout.readline())
            assert result.get("text", result.get("error", ""))[:2] in ("42", "th")
        process.stdin.close()
        assert process.wait(60) == 1


def test_one_process_of_a_source_serves_all_lines(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(COUNTING)
    questions = [[[["note", {"line": str(at)}]], "="] for at in range(40)]
    code, results, said = batch(questions, "--tools", "own.py", "--allow-tool", "own/note")
    assert (code, said) == (0, "")
    assert [each["text"] for each in results] == [f"noted {at}" for at in range(40)]
    calls = [line.split() for line in (tmp_path / "calls.txt").read_text().splitlines()]
    assert sorted(int(line) for line, _ in calls) == list(range(40))
    assert len({process for _, process in calls}) == 1


def test_a_call_that_hangs_is_ended_and_the_other_lines_are_answered(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(COUNTING)
    hang = [[["note", {"line": "x", "seconds": 1000}], *CALCULATE], "="]
    questions = [[CALCULATE, "="], hang, *[[CALCULATE, "="]] * 20]
    code, results, _ = batch(questions, "--tools", "own.py", "--allow-tool", "*", "--tool-timeout", "1")
    assert code == 0
    assert results[1]["text"] == "error: it took longer than 1 s and was ended + 42"
    assert [each["text"] for each in results if each["id"] != 2] == ["42"] * 21


def test_ctrl_c_in_a_call_keeps_what_is_done_and_resume_calls_only_for_the_rest(
    server: CallingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all lines waited for functions, none for the model, Ctrl+C would have looked like the end of the batch."""
    monkeypatch.chdir(tmp_path)
    for name in ("fast", "slow", "last"):
        (tmp_path / f"{name}.py").write_text(COUNTING.replace("0)", f"{1000 * (name != 'fast')})"))
    sources = ["fast", "fast", *["slow"] * (MOST_OPEN - 1), "fast", "last"]
    fast, slow, last = (0, 1, MOST_OPEN + 1), range(2, MOST_OPEN + 1), MOST_OPEN + 2
    lines = [
        json.dumps({"id": at, "prompt": json.dumps([[[f"{source}_note", {"line": str(at)}]], "="])})
        for at, source in enumerate(sources)
    ]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines))
    arguments = command(server, "lines.jsonl", "--output", "out.jsonl", "--allow-tool", "*")
    for name in dict.fromkeys(sources):
        arguments += ["--tools", f"{name}.py"]
    process = Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    output, called = tmp_path / "out.jsonl", tmp_path / "calls.txt"
    # The last line begins when the third fast one is answered, the only one of those open that waits for nothing
    while not (called.exists() and re.search(f"^{last} ", called.read_text(), re.MULTILINE)):
        assert time.monotonic() < until
        time.sleep(0.02)
    children = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    assert (process.wait(60), process.communicate()) == (130, (b"", b""))
    assert all(ends(child) for child in children)
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == [*fast]
    for name in ("slow", "last"):
        (tmp_path / f"{name}.py").write_text(COUNTING)
    done = run_command([*arguments, "--resume"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    results = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(each["id"], each["text"]) for each in results] == [(at, f"noted {at}") for at in (*fast, *slow, last)]
    calls = Counter(int(line.split()[0]) for line in called.read_text().splitlines())
    assert [calls[at] for at in fast] == [1, 1, 1] and calls[last] == 2
    assert sorted(calls[at] for at in slow) == [*[1] * (len(slow) - 1), 2]


def test_a_dry_run_shows_the_functions(tiny_v3_model: Path) -> None:
    arguments = [*PROGRAM, "-m", str(tiny_v3_model), "--batch", "-", "--run-tools", "--dry-run"]
    done = run_command(arguments, input=b'"hi"\n', capture_output=True, check=False)
    assert (done.returncode, "read_file" in json.loads(done.stdout)["text"]) == (0, True)


class Calling:
    """A local backend that calls a function in the first answer to each question."""

    def __init__(self, backend: LocalBackend) -> None:
        self.backend = backend

    def answer_all(self, requests: Iterator[Request], *rest: Any) -> Iterator[tuple[int, Completion | ChatError]]:
        kept: dict[int, Request] = {}

        def noted() -> Iterator[Request]:
            for number, request in enumerate(requests):
                kept[number] = request
                yield request

        for number, outcome in self.backend.answer_all(noted(), *rest):
            messages = kept[number].prompt.messages or ()
            if isinstance(outcome, Completion) and messages[-1].role == "user":
                outcome = replace(outcome, text="", tool_calls=(ToolCall("look", "{}", "abcdefghi"),))
            yield number, outcome


def record(at: int, words: str = "Why?") -> BatchRecord:
    return BatchRecord(at, Request(Prompt((Message("user", f"{words} {at}"),)), Sampling(temperature=0), max_tokens=4))


def rounds_of(*sources: Any, allow: str = "*") -> CallRounds:
    loop = CallLoop(Toolbox(sources), ToolRules(read_rules([allow], "test")), CallLimits(), 10)
    return CallRounds(loop, None, lambda _: None)


def outcomes_of(source: FakeSource, backend: Any, numbers: range) -> list[tuple[int, Completion | ChatError, Any]]:
    return list(rounds_of(source).outcomes(backend, map(record, numbers), None, iter))


def test_the_engine_answers_on_after_the_calls_of_many_lines(tiny_v3_model: Path) -> None:
    source = FakeSource("x", look=lambda *_: "blue")
    backend = LocalBackend(EngineOptions(str(tiny_v3_model), threads=1))
    try:
        outcomes = outcomes_of(source, Calling(backend), range(40))
    finally:
        backend.close()
    assert sorted(index for index, _, _ in outcomes) == list(range(40))
    assert len(source.calls) == 40 and all([each.text for each in calls] == ["blue"] for _, _, calls in outcomes)
    assert {getattr(done, "finish_reason", done) for _, done, _ in outcomes} <= {"length", "stop"}


def test_a_batch_whose_lines_all_wait_for_functions_can_be_cancelled(tiny_v3_model: Path) -> None:
    """The engine had nothing to do then, and waited for requests."""
    begun, backend = threading.Event(), LocalBackend(EngineOptions(str(tiny_v3_model), threads=1))

    def hang(_: object, control: Any) -> str:
        begun.set()
        control.stopped.wait()
        return ""

    def cancel() -> None:
        begun.wait()
        backend.cancel()

    threading.Thread(target=cancel).start()
    try:
        outcomes = outcomes_of(FakeSource("x", look=hang), Calling(backend), range(3))
    finally:
        backend.close()
    assert [
        (index, getattr(done, "finish_reason", "")) for index, done, _ in sorted(outcomes, key=lambda each: each[0])
    ] == [(at, "interrupted") for at in range(3)]


class Answering:
    """A backend of this process; what it got is in `most`, the most records between call and answer."""

    def answer_all(self, requests: Iterator[Request], *_: Any) -> Iterator[tuple[int, Completion]]:
        for number, request in enumerate(requests):
            messages = request.prompt.messages or ()
            calls = (ToolCall("look", "{}", "abcdefghi"),) if messages[-1].role == "user" else ()
            yield number, Completion("x", "stop", (), "", TokenCounts(), Seconds(), tool_calls=calls)


def test_slow_functions_do_not_let_the_number_of_threads_grow() -> None:
    """A batch of 10,000 lines whose functions take a minute would have started 10,000 threads."""
    seen: list[int] = []

    def slow(*_: object) -> str:
        seen.append(threading.active_count())
        time.sleep(0.01)
        return "blue"

    before = threading.active_count()
    outcomes = outcomes_of(FakeSource("x", look=slow), Answering(), range(200))
    assert len(outcomes) == 200 and max(seen) - before < 40


def test_what_reading_the_records_raises_comes_after_the_answers_before_it() -> None:
    def records() -> Iterator[BatchRecord]:
        yield record(0)
        raise ChatError("the disk is gone")

    given = []
    with pytest.raises(ChatError, match="the disk is gone"):
        for outcome in rounds_of(FakeSource("x", look=lambda *_: "blue")).outcomes(Answering(), records(), None, iter):  # type: ignore[arg-type]
            given.append(outcome)
    assert [index for index, _, _ in given] == [0]
