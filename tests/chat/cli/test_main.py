"""Ctrl+C at every moment of the program's beginning, after its first line, ends it quietly, with 130.

What Python does before our first line is Python's own: there Ctrl+C shows its traceback, or ends it silently.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from chat.cli.main import run
from tests.grids import FULL

PROGRAM = [sys.executable, "-X", "importtime", "-m", "chat"]  # writes a line to stderr when a module was imported
STEP = 2 if FULL else 15


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent to one program there")
@pytest.mark.parametrize("imports", range(1, 70, STEP))
def test_ctrl_c_ends_a_starting_filter_quietly(tmp_path: Path, tiny_model: Path, imports: int) -> None:
    command = [*PROGRAM, "-m", str(tiny_model), "-n", "3000", "a question"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as program:
        assert program.stderr is not None
        while "| chat.system.interrupts" not in program.stderr.readline():
            pass
        assert len(list(islice(program.stderr, imports))) == imports
        program.send_signal(signal.SIGINT)
        said = [line for line in program.stderr if not line.startswith("import time:")]
    assert (program.returncode, said) == (130, [])


@pytest.mark.skipif(sys.platform == "win32", reason="no shell there has one ignored")
def test_ctrl_c_stays_ignored_if_the_caller_ignored_it(tmp_path: Path) -> None:
    """A shell without job control starts background programs like this."""
    shell = 'trap "" INT; exec "$@"'
    command = ["sh", "-c", shell, "sh", sys.executable, "-X", "importtime", "-m", "chat", "--version"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as program:
        assert program.stdout is not None and program.stderr is not None
        while "| chat.system.interrupts" not in program.stderr.readline():
            pass
        program.send_signal(signal.SIGINT)
        program.stderr.read()
        assert program.stdout.read().startswith("mistral-chat ")
    assert program.returncode == 0


def test_ctrl_c_in_compiled_text_ends_with_130() -> None:
    """Dataclasses are such text: Python ended by the signal, and took a shell script along, though it was caught."""
    code = (
        "from chat.cli import main as cli\n"
        "def run(arguments):\n"
        "    try:\n"
        "        exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt:\n"
        "        print('kept')\n"
        "        return 130\n"
        "cli.run = run\n"
        "cli.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "kept\n", "")


def test_ctrl_c_while_the_interpreter_ends_changes_nothing() -> None:
    """The program died of it there, with its work done: Python has no handlers any more."""
    code = (
        "import signal\n"
        "from chat import __main__\nfrom chat.cli import main as cli\n"
        "class Late:\n"
        "    def __del__(self, send=signal.raise_signal, number=signal.SIGINT):\n"
        "        send(number)\n"
        "late = Late()\n"
        "cli.run = lambda arguments: 0\n"
        "__main__.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(("message", "code"), [("expected a message argument", 130), ("another", 1)])
def test_an_interrupt_that_an_import_replaced_ends_with_130(
    message: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl+C inside `from MODULE import NAME` once ended a session's start with "unexpected: TypeError"."""

    def interrupted(*_: object) -> int:
        raise TypeError(message)

    monkeypatch.setattr("chat.cli.main._dispatch", interrupted)
    assert run(["hello"]) == code
