"""llama-cpp-python's own server as the engine, started here with a tiny model: the same answers as without it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.program import Popen, run_command
from tests.remote.servers import Server

CONTEXT = 256  # tokens of the fixture's server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(python_server: Server) -> str:
    """Its address."""
    return f"{python_server.url}/v1"


def chat(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    command = [sys.executable, "-m", "chat", *arguments]
    return run_command(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def record(*arguments: str) -> dict[str, Any]:
    """What `--json` says."""
    done = chat("--json", *arguments)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


GREEDY = ("--temperature", "0", "-n", "24")


@pytest.mark.slow
def test_a_continued_text_is_the_one_the_local_engine_writes(server: str, tiny_v3_model: Path) -> None:
    asked = ("--raw", "--temperature", "0", "-n", "16", "Once upon a time there was")
    remote = record("--remote", server, *asked)
    local = record("-m", str(tiny_v3_model), "--repeat-penalty", "1.1", *asked)
    # 1.1 is the server's own default, and it drops bytes that are no character, which here become U+FFFD
    assert remote["text"] == local["text"].replace("\ufffd", "") != ""
    assert remote["finish_reason"] == "length"


def test_a_conversation_is_answered_and_what_was_not_told_is_not_made_up(server: str, tiny_v3_model: Path) -> None:
    answer = record("--remote", server, *GREEDY, "--system", "Be brief", "Hello")
    assert answer["finish_reason"] in ("stop", "length")
    assert answer["text"]
    assert (answer["tokens"], answer["ids"], answer["model"]["size"]) == (None, None, None)
    assert answer["model"]["name"] == str(tiny_v3_model)  # as this server calls it


def test_every_line_of_a_batch_is_answered_in_order(server: str, tmp_path: Path) -> None:
    """This server ends an answer, as if it were complete, when the next request comes: most of them were empty."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": number, "prompt": "Say it"}) + "\n" for number in range(10)))
    done = chat("--remote", server, *GREEDY, "-q", "--parallel", "8", "--batch", str(prompts))
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["id"] for each in results] == list(range(10))
    assert {each["text"] for each in results} == {record("--remote", server, *GREEDY, "Say it")["text"]} != {""}


def test_after_ctrl_c_the_server_answers_the_next_question(server: str) -> None:
    command = [sys.executable, "-m", "chat", "--remote", server, "--raw", "-n", "200", "Go on"]
    asking = Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert asking.stdout is not None
    first = os.read(asking.stdout.fileno(), 1)
    asking.send_signal(signal.SIGINT)
    rest, _ = asking.communicate(timeout=60)
    assert first
    assert asking.returncode == 130, rest
    assert record("--remote", server, "--raw", *GREEDY, "Once upon a time there was")["text"]


@pytest.mark.slow
def test_a_prompt_longer_than_the_servers_context_is_no_answer(server: str) -> None:
    done = chat("--remote", server, "--raw", *GREEDY, "word " * CONTEXT)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("error: the prompt exceeds the server's context: ")
    assert len(done.stderr.strip().splitlines()) <= 2, done.stderr


@pytest.mark.parametrize(
    ("flags", "form"),
    [
        (("--regex", "[0-9]{3}|no"), "[0-9]{3}|no"),
        (("--choice", "yes", "--choice", "no"), "yes|no"),
        (("--schema", "age int"), r'\{\s*"age"\s*:\s*-?[0-9]+\s*\}'),
    ],
)
def test_a_constraint_holds(flags: tuple[str, ...], form: str, server: str) -> None:
    """A regular expression was answered with any JSON: it was sent in a form that this server does not have."""
    done = chat("--remote", server, "--temperature", "0", "-n", "60", *flags, "Go")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(form, done.stdout.strip())
