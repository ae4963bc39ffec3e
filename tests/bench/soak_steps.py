"""The random steps of a soak, in one session with a real tiny model in a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chat.tui import pseudo_terminal as keys
from tests.folders import CHECKPOINTS

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_SECONDS = 10.0  # that the screen may stand still until the prompt is back
SILENT_SECONDS = 1.0  # from which on it is counted how long the session waits for a processor
HANG_SECONDS = 600.0  # then the session is killed
CTRL_L, DOWN = "\x0c", "\x1b[B"
# A shell that notes stops, and continues the program at Enter; not by a loop, which bash leaves when a program stops
SHELL = """
set -m
go_on() { case $code in 147|148) echo stopped; read -r _; fg > /dev/null; code=$?; go_on; esac }
"$@"; code=$?; go_on
echo code=$code
"""


def listed(text: str) -> list[str]:
    """The parts of a text between dots, whatever lines it is written on."""
    return text.replace("\n", "").split("·")


WORDS = listed("window·der Körper·滑动窗口·🎉·`code`·**bold**·[INST]·</s>·naïve·a|b·1,024·#·$x$")
KEYS = listed("""a·ß·滑· ·\x01·\x05·\x0b·\x14·\x00·\x0f·\x17·\x19·\x1d·\x1bb·\x1bf·\x1bd·\x1b[1;5C·\x1b[1;2D·\x1b[3~·
\x1bOP·\x1b[24~·\x1b[A·\x1b[B""")
OPTIONS = listed("""temperature 0.2·temperature default·temperature 1e9·top-p 0.5·stop zz·stop default·seed 5·
seed default·think hide·markdown off·markdown on·nothing 1·keys vi""")
RELOADING = listed("context 512·context 1024·context default·kv-type f32·kv-type default")
LOOKING = listed("""/help·/help set·/context·/stats·/sessions·/search window·/search 'der Körper'·/copy·/copy all·
/copy code·/bogus·/file·/file clear·/result x·/save·/load 999·//literal··   ·/think show·/export·/load nobody·
/edit 999·/branches x·/undo 99999999999·/show all·/show·/show temperature·/think on·/think auto·/think limit 5·
/think limit off·/preset·/preset none·/raw on·/raw off·/system You are a lighthouse.·/system none·/system default·
/system·/model·/model info·/model none.gguf""")
TREE = listed("/undo·/undo 2·/regen·/regen·/continue·/branches·/branches 1·/branches 2")


def children_of(process: int) -> list[int]:
    """The children that any thread of a process started."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


def make_models(folder: Path) -> list[Path]:
    """A model with a window and one without, converted from the checkpoints beside the tests."""
    from convert.draft import ConversionOptions
    from convert.pipeline import convert

    models = []
    for name in ("mistral-v0.1", "mistral-v0.3"):
        models.append(folder / f"{name}.gguf")
        if not models[-1].exists():
            convert(ConversionOptions(CHECKPOINTS / name, models[-1], "F32", show_progress=False))
    return models


def seconds_without_processor(processes: list[int]) -> float:
    """How long the threads of some processes could run, and other programs had the processors, since they began."""
    nanoseconds = 0
    for process in processes:
        for task in Path(f"/proc/{process}/task").glob("*"):
            with contextlib.suppress(OSError):
                nanoseconds += int((task / "schedstat").read_text().split()[1])
    return nanoseconds / 1e9


class Session:
    """One session in a terminal, and the steps that can be taken in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.log = folder / "session.log"
        self.chance = random.Random(seed)
        self.models = make_models(folder)
        self.editor = folder / "the editor.sh"
        self.editor.write_text('#!/bin/sh\nprintf " edited-$$-" >> "$1"\n')
        self.editor.chmod(0o700)
        (folder / "notes and more.txt").write_text("a line of notes\n" * 5)
        (folder / "code.py").write_text("print('hello')\n")
        self.terminal = self._started()
        self.sent: list[str] = []  # marks of messages that must be stored
        self.faults: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.longest_wait = 0.0
        self.marks = 0

    def _started(self, *flags: str) -> keys.Terminal:
        program = [sys.executable, "-m", "chat", "-m", str(self.models[0]), "-n", "24", "--stats", *flags]
        environment = {"MISTRAL_CHAT_HOME": str(self.home), "MISTRAL_CHAT_THREADS": "1", "EDITOR": f"'{self.editor}'"}
        command = ["bash", "-c", SHELL, "bash", *program, "--log-file", str(self.log)]
        terminal = keys.Terminal(command, environment=environment, folder=self.folder, fork=False)
        terminal.wait_for_prompt()
        return terminal

    # What a step is made of

    def mark(self) -> str:
        """A word that no message has had."""
        self.marks += 1
        return f"m{self.marks}x"

    def words(self, most: int = 8) -> str:
        """Some words."""
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(1, most)))

    def is_back(self) -> bool:
        """Whether the session reads keys in its prompt, in which Ctrl+C is no signal."""
        _, ended, since = self.terminal.output.rpartition(keys.PASTES_UNMARKED)
        return not self.terminal.sends_signals() and (not ended or keys.PASTES_MARKED in since)

    def is_empty(self) -> bool:
        """Whether nothing is typed at the prompt."""
        return self.is_back() and self.terminal.cursor_line() == ">" and self.terminal.screen.cursor.x == 2

    def wait_back(self, what: str) -> None:
        """Wait for the prompt.

        What counts is the longest time in which the screen stands still, without that in which the session lacks a
        processor.
        """
        written, changed, lacked = -1, time.monotonic(), 0.0

        def silence() -> float:
            nonlocal written, changed, lacked
            now, silent = time.monotonic(), 0.0
            if len(self.terminal.output) != written:
                written, changed, lacked = len(self.terminal.output), now, 0.0
            elif now - changed > SILENT_SECONDS:
                lacking = seconds_without_processor(self.processes())
                lacked = lacked or lacking
                silent = now - changed - max(0.0, lacking - lacked)
            self.longest_wait = max(self.longest_wait, silent)
            return silent

        self.terminal.wait(lambda: self.is_back() or silence() > MOST_SECONDS, HANG_SECONDS)
        if not self.is_back():
            self.fault(f"slow: {what} shows nothing for {MOST_SECONDS} s, load {os.getloadavg()[0]:.1f}")
            self.terminal.wait(self.is_back, HANG_SECONDS)

    def enter(self, text: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Send a line, and wait for the next prompt."""
        self.terminal.send(text)
        before = len(self.terminal.output)
        self.terminal.send(keys.ENTER)
        self.terminal.wait(lambda: keys.PASTES_UNMARKED in self.terminal.output[before:])
        meanwhile()
        self.wait_back(f"{text[:40]!r}")
        self.drop_line()

    def ask(self, text: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Send a message that must be stored then."""
        mark = self.mark()
        self.enter(f"{text} {mark}", meanwhile)
        self.sent.append(mark)

    def drop_line(self, *, typed: bool = False) -> None:
        """Empty the prompt by Ctrl+C, which quits if it comes twice where the prompt is empty.

        Args:
            typed: keys were typed that the screen may not show yet.
        """
        self.terminal.pump()
        if typed:  # a line with letters: where nothing is typed, the key would quit the second time
            self.terminal.send("xx", keys.CTRL_C)
        for _ in range(0 if typed else 3):
            if self.is_empty():
                return
            self.press_ctrl_c()
            with contextlib.suppress(AssertionError):
                self.terminal.wait(self.is_empty, 2.5)
        self.terminal.wait(self.is_empty, HANG_SECONDS)

    def press_ctrl_c(self) -> None:
        """Press the key when it does not quit, and wait until it is handled, however late."""
        self.terminal.wait(lambda: "Ctrl+C again quits" not in self.terminal.text())
        before = len(self.terminal.output)
        self.terminal.send(keys.CTRL_C)
        self.terminal.wait(lambda: len(self.terminal.output) > before)

    def pause(self, most: float) -> None:
        """Take what comes for a while."""
        until = time.monotonic() + self.chance.uniform(0, most)
        while time.monotonic() < until:
            self.terminal.pump(0.01)

    def one(self, *choices: str) -> str:
        """One of some texts."""
        return self.chance.choice(choices)

    def processes(self) -> list[int]:
        """The shell, the program, its engine."""
        found = [self.terminal.child.pid]
        while children := children_of(found[-1]):
            found.append(children[-1])
        return found

    def send_signal(self, number: int, processes: list[int]) -> None:
        """Signal processes that may have ended."""
        for each in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)

    # The steps

    def message(self) -> None:
        self.ask(self.words())

    def block(self) -> None:
        for line in range(self.chance.randint(1, 4)):
            self.terminal.send(f"{self.words(3)} {line}", self.one(keys.CTRL_J, keys.ALT_ENTER))
        self.ask("the end")

    def paste(self) -> None:
        self.terminal.paste("\n".join(self.words(4) for _ in range(self.chance.choice((1, 3, 30, 300)))))
        self.ask(" pasted")

    def stopped_answer(self) -> None:
        self.enter("/set max-tokens 3000")
        self.ask("long", lambda: (self.pause(0.4), self.terminal.sends_signals() and self.terminal.send(keys.CTRL_C)))
        self.enter("/set max-tokens 24")

    def interrupted_line(self) -> None:
        self.terminal.send(self.words())
        self.drop_line(typed=True)

    def tree(self) -> None:
        self.enter(self.one(*TREE))

    def edit(self) -> None:
        self.terminal.send(self.one("/edit", "/edit 2"))
        before = len(self.terminal.output)
        self.terminal.send(keys.ENTER)
        self.terminal.wait(lambda: keys.PASTES_UNMARKED in self.terminal.output[before:])
        self.wait_back("/edit")
        self.ask(" edited")

    def set_option(self) -> None:
        self.enter(f"/set {self.one(*OPTIONS)}")
        self.enter("/set keys emacs")

    def reload(self) -> None:
        self.enter(self.one(*(f"/set {each}" for each in RELOADING), *(f"/model {each}" for each in self.models)))

    def look(self) -> None:
        self.enter(self.one(*LOOKING))

    def sessions(self) -> None:
        self.enter(self.one("/sessions", "/search window", "/search m1"))
        self.enter(f"/load {self.chance.randint(1, 15)}")

    def new(self) -> None:
        self.enter(self.one("/new", "/clear", "/new", f"/save name {self.marks}", f"/new begun {self.marks}"))

    def attach(self) -> None:
        self.enter(
            self.one("/file code.py", "/file notes and more.txt", "/file *.py", "/file none.txt", "/file /dev/zero")
        )
        self.ask("the file")

    def export(self) -> None:
        suffix = self.one("md", "txt", "html", "json", "jsonl", "odd")
        self.enter(
            f"/export {self.one('out', 'a b', 'none/out')}.{suffix} {self.one('', '--overwrite', '--paths')}".strip()
        )

    def suspend(self) -> None:
        """Ctrl+Z at the prompt or in an answer, and `fg`."""
        if self.chance.random() < 0.5:
            self.terminal.send("typed before")
        else:
            self.terminal.send(f"/set max-tokens 24{keys.ENTER}")
        before = len(self.terminal.output)
        self.pause(0.2)
        self.terminal.send(keys.CTRL_Z)
        self.terminal.wait(lambda: b"stopped\r\n" in self.terminal.output[before:])
        self.pause(0.2)
        self.terminal.send("\n")
        self.wait_back("fg")
        self.terminal.pump(0.1)
        self.drop_line(typed=True)

    def suspend_answer(self) -> None:
        def stop_and_continue() -> None:
            self.pause(0.05)
            before = len(self.terminal.output)
            self.terminal.send(keys.CTRL_Z)
            self.terminal.wait(lambda: b"stopped\r\n" in self.terminal.output[before:])
            self.pause(0.3)
            self.terminal.send("\n")
            self.terminal.pump(0.1)

        self.ask("to be stopped", stop_and_continue)

    def freeze(self) -> None:
        """SIGSTOP of the program and its engine."""
        self.stay_stopped(lambda: self.pause(1.0))

    def stay_stopped(self, wait: Callable[[], object]) -> None:
        """Stop the program and its engine for a while, and continue them."""
        processes = self.processes()[1:]
        before = len(self.terminal.output)
        self.send_signal(signal.SIGSTOP, processes)
        self.terminal.wait(lambda: b"stopped\r\n" in self.terminal.output[before:])
        wait()
        self.send_signal(signal.SIGCONT, processes[1:])
        self.terminal.send("\n")
        self.pause(0.2)
        self.wait_back("going on")
        self.drop_line()

    def resize(self) -> None:
        size = (self.chance.randint(24, 140), self.chance.randint(8, 50))
        if self.chance.random() < 0.3:
            self.ask("resized", lambda: self.terminal.resize(*size))
        else:
            self.terminal.send(self.words(4))
            self.terminal.resize(*size)
        self.pause(0.2)
        self.terminal.send(CTRL_L)  # a real terminal may have wrapped its lines again, and this one does not
        self.pause(0.2)
        self.wait_back("resize")
        self.drop_line(typed=True)

    def complete(self) -> None:
        self.terminal.send(self.one("/", "/se", "/set te", "/file ", "/model ", "/load ", "/export o", "wor"))
        self.terminal.send(*[keys.TAB] * self.chance.randint(1, 4))
        self.pause(0.1)
        self.terminal.send("\x1b", "x")
        self.pause(0.1)
        self.drop_line(typed=True)

    def past(self) -> None:
        if self.chance.random() < 0.5:
            self.terminal.send(*[keys.UP] * self.chance.randint(1, 5), *[DOWN] * self.chance.randint(0, 3))
        else:
            self.terminal.send(keys.CTRL_R, self.one("m1", "window", "none of this"), keys.CTRL_R)
        self.pause(0.1)
        self.wait_back("search")
        self.drop_line(typed=True)

    def editor_opened(self) -> None:
        self.terminal.send("before", keys.CTRL_G)
        self.terminal.wait(lambda: re.search(r"before edited-\d+-$", self.terminal.cursor_line()) is not None)
        self.wait_back("the editor")
        self.ask(" and edited")

    def keystrokes(self) -> None:
        self.terminal.send(*self.chance.choices(KEYS, k=self.chance.randint(1, 12)))
        self.pause(0.1)
        self.wait_back("keys")
        self.drop_line(typed=True)

    def engine_killed(self) -> None:
        self.send_signal(signal.SIGKILL, self.processes()[2:3])
        self.ask("after the engine's death")
        self.enter("/regen")

    def quit(self) -> None:
        """Leave, or be killed, and continue."""
        way = self.one("/bye", "ctrl-d", "ctrl-c", "sigterm", "sigkill")
        if way == "/bye":
            self.terminal.send("/bye", keys.ENTER)
        elif way.startswith("ctrl"):
            self.terminal.send(*[keys.CTRL_D if way == "ctrl-d" else keys.CTRL_C] * 2)
        else:
            self.send_signal(getattr(signal, way.upper()), self.processes()[1:2])
        self.terminal.wait("code=")
        self.begin_again()

    def begin_again(self) -> None:
        """Start the program anew, to continue the session."""
        for each in self.processes():
            self.send_signal(signal.SIGKILL, [each])
        self.terminal.kill()
        self.terminal = self._started("-c")

    def fault(self, text: str) -> None:
        """Note a fault."""
        self.faults[text.split(":")[0]] += 1
        print(f"FAULT at step {sum(self.done.values())}: {text}", flush=True)
