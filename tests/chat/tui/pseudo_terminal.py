"""Run a program in a pseudo-terminal, type keys, and read its screen and scrollback."""

from __future__ import annotations

import os
import re
import signal
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyte
import pytest

from tests.environments import row_of, rows_of
from tests.folders import ROOT
from tests.program import fork_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Where the system has no pseudo-terminals, the tests that use one are skipped
fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
pexpect, ptyprocess = pytest.importorskip("pexpect"), pytest.importorskip("ptyprocess")

DEADLINE_SECONDS = 60.0  # for what takes a moment on an idle machine: what has not come by then never comes
PASTES_MARKED, PASTES_UNMARKED = b"\x1b[?2004h", b"\x1b[?2004l"  # at the beginning and end of each prompt
POSITION_ASKED = b"\x1b[6n"
ENTER, ALT_ENTER, CTRL_C, CTRL_D = "\r", "\x1b\r", "\x03", "\x04"
CTRL_G, CTRL_J, CTRL_R, CTRL_T, CTRL_U, CTRL_Z = "\x07", "\n", "\x12", "\x14", "\x15", "\x1a"
UP, TAB = "\x1b[A", "\t"


class FaintScreen(pyte.HistoryScreen):
    """pyte's screen, which lacks faint text: here the blinking attribute, which nothing uses, stands for it."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        super().select_graphic_rendition(*attributes)
        if 2 in attributes:
            self.cursor.attrs = self.cursor.attrs._replace(blink=True)


class Spawned(pexpect.spawn):
    """A program in a pseudo-terminal, forked where that does the same as starting it."""

    def _spawnpty(self, args: list[bytes], **more: Any) -> ptyprocess.PtyProcess:
        command = [os.fsdecode(argument) for argument in args]
        server = fork_server()
        if server is None or not server.can_run(command, more["env"]):
            return super()._spawnpty(args, **more)
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *more["dimensions"], 0, 0))
        process = server.fork(command, more["env"], more["cwd"], [theirs] * 3, terminal=True)
        os.close(theirs)
        return ptyprocess.PtyProcess(process, ours)


class Terminal:
    """A program, the bytes it wrote, and the screen they make.

    As a real terminal it answers the question for the cursor's position. `fork` may be False, for a program that is to
    be a new interpreter; `whole` is the whole environment, in place of ours with some more.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 80,
        lines: int = 24,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        fork: bool = True,
        whole: Mapping[str, str] | None = None,
    ) -> None:
        hidden = ("MISTRAL_CHAT", "COLUMNS", "LINES", "NO_COLOR")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        plain |= {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **(environment or {})}
        plain = plain if whole is None else dict(whole)
        self.screen = FaintScreen(columns, lines, history=5000)
        self._stream = pyte.ByteStream(self.screen)
        self.output = b""
        self.child = (Spawned if fork else pexpect.spawn)(
            command[0],
            list(command[1:]),
            env=plain,
            dimensions=(lines, columns),
            cwd=folder,
            timeout=DEADLINE_SECONDS,
            echo=True,
        )
        self.child.delaybeforesend = None

    def pump(self, seconds: float = 0.05) -> bool:
        """Take what the program writes; False once it has ended."""
        try:
            data = self.child.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.output += data
        self._stream.feed(re.sub(rb"\x1b\[\?2026[hl]", b"", data))
        for _ in range(data.count(POSITION_ASKED)):
            self.child.send(f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R")
        return True

    def wait(self, what: str | Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
        """Pump until a text is on the screen, or a function returns True."""
        deadline = time.monotonic() + seconds
        while not (what in self.text() if isinstance(what, str) else what()):
            if time.monotonic() > deadline:
                raise AssertionError(f"timed out waiting for {what!r}; the screen shows\n{self.text()}")
            if not self.pump():
                if what in self.text() if isinstance(what, str) else what():
                    return
                raise AssertionError(f"the program ended before {what!r}; the screen shows\n{self.text()}")

    def send(self, *keys: str) -> None:
        """Type keys, one write for each."""
        for key in keys:
            self.child.send(key)
            self.pump(0.02)

    def say(self, message: str) -> None:
        """Type a message at an empty prompt, then Enter when the message is shown, and wait until Enter is processed.

        Keys that are read together may have another meaning: they are a paste, or were typed before the prompt.
        """
        self.wait_for_prompt()
        self.send(message)
        self.wait(lambda: "".join(self.before_cursor().split()).endswith("".join(f">{message}".split())))
        before = len(self.output)
        self.send(ENTER)
        processed = PASTES_UNMARKED if PASTES_MARKED in self.output else b"\n"
        self.wait(lambda: processed in self.output[before:])

    def sends_signals(self) -> bool:
        """Whether Ctrl+C is a signal now, as it is between prompts; in a prompt it is a key."""
        return bool(termios.tcgetattr(self.child.child_fd)[3] & termios.ISIG)

    def shows_keys(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self.child.child_fd)[3] & termios.ECHO)

    def run(self, line: str, answer: str) -> None:
        """Type a line at an empty prompt, and wait for an answer to it and for the next prompt."""
        self.say(line)
        self.wait(lambda: answer in self.text().rsplit(f"> {line}", 1)[-1])
        self.wait(lambda: self.cursor_line().startswith(">"))

    def wait_for_prompt(self, seconds: float = DEADLINE_SECONDS) -> None:
        """Pump until the cursor is at an empty prompt of a session."""
        self.wait(lambda: self.cursor_line() == ">", seconds)

    def paste(self, text: str) -> None:
        """Send a paste as a terminal with bracketed paste does."""
        self.send(f"\x1b[200~{text}\x1b[201~")

    def resize(self, columns: int, lines: int) -> None:
        """Change the terminal's size, without wrapping its lines again."""
        self.child.setwinsize(lines, columns)
        self.screen.resize(lines, columns)
        self.screen.ensure_vbounds()

    def lines(self) -> list[str]:
        """The screen's lines, without trailing spaces and empty lines at the end."""
        return [line.rstrip() for line in rows_of(self.screen)]

    def cursor_line(self) -> str:
        """The line that the cursor is on, without trailing spaces."""
        return row_of(self.screen, self.screen.buffer.get(self.screen.cursor.y)).rstrip()

    def before_cursor(self) -> str:
        """The screen up to the cursor, without line breaks between its rows."""
        x, y = self.screen.cursor.x, self.screen.cursor.y
        row = self.screen.buffer[y]
        return "".join(rows_of(self.screen)[:y]) + "".join(row[column].data for column in range(x))

    def text(self) -> str:
        """The screen."""
        return "\n".join(self.lines()).rstrip()

    def everything(self) -> str:
        """Scrollback and screen."""
        above = [row_of(self.screen, row).rstrip() for row in self.screen.history.top]
        return "\n".join([*above, *self.lines()]).rstrip()

    def end(self, seconds: float = DEADLINE_SECONDS) -> int:
        """Wait for the program's end: its exit code, or the negative number of a signal."""
        deadline = time.monotonic() + seconds
        while self.pump():
            if time.monotonic() > deadline:
                raise AssertionError(f"the program does not end; the screen shows\n{self.text()}")
        self.child.close()
        return self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus

    def hang_up(self) -> None:
        """Close the terminal under the program.

        By the object that owns it: closed by its number, it would be closed again when the object goes, and by then
        the number may be another test's.
        """
        self.child.ptyproc.fileobj.close()
        self.child.ptyproc.closed = self.child.closed = True

    def kill(self) -> None:
        """Kill the program."""
        if self.child.isalive():
            self.child.kill(signal.SIGKILL)
        if not self.child.closed:
            self.child.close(force=True)


def python(program: Path, *arguments: Any) -> list[str]:
    """A command that runs a Python file."""
    return [sys.executable, str(program), *map(str, arguments)]
