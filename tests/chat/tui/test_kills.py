"""One session, killed at random moments and continued by `-c`: nothing that was shown is lost.

No saved state changes an answer: the next one is that of a cold run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chat.core.conversation import Conversation, Message
from chat.history.store import open_store
from tests.chat.tui.pseudo_terminal import CTRL_D, ENTER, Terminal
from tests.grids import FULL

KILLS = 50 if FULL else 6
COMPARED_EVERY = 10 if FULL else KILLS
# A prompt that was read in other pieces has other last bits; with this cache they are too small to change an answer
PRECISE = ("--kv-type", "f32", "--flash-attention", "off")
PROGRAM = (sys.executable, "-m", "chat", *PRECISE)
FIGURES = re.compile(r"^\d+ tokens? · ", re.MULTILINE)  # the line under a whole answer
WAITING = ("mistral-v0.1 · ", "loading ", "reading ")  # the toolbar, and lines of status
LAST = "and what came of it?"


def hold_turn(home: Path, model: Path, question: str, chance: random.Random) -> tuple[bool, bool]:
    """Continue the session, ask, and kill the program at a random moment before its end, or let it end.

    Returns:
        Whether a part of the answer was seen, and whether all of it with its figures.
    """
    flags = ["-c", "--stats", "-m", str(model), "--temperature", "0", "-n", "120"]
    environment = {"MISTRAL_CHAT_HOME": str(home), "MISTRAL_CHAT_THREADS": "1"}
    terminal = Terminal([*PROGRAM, *flags], environment=environment, folder=home.parent, fork=False)
    terminal.wait(lambda: is_ready(terminal))
    terminal.child.send(question + ENTER)
    phase = chance.choice(("any", "answering", "leaving"))
    if phase == "answering":
        terminal.wait(lambda: bool(answer_of(terminal, question)))
    if phase == "leaving":
        terminal.wait(lambda: bool(FIGURES.search(answer_of(terminal, question))) and is_ready(terminal))
        terminal.child.send(CTRL_D)
    deadline = time.monotonic() + chance.uniform(0, 1.2 if phase == "any" else 0.4)
    while time.monotonic() < deadline and terminal.pump(0.01):
        pass
    with contextlib.suppress(ProcessLookupError):
        os.kill(terminal.child.pid, signal.SIGKILL)
    while terminal.pump(0.01):
        pass
    seen = answer_of(terminal, question)
    terminal.kill()
    return bool(seen), bool(FIGURES.search(seen))


def is_ready(terminal: Terminal) -> bool:
    return terminal.cursor_line() == ">" and "loading" not in terminal.lines()[-1]


def answer_of(terminal: Terminal, question: str) -> str:
    """The text under a question, without status lines."""
    below = terminal.everything().partition(f"> {question}\n")[2]
    lines = [line for line in below.splitlines() if not line.startswith((">", *WAITING))]
    return "\n".join(lines).strip()


def loaded(home: Path) -> tuple[Message, ...]:
    """The session as the program would continue it; the history passes its integrity check."""
    file = home / "data" / "history.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with open_store(file) as store:
        record = store.latest()
        conversation = store.load(record.id)[1] if record else Conversation()
    return tuple(node.message for node in conversation.path())


def asked_cold_and_warm(home: Path, other: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Answers to one question from two copies of the home, with its saved states and without."""
    answers = []
    for keeps in (True, False):
        shutil.copytree(home, other)
        for state in () if keeps else tuple(other.rglob("*.state")):
            state.unlink()
        environment = {**os.environ, "MISTRAL_CHAT_HOME": str(other), "MISTRAL_CHAT_THREADS": "1"}
        command = [*PROGRAM, "-c", "--temperature", "0", "-n", "40", "--json", LAST]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=other, check=False)
        assert said.returncode == 0, said.stderr
        answers.append(json.loads(said.stdout))
        shutil.rmtree(other)
    return answers[0], answers[1]


@pytest.mark.slow
def test_a_session_killed_at_random_moments_loses_nothing_that_was_shown(tmp_path: Path, tiny_model: Path) -> None:
    chance = random.Random(KILLS)
    home = tmp_path / "home"
    before: tuple[Message, ...] = ()
    spared = 0
    for kill in range(1, KILLS + 1):
        question = f"question {kill} of {KILLS}"
        is_seen, is_whole = hold_turn(home, tiny_model, question, chance)
        now = loaded(home)
        assert now[: len(before)] == before
        new = now[len(before) :]
        assert [(message.role, message.content) for message in new[:1]] in ([], [("user", question)])
        assert [message.role for message in new] in ([], ["user"], ["user", "assistant"])
        assert new or not is_seen
        assert (len(new) == 2 and new[1].finish_reason in ("stop", "length")) or not is_whole
        assert all(
            message.content and message.finish_reason in ("stop", "length", "interrupted") for message in new[1:]
        )
        before = now
        if kill % COMPARED_EVERY == 0:
            warm, cold = asked_cold_and_warm(home, tmp_path / "copy")
            assert cold["tokens"]["cached"] == 0
            keys = ("text", "ids", "prompt_ids_sha256", "finish_reason")
            assert [warm[key] for key in keys] == [cold[key] for key in keys]
            spared += warm["tokens"]["cached"]
    assert spared > 0, "no state was ever used"
