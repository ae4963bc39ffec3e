"""`--batch` in real pipes with several answers at once: order, faults in the middle, signals, deaths, going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.processes import children_of

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
PROGRAM = [sys.executable, "-m", "chat.cli"]
GREEDY = ("--temperature", 0, "--seed", 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose rows llama.cpp computes alike, one or four at once."""
    output = tmp_path_factory.mktemp("models") / "model.gguf"
    source = str(CHECKPOINTS / "mistral-v0.1")
    subprocess.run([*PROGRAM, "convert", source, "-t", "Q8_0", "-o", str(output)], check=True, capture_output=True)
    return output


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """Twelve prompts, with a bad line in the middle."""
    lines = [json.dumps({"id": f"q{at}", "prompt": f"question {at} " * (1 + at * at % 7)}) for at in range(12)]
    lines[5] = '{"id": "q5", "prompt": 7}'
    path = tmp_path / "batch.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def answers(*arguments: object) -> tuple[int, list[dict[str, Any]], bytes]:
    process = start(*arguments)
    output, errors = process.communicate(timeout=60)
    return process.returncode, [json.loads(line) for line in output.splitlines()], errors


def said(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(each["id"], each.get("text"), each.get("finish_reason"), each.get("error")) for each in results]


def test_the_results_are_the_same_and_in_order_however_many_grow_at_once(model: Path, batch: Path) -> None:
    one, *others = (
        answers("-m", model, "--batch", batch, "-n", 12, *GREEDY, "--parallel", parallel) for parallel in (1, 2, 4)
    )
    code, results, errors = one
    assert (code, errors) == (1, b"")
    assert [each["id"] for each in results] == [f"q{at}" for at in range(12)]
    assert [at for at, each in enumerate(results) if "error" in each] == [5]
    assert (results[5]["error"], results[5]["exit_code"]) == ("line 6: `prompt` needs a text", 6)
    for other in others:
        assert (other[0], said(other[1]), other[2]) == (1, said(results), b"")


def test_a_program_can_wait_for_each_answer_on_a_pipe(model: Path) -> None:
    command = [*PROGRAM, "-m", str(model), "--batch", "-", "-n", "3", "-q"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for at in range(3):
            process.stdin.write(b'"hello"\n')
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == at + 1
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.parametrize("parallel", [1, 4])
def test_ctrl_c_keeps_what_is_finished_and_resume_does_the_rest(parallel: int, model: Path, tmp_path: Path) -> None:
    lines = [{"id": at, "prompt": f"question {at}", "max_tokens": 5 if at < 2 else 20000} for at in range(6)]
    batch, output = tmp_path / "batch.jsonl", tmp_path / "out.jsonl"
    batch.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ("-m", model, "--batch", batch, "--output", output, "--parallel", parallel, *GREEDY)
    process = start(*arguments)
    until = time.monotonic() + 30
    while not (output.exists() and output.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
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


def test_a_killed_engine_costs_no_answer(model: Path, batch: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    arguments = ("-m", model, "--batch", batch, "-n", 100, *GREEDY, "--parallel", 3)
    _, results, _ = answers(*arguments)
    process = start(*arguments, "--output", output)
    until = time.monotonic() + 30
    while not (output.exists() and b"\n" in output.read_bytes()):
        assert time.monotonic() < until
        time.sleep(0.01)
    for child in children_of(process.pid):
        os.kill(child, signal.SIGKILL)
    assert process.wait(60) == 1  # of the bad line
    assert said([json.loads(line) for line in output.read_text().splitlines()]) == said(results)


def test_a_raw_batch_has_no_template(model: Path) -> None:
    """It had: `--raw` was not looked at."""
    lines = b'"hello"\n{"messages": [{"role": "user", "content": "x"}]}\n'
    command = [*PROGRAM, "-m", str(model), "--raw", "--batch", "-", "--dry-run"]
    done = subprocess.run(command, input=lines, capture_output=True, check=False)
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["text"], second["error"]) == (
        "<s> hello", "line 2: `messages` need a template, but `--raw` has none",
    )  # fmt: skip


def test_a_cut_record_fails_the_batch_only_when_asked_to(model: Path) -> None:
    for flags, code in (([], 0), (["--fail-on-length"], 1)):
        command = [*PROGRAM, "-m", str(model), "-n", "2", "--batch", "-", *flags]
        done = subprocess.run(command, input=b'"hello"\n', capture_output=True, check=False)
        assert (done.returncode, json.loads(done.stdout)["finish_reason"]) == (code, "length")


def test_lines_of_one_id_are_all_answered_after_a_crash(model: Path, tmp_path: Path) -> None:
    """The second line of an id that stood there twice was lost: its id was in the file already."""
    batch, output = tmp_path / "batch.jsonl", tmp_path / "out.jsonl"
    batch.write_text('{"id": "a", "prompt": "one"}\n{"id": "a", "prompt": "two"}\n{"id": "b", "prompt": "three"}\n')
    output.write_text('{"id": "a", "text": "kept"}\n')
    command = [*PROGRAM, "-m", str(model), "-n", "2", "--batch", str(batch), "-o", str(output), "--resume"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("flags", "name"),
    [(["--session", "s"], "--session"), (["-c"], "--continue"), (["--raw-ids", "x"], "--raw-ids")],
)
def test_options_of_a_single_answer_are_refused(flags: list[str], name: str) -> None:
    command = [*PROGRAM, "-m", "guide", "--batch", "-", *flags]
    done = subprocess.run(command, input=b'"hello"\n', capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == f"error: --batch and {name} exclude each other\nhint: give one of them\n"
