"""The program, killed at random moments while functions run: what was shown is stored, and no process stays behind.

`--full` kills 200 times.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chat.history.store import open_store
from tests.chat.tools.calling_server import calling_server
from tests.chat.tui.pseudo_terminal import ENTER, Terminal
from tests.grids import FULL
from tests.processes import ends
from tests.program import PROGRAM, Popen, run_command

KILLS = 200 if FULL else 5
SERVER_KILLS = 10 if FULL else 1
# each function writes its process, and that of one that it starts, into a file, before it is called and while it runs
FUNCTIONS = """
import os, subprocess, time

def write(number):
    with open("processes.txt", "a") as out:
        out.write(f"{number}\\n")

write(os.getpid())

def note(line: str):
    write(subprocess.Popen(["sleep", "1000"]).pid)
    with open("calls.txt", "a") as out:
        out.write(f"{line}\\n")
    time.sleep(0.05)
    return f"noted {line}"

def again(line: str):
    return note(line)
"""


def numbers_in(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def stored_texts(home: Path) -> list[str]:
    """The texts of the last session's messages; the history passes its integrity check."""
    file = home / "data" / "history.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with open_store(file) as store:
        record = store.latest()
        assert record is not None and store.take_notices() == ()
        return [node.message.content for node in store.load(record.id)[1].path()]


@pytest.mark.slow
def test_a_session_that_is_killed_while_functions_run_loses_nothing_that_was_shown(tmp_path: Path) -> None:
    chance, home = random.Random(7), tmp_path / "home"
    (tmp_path / "own.py").write_text(FUNCTIONS)
    started, seen_results = tmp_path / "processes.txt", 0
    environment = {"MISTRAL_CHAT_HOME": str(home)}
    with calling_server() as server:
        command = [*PROGRAM, "-c", "--remote", server.url, "--run-tools", "--tools", "own.py", "--allow-tool", "*"]
        for turn in range(KILLS):
            calls = [[["note", {"line": f"{turn}a"}], ["again", {"line": f"{turn}b"}]]]
            question = json.dumps([*calls, [["note", {"line": f"{turn}c"}]], f"ready {turn}: ="])
            terminal = Terminal(command, environment=environment, folder=tmp_path)
            terminal.wait(lambda terminal=terminal: terminal.cursor_line() == ">")  # type: ignore[misc]
            terminal.child.send(question + ENTER)
            if chance.random() < 0.5:
                terminal.wait(lambda terminal=terminal, turn=turn: f"noted {turn}" in terminal.everything())  # type: ignore[misc]
            deadline = time.monotonic() + chance.uniform(0, 0.6)
            while time.monotonic() < deadline and terminal.pump(0.005):
                pass
            os.kill(terminal.child.pid, signal.SIGKILL)
            while terminal.pump(0.01):
                pass
            below = terminal.everything().rpartition(f"> {question[:40]}")[2]
            terminal.kill()
            shown = [line for line in (f"noted {turn}{each}" for each in "abc") if f"  {line}" in below]
            stored = stored_texts(home)
            assert [line for line in shown if line not in stored] == []
            answer = f"ready {turn}: noted {turn}a + noted {turn}b + noted {turn}c"
            assert answer in stored or f"{answer}\n" not in below
            assert all(ends(process) for process in numbers_in(started))
            seen_results += len(shown)
    assert seen_results


@pytest.mark.slow
def test_a_batch_that_is_killed_while_functions_run_goes_on_and_answers_each_line_once(tmp_path: Path) -> None:
    chance, count = random.Random(8), 30
    (tmp_path / "own.py").write_text(FUNCTIONS)
    lines = [{"id": at, "prompt": json.dumps([[["note", {"line": str(at)}]], "="])} for at in range(count)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    output, called = tmp_path / "out.jsonl", tmp_path / "calls.txt"
    with calling_server() as server:
        command = [*PROGRAM, "--remote", server.url, "--run-tools", "--tools", "own.py", "--allow-tool", "*"]
        command += ["--batch", "in.jsonl", "--output", "out.jsonl", "--resume"]
        for _ in range(KILLS // 5 or 1):
            finished = [json.loads(line)["id"] for line in whole_lines(output)]
            before = len(numbers_in(called))
            process = Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + chance.uniform(0.2, 2.5)
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.01)
            process.kill()
            process.wait()
            assert all(ends(each) for each in numbers_in(tmp_path / "processes.txt"))
            assert not set(numbers_in(called)[before:]) & set(finished)  # what is acknowledged is not called again
            if len(finished) == count:
                output.unlink()
        done = run_command(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    results = [json.loads(line) for line in whole_lines(output)]
    assert sorted(each["id"] for each in results) == list(range(count))
    assert all(each["text"] == f"noted {each['id']}" for each in results)


def whole_lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")] if file.exists() else []


@pytest.mark.slow
def test_no_server_stays_behind_a_program_that_is_killed(tmp_path: Path) -> None:
    """The server's own process is a child of the one that speaks with it."""
    chance, server_file = random.Random(9), Path(__file__).parent / "chat" / "tools" / "raw_server.py"
    own = f"import os; open('processes.txt', 'a').write(f'{{os.getpid()}}\\n'); exec(open({str(server_file)!r}).read())"
    config = {"mcpServers": {"raw": {"command": sys.executable, "args": ["-c", own, "ask"]}}}
    (tmp_path / "mcp.json").write_text(json.dumps(config))
    rounds = json.dumps([[["good", {}]], [["good", {}]], "="])
    with calling_server() as server:
        command = [*PROGRAM, "--remote", server.url, "--run-tools", "--mcp-config", "mcp.json", "--allow-tool", "*"]
        for _ in range(SERVER_KILLS):
            process = Popen([*command, rounds], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            known = len(numbers_in(tmp_path / "processes.txt"))
            while process.poll() is None and len(numbers_in(tmp_path / "processes.txt")) == known:
                time.sleep(0.01)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, 1.0))
            process.kill()
            process.wait()
            assert len(numbers_in(tmp_path / "processes.txt")) == known + 1
            assert all(ends(each) for each in numbers_in(tmp_path / "processes.txt"))
