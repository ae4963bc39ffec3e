"""`--batch` in real pipes with several answers at once: order, wrong lines, signals, a killed engine, `--resume`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat.batch.records import BatchRecord
from chat.batch.run import BatchSummary, OrderedResults
from chat.core.request import Prompt, Request
from chat.errors import DataError
from tests.processes import children_of
from tests.program import PROGRAM, Popen, run_command, start

GREEDY = ("--temperature", 0, "--seed", 1)
BAD = DataError("line 3: is not JSON")


@pytest.fixture(scope="module")
def model(converted: Callable[..., Path]) -> Path:
    """A model whose rows llama.cpp computes alike, one or four at once."""
    return converted("mistral-v0.1", "Q8_0")


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """Twelve prompts, with a bad line in the middle."""
    lines = [json.dumps({"id": f"q{at}", "prompt": f"question {at} " * (1 + at * at % 7)}) for at in range(12)]
    lines[5] = '{"id": "q5", "prompt": 7}'
    path = tmp_path / "batch.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def answers(*arguments: object) -> tuple[int, list[dict[str, Any]], bytes]:
    process = start(*arguments)
    output, errors = process.communicate(timeout=60)
    return process.returncode, [json.loads(line) for line in output.splitlines()], errors


def answered(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(each["id"], each.get("text"), each.get("finish_reason"), each.get("error")) for each in results]


@pytest.mark.slow
def test_results_and_their_order_do_not_depend_on_parallel(model: Path, batch: Path) -> None:
    one, *others = (
        answers("-m", model, "--batch", batch, "-n", 12, *GREEDY, "--parallel", parallel) for parallel in (1, 2, 4)
    )
    code, results, errors = one
    assert (code, errors) == (1, b"")
    assert [each["id"] for each in results] == [f"q{at}" for at in range(12)]
    assert [at for at, each in enumerate(results) if "error" in each] == [5]
    assert (results[5]["error"], results[5]["exit_code"]) == ("line 6: `prompt` must be a string", 6)
    for other in others:
        assert (other[0], answered(other[1]), other[2]) == (1, answered(results), b"")


def test_a_program_can_wait_for_each_answer_on_a_pipe(model: Path) -> None:
    command = [*PROGRAM, "-m", str(model), "--batch", "-", "-n", "3", "-q"]
    with Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for at in range(3):
            process.stdin.write(b'"hello"\n')
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == at + 1
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.mark.parametrize("parallel", [1, 4])
def test_ctrl_c_keeps_finished_results_and_resume_answers_the_rest(parallel: int, model: Path, tmp_path: Path) -> None:
    lines = [{"id": at, "prompt": f"question {at}", "max_tokens": 5 if at < 2 else 20000} for at in range(6)]
    batch, output = tmp_path / "batch.jsonl", tmp_path / "out.jsonl"
    batch.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ("-m", model, "--batch", batch, "--output", output, "--parallel", parallel, *GREEDY)
    process = start(*arguments)
    until = time.monotonic() + 60
    while not (output.exists() and output.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.communicate() == (b"", b"")
    finished = [json.loads(line) for line in output.read_text().splitlines()]  # an answer may end before its limit
    ids = [each["id"] for each in finished]
    assert (ids[:2], ids) == ([0, 1], sorted(set(ids)))
    assert len(ids) < 6
    assert all(each["finish_reason"] != "interrupted" for each in finished)
    batch.write_text("".join(json.dumps(line | {"max_tokens": 5}) + "\n" for line in lines))
    assert answers(*arguments, "--resume") == (0, [], b"")
    results = [json.loads(line) for line in output.read_text().splitlines()]
    assert results[: len(finished)] == finished
    assert sorted(each["id"] for each in results) == list(range(6))
    assert {each["tokens"]["generated"] for each in results[len(finished) :]} == {5}


@pytest.mark.slow
def test_a_killed_engine_loses_no_answer(model: Path, batch: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    arguments = ("-m", model, "--batch", batch, "-n", 100, *GREEDY, "--parallel", 3)
    _, results, _ = answers(*arguments)
    process = start(*arguments, "--output", output)
    until = time.monotonic() + 60
    while not (output.exists() and b"\n" in output.read_bytes()):
        assert time.monotonic() < until
        time.sleep(0.01)
    for child in children_of(process.pid):
        os.kill(child, signal.SIGKILL)
    assert process.wait(60) == 1  # of the bad line
    assert answered([json.loads(line) for line in output.read_text().splitlines()]) == answered(results)


def test_a_raw_batch_has_no_template(model: Path) -> None:
    """`--raw` was ignored in a batch."""
    lines = b'"hello"\n{"messages": [{"role": "user", "content": "x"}]}\n'
    command = [*PROGRAM, "-m", str(model), "--raw", "--batch", "-", "--dry-run"]
    done = run_command(command, input=lines, capture_output=True, check=False)
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["text"], second["error"]) == (
        "<s> hello", "line 2: `messages` need a template, but `--raw` has none",
    )  # fmt: skip


def test_a_cut_record_fails_the_batch_only_when_asked_to(model: Path) -> None:
    for flags, code in (([], 0), (["--fail-on-length"], 1)):
        command = [*PROGRAM, "-m", str(model), "-n", "2", "--batch", "-", *flags]
        done = run_command(command, input=b'"hello"\n', capture_output=True, check=False)
        assert (done.returncode, json.loads(done.stdout)["finish_reason"]) == (code, "length")


@pytest.mark.parametrize(
    ("flags", "name"),
    [(["--session", "s"], "--session"), (["-c"], "--continue"), (["--raw-ids", "x"], "--raw-ids")],
)
def test_options_of_a_single_answer_are_refused(flags: list[str], name: str) -> None:
    command = [*PROGRAM, "-m", "guide", "--batch", "-", *flags]
    done = run_command(command, input=b'"hello"\n', capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == f"error: --batch and {name} cannot be used together\nhint: give only one of them\n"


@pytest.mark.parametrize(
    ("lines", "results"),
    [
        (b"", []),
        (b"\n  \n\r\n", []),
        (b'\xef\xbb\xbf"a"\r\n\r\n{"id": "x", "prompt": "b"}\r\n"c"', [1, "x", 4]),
        (
            b'"a\\u0000b"\n"a\0b"\n\0\n',
            [
                1,
                "line 2: is not JSON: Invalid control character at: line 1 column 3 (char 2)",
                "line 3: is not JSON: Expecting value: line 1 column 1 (char 0)",
            ],
        ),
        (b'{"id": NaN, "prompt": "a"}\n', ["line 1: is not JSON: NaN is not a number in JSON"]),
        (b"[" * 100_000 + b'\n"\\ud800"\n5\n', ["line 1: is not JSON: ", "", "line 3: must be a string or an object"]),
    ],
)  # fmt: skip
def test_every_line_gives_an_answer_or_an_error(lines: bytes, results: list[Any], tiny_model: Path) -> None:
    command = [*PROGRAM, "-m", str(tiny_model), "-n", "1", "--batch", "-"]
    done = run_command(command, input=lines, capture_output=True, check=False)
    given = [json.loads(line, parse_constant=pytest.fail) for line in done.stdout.splitlines()]
    assert len(given) == len(results)
    for each, wanted in zip(given, results, strict=True):
        if isinstance(wanted, str) and "error" in each:
            assert each["error"].startswith(wanted)
            assert each["exit_code"] == 6
        elif wanted != "":
            assert (each["id"], "text" in each) == (wanted, True)
    assert (done.returncode, done.stderr) == (int(any("error" in each for each in given)), b"")


@pytest.mark.parametrize(
    ("line", "flags", "refused"),
    [
        ({"choice": ["x", "y"], "stop": ["x"]}, [], "--choice and --stop"),
        ({"choice": ["x", "y"], "schema": "a int"}, [], "--choice and --schema"),
        ({"stop": ["x"]}, ["--choice", "x", "--choice", "y"], "--stop and --choice"),
        ({"choice": ["x", "y"]}, ["--stop", "x"], ""),
    ],
)
def test_options_of_a_line_of_which_one_has_no_effect_are_refused(
    line: dict[str, Any], flags: list[str], refused: str, tiny_model: Path
) -> None:
    command = [*PROGRAM, "-m", str(tiny_model), "-n", "1", "--batch", "-", *flags]
    done = run_command(command, input=json.dumps({"prompt": "a", **line}).encode(), capture_output=True, check=False)
    result = json.loads(done.stdout)
    if refused:
        assert result == {"id": 1, "error": f"{refused} cannot be used together", "exit_code": 2}
    else:
        assert result["text"] in ("x", "y")


def test_a_line_over_the_context_is_exit_code_5_and_the_next_one_is_answered(tiny_v3_model: Path) -> None:
    lines = json.dumps("word " * 200_000).encode() + b'\n"b\xff"\n"c\xff"\n'
    command = [*PROGRAM, "-m", str(tiny_v3_model), "-n", "1", "--batch", "-"]
    done = run_command(command, input=lines, capture_output=True, check=False)
    first, second, third = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["exit_code"], second["finish_reason"], third["finish_reason"]) == (5, "length", "length")
    assert done.stderr == b"note: stdin is not UTF-8 in line 2; unreadable bytes became U+FFFD\n"
    assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"prompt": "a", "schema": "name, age int"}', 1),
        ('{"prompt": "a", "regex": "[a-z]{40}"}', 1),
        ('{"prompt": "a"}', 0),
        ('{"prompt": "a", "choice": ["yes", "no"]}', 0),
    ],
)
def test_a_cut_answer_fails_by_the_constraint_of_its_own_line(line: str, code: int, tiny_model: Path) -> None:
    """Only the options of the command line counted: half an object was a success."""
    command = [*PROGRAM, "-m", str(tiny_model), "-n", "2", "--batch", "-"]
    done = run_command(command, input=line.encode(), capture_output=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["id"]) == (code, 1)


def test_a_full_disk_ends_a_batch_with_exit_7_and_one_error(tiny_model: Path, tmp_path: Path) -> None:
    """An output that is a device was refused as existing, and with `--resume` read without end."""
    batch = tmp_path / "batch.jsonl"
    batch.write_text('"a"\n"b"\n')
    asked = [*PROGRAM, "-m", str(tiny_model), "-n", "1", "--batch", str(batch)]
    with Path("/dev/full").open("wb") as full:
        done = run_command(asked, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (7, b"error: cannot read or write: No space left on device\n")
    for flags in ((), ("--resume",)):
        done = run_command([*asked, "-o", "/dev/full", *flags], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (
            7,
            b"error: /dev/full: cannot be written: No space left on device\n"
            b"hint: the results so far are kept; `--resume` continues the batch\n",
        )


def test_a_closed_pipe_ends_a_batch_quietly(model: Path, tmp_path: Path) -> None:
    batch = tmp_path / "batch.jsonl"
    batch.write_text('"a"\n' * 300)
    process = start("-m", model, "--batch", batch, "-n", 5)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""


def test_sigterm_ends_a_batch_between_two_lines(model: Path, tmp_path: Path) -> None:
    batch, output = tmp_path / "batch.jsonl", tmp_path / "out.jsonl"
    batch.write_text('"a"\n' * 300)
    process = start("-m", model, "--batch", batch, "-o", output, "-n", 5)
    until = time.monotonic() + 60
    while not (output.exists() and b"\n" in output.read_bytes()):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.terminate()
    assert process.wait(60) == 143
    assert process.communicate() == (b"", b"")
    lines = output.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["id"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) < 300


def records(count: int) -> list[BatchRecord]:
    """Records of which every third is an error."""
    return [
        BatchRecord(f"id {index}", error=BAD)
        if index % 3 == 2
        else BatchRecord(f"id {index}", Request(Prompt(text=str(index))))
        for index in range(count)
    ]


def test_results_come_in_the_order_of_the_records_whatever_the_order_of_the_answers() -> None:
    draw = random.Random(5)
    for _ in range(50):
        order = OrderedResults(iter(records(11)))
        asked = [each.request.prompt.text for each in order.with_requests() if each.request]
        assert asked == [str(at) for at in range(11) if at % 3 != 2]
        given = []
        for index in draw.sample(range(len(asked)), len(asked)):
            order.add(index, {"text": asked[index]})
            given += [(record.id, result) for record, result in order.ready()]
        failed = {"error": "line 3: is not JSON", "exit_code": 6}
        assert given == [(f"id {at}", failed if at % 3 == 2 else {"text": str(at)}) for at in range(11)]
        assert order.all_taken and list(order.rest()) == []


def test_ready_results_do_not_wait_for_later_ones_and_the_rest_comes_at_the_end() -> None:
    order = OrderedResults(iter(records(6)))
    requests = order.with_requests()
    [next(requests) for _ in range(3)]
    order.add(0, {"n": 0})
    assert [result for _, result in order.ready()] == [{"n": 0}]
    order.add(2, {"n": 3})
    assert list(order.ready()) == []  # the second is still being answered
    assert [(record.id, result.get("n", "failed")) for record, result in order.rest()] == [
        ("id 2", "failed"),
        ("id 3", 3),
    ]
    assert not order.all_taken


@pytest.mark.parametrize(
    ("results", "line"),
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
def test_the_summary_adds_up_all_results(results: list[tuple[dict[str, Any], bool]], line: str) -> None:
    summary = BatchSummary()
    for result, is_failed in results:
        summary.add(result, is_failed=is_failed)
    assert summary.line(3.0) == line
