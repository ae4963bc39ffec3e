"""Signals, hangups and dead engines in each phase of a session: the turn is stored, and the program ends."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest

from tests.chat.tui.pseudo_terminal import CTRL_C, CTRL_D, CTRL_U, CTRL_Z, ENTER, Terminal
from tests.grids import FULL
from tests.processes import HAS_PROC, children_of, ends, reads_stdin

WAYS = ["bye", "ctrl-d", "ctrl-c", "sigterm", "dead engine"]  # to leave
LONG = [["chars", "word " * 2000, 0.02]]  # takes longer than any deadline here


def stored(folder: Path) -> list[tuple[str, str, str | None, int]]:
    """(role, content, finish_reason, streaming) of every message in the history."""
    files = list((folder / "home").rglob("history.db"))
    assert len(files) == 1, files
    with sqlite3.connect(files[0]) as connection:
        return connection.execute(
            "SELECT role, content, finish_reason, streaming FROM nodes ORDER BY number"
        ).fetchall()


def reach(terminal: Terminal, phase: str) -> None:
    """Bring a session to a phase."""
    if phase == "typing":
        terminal.send("unsent words")
        terminal.wait("unsent words")
    elif phase != "prompt":
        terminal.say("the question")
        terminal.wait({"loading": "loading program ·", "reading": "reading", "answering": "word word"}[phase])


PHASES: dict[str, dict[str, Any]] = {
    "prompt": {"scripts": []},
    "typing": {"scripts": []},
    "loading": {"scripts": [], "loads_when": "loaded"},
    "reading": {"scripts": [[["read", 10, 1000, 1.0], ["wait"]]]},
    "answering": {"scripts": [LONG]},
}


@pytest.mark.parametrize(
    ("name", "phase"),
    [(name, phase) for name in ("SIGTERM", "SIGHUP") for phase in PHASES if FULL or name == "SIGTERM"],
)
@pytest.mark.slow
def test_a_signal_stores_the_turn_and_ends_the_program_without_waiting_for_the_engine(
    start: Any, tmp_path: Path, phase: str, name: str
) -> None:
    facts = dict(PHASES[phase])
    terminal = start(*facts.pop("scripts"), **facts)
    reach(terminal, phase)
    terminal.child.kill(getattr(signal, name))
    assert terminal.end() == 130
    if phase in ("loading", "reading"):
        assert stored(tmp_path) == [("user", "the question", None, 0)]
    if phase == "answering":
        question, (role, content, reason, streaming) = stored(tmp_path)
        assert question[:2] == ("user", "the question") and role == "assistant"
        assert content.startswith("word word") and (reason, streaming) == ("interrupted", 0)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_a_hangup_stores_the_turn_and_ends_the_program(start: Any, tmp_path: Path, phase: str) -> None:
    facts = dict(PHASES[phase])
    terminal = start(*facts.pop("scripts"), **facts)
    reach(terminal, phase)
    terminal.hang_up()
    assert ends(terminal.child.pid)
    if phase not in ("prompt", "typing"):
        assert stored(tmp_path)[0] == ("user", "the question", None, 0)


@pytest.mark.parametrize("phase", ["loading", "reading", "answering"])
@pytest.mark.slow
def test_ctrl_c_stops_every_phase_and_the_session_continues(start: Any, tmp_path: Path, phase: str) -> None:
    facts = dict(PHASES[phase])
    terminal = start(*facts.pop("scripts"), **facts)
    reach(terminal, phase)
    terminal.send(CTRL_C)
    if phase == "answering":
        terminal.wait("Stopped. /continue resumes.")
        terminal.wait_for_prompt()
    else:  # nothing was answered, so the message can be changed and is no part of the conversation
        terminal.wait(
            "> the question\n\nStopped before the answer began. Your message is back in the editor.\n\n> the question"
        )
        terminal.send(CTRL_U)
    (tmp_path / "loaded").touch()
    assert "answer is empty" not in terminal.text() and "You said: the question" not in terminal.text()
    terminal.say("next")
    terminal.wait("You said: next")
    terminal.send(CTRL_D)
    assert terminal.end() == 0


@pytest.mark.parametrize(
    ("way", "phase"),
    list(product(WAYS, ["prompt", "answering"])) if FULL else list(zip(WAYS, cycle(["answering", "prompt"]))),
)
@pytest.mark.slow
def test_terminal_modes_are_the_same_before_and_after(start: Any, phase: str, way: str) -> None:
    script = [["text", "word word"], ["die"]] if way == "dead engine" else LONG
    shell = 'stty -g; "$@"; echo code=$?; stty -g'
    terminal = start(script, shell=shell, seconds={"TWICE_SECONDS": 3600})
    reach(terminal, phase)
    if way == "sigterm":
        os.kill(child_of(terminal.child.pid), signal.SIGTERM)
    else:
        if phase == "answering" and way != "dead engine":
            terminal.send(CTRL_C)
            terminal.wait("/continue resumes.")
            terminal.wait_for_prompt()
        terminal.send(*{"ctrl-d": (CTRL_D,), "ctrl-c": (CTRL_C, CTRL_C)}.get(way, ("/bye", ENTER)))
    terminal.end()
    modes = re.findall(r"(?:[0-9a-f]+:){10,}[0-9a-f]+", terminal.output.decode())
    assert len(modes) == 2 and modes[0] == modes[1]
    assert f"code={130 if way in ('sigterm', 'ctrl-c') else 0}" in terminal.everything()
    assert terminal.output.rfind(b"\x1b[?2004h") < terminal.output.rfind(b"\x1b[?2004l")


def child_of(process: int) -> int:
    """The only child of a process."""
    return children_of(process)[0]


@pytest.mark.parametrize("way", ["ctrl-z", "sigstop"])
@pytest.mark.parametrize("phase", ["prompt", "answering"])
@pytest.mark.slow
def test_a_stop_restores_the_modes_and_fg_continues(start: Any, tmp_path: Path, phase: str, way: str) -> None:
    """SIGSTOP comes unannounced: the shell sets its own modes, and once the session went on in them."""
    shell = 'set -m; own=$(stty -g); "$@"; stty -g; stty $own; stty -g; echo stopped; fg > /dev/null; stty -g'
    stopped, last = [["text", "word word "], ["until", "stopped"], ["text", "ended"]], [["text", "again"], ["wait"]]
    terminal = start(*([stopped, last] if phase == "answering" else [last]), shell=shell)
    reach(terminal, phase)
    if way == "ctrl-z":
        terminal.send(CTRL_Z)
    else:
        os.kill(child_of(terminal.child.pid), signal.SIGSTOP)
    terminal.wait("stopped")
    terminal.wait(lambda: not terminal.shows_keys())
    (tmp_path / "stopped").touch()
    if phase == "answering":
        terminal.wait("ended")
    terminal.wait_for_prompt()
    terminal.send("more", ENTER)
    terminal.wait("> more\n\nagain")
    assert terminal.sends_signals()
    terminal.send(CTRL_C)
    terminal.wait("/continue resumes.")
    terminal.wait_for_prompt()
    terminal.send(CTRL_D)
    terminal.end()
    modes = re.findall(r"(?:[0-9a-f]+:){10,}[0-9a-f]+", terminal.output.decode())
    assert len(modes) == 3 and len(set(modes[way == "sigstop" :])) == 1


@pytest.mark.skipif(not HAS_PROC, reason="finds the time that the program used in /proc")
def test_the_program_is_idle_at_the_prompt(start: Any) -> None:
    terminal = start()
    terminal.wait("/ 32,768")
    ticks = os.sysconf("SC_CLK_TCK")

    def used() -> float:
        fields = Path(f"/proc/{terminal.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    for _ in range(30):  # on a busy machine it may still be starting
        before = used()
        for _ in range(10):
            terminal.pump(0.1)
        if used() - before < 0.1:
            return
    pytest.fail("it is never idle")


@pytest.mark.slow
def test_a_killed_program_leaves_the_streamed_part(start: Any, tmp_path: Path) -> None:
    terminal = start(LONG)
    terminal.say("the question")
    terminal.wait("word word")
    terminal.wait(lambda: len(stored(tmp_path)) == 2)
    terminal.child.kill(signal.SIGKILL)
    terminal.end()
    (_, (role, content, _, streaming)) = stored(tmp_path)
    assert role == "assistant" and content.startswith("word") and streaming == 1
    terminal = start(resume=session_id(tmp_path))
    terminal.wait("Stopped. /continue resumes.")


def session_id(folder: Path) -> str:
    """The id of the only stored session."""
    with sqlite3.connect(next((folder / "home").rglob("history.db"))) as connection:
        return str(connection.execute("SELECT id FROM sessions").fetchone()[0])


@pytest.mark.slow
def test_no_history_writes_nothing(start: Any, tmp_path: Path) -> None:
    terminal = start(flags={"no_history": True})
    terminal.say("secret")
    terminal.wait("You said: secret")
    terminal.say("/search secret")
    terminal.wait("/load NUMBER opens the session there.")
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_ctrl_c_at_a_plain_prompt_drops_the_line_and_then_leaves(start: Any) -> None:
    terminal = start([["text", "half"], ["wait"]], environment={"TERM": "dumb"})
    terminal.wait(lambda: reads_stdin(terminal.child.pid))  # before that, a signal waits for the next key
    terminal.send("unwanted", CTRL_C)
    terminal.wait("Ctrl+C again quits")
    terminal.say("go")
    terminal.wait("half")
    terminal.send(CTRL_C)
    terminal.wait("Stopped. /continue resumes.")
    terminal.wait_for_prompt()
    terminal.wait(lambda: reads_stdin(terminal.child.pid))
    terminal.send(CTRL_C)
    terminal.wait(lambda: terminal.text().count("Ctrl+C again quits") == 2)
    terminal.wait(lambda: reads_stdin(terminal.child.pid))
    terminal.send(CTRL_C)
    assert terminal.end() == 130


@pytest.mark.slow
def test_ctrl_c_stops_a_waiting_command(start: Any) -> None:
    terminal = start([], loads_when="never")
    terminal.say("hello")
    terminal.wait("loading program ·")
    terminal.send(CTRL_C)
    terminal.wait("back in the editor")
    terminal.send(CTRL_U)
    terminal.say("/model info")
    terminal.wait(terminal.sends_signals)
    terminal.send(CTRL_C)
    terminal.wait("\nStopped.")
    terminal.send(CTRL_D)
    assert terminal.end() == 0


@pytest.mark.slow
def test_a_signal_ends_a_waiting_command(start: Any) -> None:
    """Once the program waited on for its model, without a terminal."""
    terminal = start([], loads_when="never")
    terminal.say("/model info")
    terminal.child.kill(signal.SIGTERM)
    assert terminal.end() == 130


def test_a_signal_during_an_answer_on_a_dumb_terminal_stores_all_of_it(start: Any, tmp_path: Path) -> None:
    """Once the signal raised an exception in the answer, and its last second was not stored."""
    terminal = start([["text", "half of it"], ["wait"]], environment={"TERM": "dumb"})
    terminal.say("the question")
    terminal.wait("half of it")
    terminal.child.kill(signal.SIGTERM)
    assert terminal.end() == 130
    assert stored(tmp_path) == [("user", "the question", None, 0), ("assistant", "half of it", "interrupted", 0)]


def test_a_signal_at_a_plain_prompt_ends_the_program(start: Any) -> None:
    terminal = start(environment={"TERM": "dumb"})
    terminal.wait(lambda: reads_stdin(terminal.child.pid))
    terminal.child.kill(signal.SIGTERM)
    assert terminal.end() == 130
