"""A forked command is what a new interpreter would be, and ends as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chat.tui.pseudo_terminal import Terminal
from tests.folders import ROOT
from tests.program import PROGRAM, Popen, fork_server, run_command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux alone")

FACTS = """
import gc, json, locale, os, signal, sys, time
streams = [sys.stdin, sys.stdout, sys.stderr]
print(json.dumps({
    "streams": [
        [each.name, each.mode, each.encoding, each.errors, each.line_buffering, each.write_through, repr(each.newlines),
         type(each.buffer).__name__, each.isatty(), each.fileno()]
        for each in streams
    ],
    "same": sys.stdin is sys.__stdin__ and sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__,
    "text": sys.stdin.read() if not sys.stdin.isatty() else "",
    "arguments": sys.argv, "path": sys.path[0], "name": __name__, "main": sys.modules["__main__"].__name__,
    "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "environment": dict(os.environ), "zone": time.tzname, "locale": locale.setlocale(locale.LC_ALL),
    "folder": os.getcwd(), "mask": os.umask(0), "group": os.getpgrp() == os.getpid() or os.getpgrp(),
    "session": os.getsid(0) == os.getpid() or os.getsid(0), "parent": os.getppid(),
    "descriptors": [number for number in range(64) if os.path.exists(f"/proc/self/fd/{number}")],
    "flags": list(sys.flags), "collects": gc.isenabled(), "threads": len(os.listdir("/proc/self/task")),
}, default=str))
"""


def test_a_forked_command_finds_what_a_new_interpreter_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("OF_A_TEST", "ä\udcff")
    file = tmp_path / "facts.py"
    file.write_text(FACTS)
    for command in (
        [sys.executable, "-c", FACTS, "an", "ä"],
        [sys.executable, str(file), "--argument"],
    ):
        asked = {"input": b"a\r\nb\xff", "capture_output": True, "cwd": tmp_path, "check": True, "env": {**os.environ}}
        forked, new = run_command(command, **asked), subprocess.run(command, **asked)
        one, other = json.loads(forked.stdout), json.loads(new.stdout)
        assert {name: one[name] for name in one if one[name] != other[name]} == {}
        assert forked.stderr == new.stderr


def test_a_forked_command_finds_the_terminal_that_a_new_interpreter_finds(tmp_path: Path) -> None:
    file = tmp_path / "facts.py"
    file.write_text(f"import os, termios\n{FACTS}\nprint(os.tcgetpgrp(0) == os.getpid(), os.ttyname(0)[:9])\n")
    shown = []
    for python in (sys.executable, sys.executable.replace("/bin/", "/bin/./")):  # the second one is not forked
        terminal = Terminal([python, str(file)], columns=200, lines=60, folder=tmp_path)
        assert terminal.end() == 0
        shown.append(terminal.everything().replace(python, sys.executable))
    assert shown[0] == shown[1]
    assert "True /dev/pts/" in shown[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(3)",
        "import sys; sys.exit('a message')",
        "raise KeyboardInterrupt",
        "import os; os.kill(os.getpid(), 9)",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "print('kept in the buffer', end='')",
        "import os; print('lost in the buffer'); os._exit(4)",
        "import atexit; atexit.register(print, 'at the end')",
        "import threading, time; threading.Timer(0.1, lambda: print('a thread')).start()",
        "import os, sys; sys.stdout.write('x'); os.close(1)",
    ],
)
def test_a_forked_command_ends_as_a_new_interpreter_does(code: str) -> None:
    command = [sys.executable, "-c", code]
    forked = run_command(command, capture_output=True)
    new = subprocess.run(command, capture_output=True, check=False)
    assert (forked.returncode, forked.stdout) == (new.returncode, new.stdout)
    assert forked.stderr.splitlines()[-1:] == new.stderr.splitlines()[-1:]


def test_a_forked_command_is_our_child() -> None:
    with Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.poll() is None
        assert os.waitpid(process.pid, os.WNOHANG) == (0, 0)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def test_what_python_reads_at_its_start_is_not_forked(tmp_path: Path) -> None:
    server = fork_server()
    assert server is not None
    here = dict(os.environ)
    assert server.can_run([*PROGRAM, "hello"], here)
    assert server.can_run([*PROGRAM, "hello"], {**here, "PYTHONPATH": str(ROOT), "COLUMNS": "40"})
    for changed in (
        {"PYTHONPATH": str(tmp_path)},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        {"PYTHONHASHSEED": "1"},
    ):
        assert not server.can_run([*PROGRAM, "hello"], here | changed)
    for command in (["bash"], [sys.executable], [sys.executable, "-X", "importtime", "-m", "chat"]):
        assert not server.can_run(command, here)


@pytest.mark.slow
def test_the_program_says_the_same_forked_or_not(own_home: Path) -> None:
    for arguments in (["--version"], ["--help"], ["models", "--help"], ["--wrong"], ["-m", "nothing.gguf", "hello"]):
        asked = {"stdin": subprocess.DEVNULL, "capture_output": True, "env": {**os.environ}}
        forked, new = (each([*PROGRAM, *arguments], **asked) for each in (run_command, subprocess.run))
        assert (forked.returncode, forked.stdout, forked.stderr) == (new.returncode, new.stdout, new.stderr)


def test_a_run_does_not_change_the_next_one() -> None:
    code = "import chat.system.paths as module; print(hasattr(module, 'changed')); module.changed = True"
    for _ in range(2):
        assert run_command([sys.executable, "-c", code], capture_output=True).stdout == b"False\n"


def test_what_reads_the_environment_when_it_is_imported_is_left_to_the_run() -> None:
    names = ["huggingface_hub", "typer.rich_utils", "mistral_common"]
    code = f"import sys; print([name for name in {names} if name in sys.modules])"
    assert run_command([sys.executable, "-c", code], capture_output=True).stdout == b"[]\n"
