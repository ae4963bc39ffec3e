"""Signals in each phase of a session and of a one-shot answer, with a real tiny model.

Whatever comes when: what was shown as answered is stored, the terminal's modes are as before, the exit code tells what
happened, and no process of ours is left.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.chat.tui.pseudo_terminal import CTRL_D, ENTER, Terminal
from tests.grids import FULL
from tests.processes import HAS_PROC, children_of

pytestmark = pytest.mark.skipif(not HAS_PROC, reason="finds programs and their signal handlers in /proc")
PHASES = ("starting", "reading", "streaming", "idle", "leaving")
ENDING, PASSING = ("SIGTERM", "SIGHUP"), ("SIGINT", "SIGTSTP", "SIGWINCH")
SOME = [("SIGTERM", "starting"), ("SIGHUP", "reading"), ("SIGINT", "streaming"), ("SIGTSTP", "streaming"),
        ("SIGTSTP", "idle"), ("SIGWINCH", "idle"), ("SIGTERM", "leaving")]  # fmt: skip
ALL = [(name, phase) for name in (*ENDING, *PASSING) for phase in PHASES]
DELAYS = [0.0, *(step * random.Random(step).uniform(0.03, 0.06) for step in range(1, 9))] if FULL else [0.0]
DEADLINE_SECONDS = 60.0  # for what takes a moment on an idle machine
FIGURES = re.compile(r"^[1-9]\d* tokens? · ", re.MULTILINE)
# With job control, else the kernel stops nothing. It shows the modes of the terminal before, at a stop and afterwards.
SHELL = """
set -m
stty -g; "$@"; code=$?
while [ $code = $((128 + $(kill -l TSTP))) ]; do stty -g; fg > /dev/null; code=$?; done
echo code=$code; stty -g
"""


@dataclass
class SignalledSession:
    """A session from its start to its end, with one signal."""

    terminal: Terminal
    name: str
    phase: str
    delay: float
    begun: float = field(default_factory=time.monotonic)
    reached: float = 0.0  # when the phase began
    sent: float = 0.0
    asked: int = 0
    typed: float = 0.0  # when the last question was
    has_left: bool = False

    def run(self) -> None:
        """Ask twice and leave, as a user would; send the signal in its phase."""
        deadline = self.begun + (DEADLINE_SECONDS if not FULL else 2 * DEADLINE_SECONDS)
        while self.terminal.pump(0.01):
            assert time.monotonic() < deadline, self.terminal.everything()
            self._signal()
            if self._is_at_prompt() and time.monotonic() - self.sent > 0.3:
                self._type_next()

    @property
    def answered(self) -> int:
        """Answers that were shown with their figures."""
        return len(FIGURES.findall(self.terminal.everything()))

    def _is_at_prompt(self) -> bool:
        """Whether the next line may be typed: the last question was shown, or a signal dropped it."""
        line = self.terminal.cursor_line()
        is_shown = not self.asked or f"question {self.asked}" in self.terminal.everything()
        is_taken = is_shown or time.monotonic() - self.typed > 10
        return is_taken and line == ">" and "loading" not in self.terminal.lines()[-1]

    def _type_next(self) -> None:
        if self.phase == "idle" and self.asked == 1 and not self.reached:
            self.reached = time.monotonic()
            self._signal()
        elif self.asked < 2:
            self.asked += 1
            self.typed = time.monotonic()
            self.terminal.send(f"question {self.asked}", ENTER)
            if self.phase == "reading" and not self.reached:
                self.reached = time.monotonic()
        else:
            self.terminal.child.send(CTRL_D)
            if not self.has_left and self.phase == "leaving":
                self.reached = time.monotonic()
            self.has_left = True

    def _signal(self) -> None:
        """Send the signal once, after its delay; the shell continues a stopped program."""
        if self.phase == "starting" and not self.reached and listens(children_of(self.terminal.child.pid)):
            self.reached = time.monotonic()
        if self.phase == "streaming" and not self.reached and re.search(r"> question 1\n\n\S", self.terminal.text()):
            self.reached = time.monotonic()
        if not self.reached or self.sent or time.monotonic() < self.reached + self.delay:
            return
        self.sent = time.monotonic()
        for program in children_of(self.terminal.child.pid)[:1]:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(program, getattr(signal, self.name))


def listens(programs: list[int]) -> bool:
    """Whether the program has set its signal handlers: before that Python itself is starting."""
    with contextlib.suppress(OSError, IndexError):
        status = Path(f"/proc/{programs[0]}/status").read_text()
        caught = int(re.findall(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)[0], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)
    return False


def ours(home: Path) -> list[int]:
    """The living processes that were started with this home."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"MISTRAL_CHAT_HOME={home}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
    return found


def wait_for_none(home: Path) -> None:
    """Wait until no process of ours is left."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while left := ours(home):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def stored(home: Path) -> list[tuple[str, str, str | None, int]]:
    """(role, content, finish_reason, streaming) of every message; the history passes its integrity check."""
    file = home / "data" / "history.db"
    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'nodes'").fetchone():
            return []  # it was being made
        return connection.execute(
            "SELECT role, content, finish_reason, streaming FROM nodes ORDER BY number"
        ).fetchall()


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(("name", "phase"), ALL if FULL else SOME)
@pytest.mark.slow
def test_a_signal_in_a_session_loses_no_answer_and_leaves_no_process(
    tmp_path: Path, tiny_model: Path, name: str, phase: str, delay: float
) -> None:
    home = tmp_path / "home"
    program = [sys.executable, "-m", "chat", "-m", str(tiny_model), "-n", "150", "--temperature", "0", "--stats"]
    environment = {"MISTRAL_CHAT_HOME": str(home), "MISTRAL_CHAT_THREADS": "1"}
    terminal = Terminal(["bash", "-c", SHELL, "bash", *program], environment=environment, folder=tmp_path)
    life = SignalledSession(terminal, name, phase, delay)
    life.run()
    terminal.kill()
    shown = terminal.everything()
    modes = re.findall(r"(?:[0-9a-f]+:){10,}[0-9a-f]+", terminal.output.decode(errors="replace"))
    may_have_ended = phase == "leaving" or delay > 0
    stops = len(modes) - 2
    assert stops == (name == "SIGTSTP") or (stops == 0 and may_have_ended), shown
    assert modes == [modes[0]] * len(modes), shown
    assert "Traceback" not in shown, shown
    assert life.sent or delay, shown  # with a delay it may have ended before
    code = int(re.findall(r"code=(\d+)", shown)[0])
    if name in ENDING:
        codes = (0, 130, 128 + getattr(signal, name)) if phase == "starting" or life.has_left else (130,)
        assert code in codes, shown
    else:
        assert code == 0 or (name == "SIGINT" and (phase == "starting" or life.has_left) and code == 130), shown
    messages = stored(home)
    assert not [message for message in messages if message[3]], messages  # no answer is left unfinished
    asked = [f"question {number}" for number in range(1, life.asked + 1)]
    kept = [content for role, content, _, _ in messages if role == "user"]
    lost = [question for question in asked if question not in kept]
    assert kept == [question for question in asked if question not in lost], shown
    is_cut = name in ENDING or (name == "SIGINT" and delay > 0)  # one question may have been on its way
    assert len(lost) <= is_cut, (messages, shown)
    assert sum(message[0] == "assistant" for message in messages) >= life.answered, (messages, shown)
    wait_for_none(home)


@pytest.mark.skipif(not FULL, reason="test_filter has one of each; here they come at every moment")
@pytest.mark.parametrize("moment", [step * 0.1 for step in range(15)])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE"])
def test_a_signal_in_a_one_shot_leaves_no_process(tmp_path: Path, tiny_model: Path, name: str, moment: float) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "chat", "-m", str(tiny_model), "-n", "3000", "--session", "s", "the question"]
    environment = {**os.environ, "MISTRAL_CHAT_HOME": str(home), "MISTRAL_CHAT_THREADS": "1"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    while not listens([child.pid]):
        time.sleep(0.005)
    time.sleep(moment)
    if name == "SIGPIPE":
        child.stdout.close()  # the reader goes away
        error = child.stderr.read() if child.stderr else b""
        code = child.wait(DEADLINE_SECONDS)
    else:
        child.send_signal(getattr(signal, name))
        _, error = child.communicate(timeout=DEADLINE_SECONDS)
        code = child.returncode
    number = getattr(signal, name)
    expected = {"SIGINT": (130,), "SIGPIPE": (141,)}.get(
        name, (128 + number, -number, 130)
    )  # by the signal in Python's very end
    assert code in (*expected, 0), (code, error)
    assert b"Traceback" not in error, error
    messages = stored(home)
    assert not [message for message in messages if message[3]], messages
    wait_for_none(home)
