"""The line of a wait: it updates itself, is hidden while others write, and is removed at the end."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from chat.core.events import LoadProgress, PictureProgress, PrefillProgress, TextDelta
from chat.rendering import wait_indicator
from chat.rendering.screen import Screen
from chat.rendering.status_text import reading_line, silence_line
from chat.rendering.wait_indicator import WaitIndicator, WaitState
from tests.chat.tui.pseudo_terminal import CTRL_C, DEADLINE_SECONDS, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chat.rendering.styled_text import Line


class Clock:
    """A time in seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class WatchedLock:
    """A lock that knows who waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: set[threading.Thread] = set()

    def __enter__(self) -> None:
        self.waiting.add(threading.current_thread())
        self._lock.acquire()
        self.waiting.discard(threading.current_thread())

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Shown:
    """A status line on a screen of 80 columns, and what it wrote."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock = WatchedLock()
        parts = SimpleNamespace(Lock=lambda: self.lock, Event=threading.Event, Thread=threading.Thread)
        monkeypatch.setattr(wait_indicator, "threading", parts)
        monkeypatch.setattr(wait_indicator, "TICK_SECONDS", 0.005)
        before = set(threading.enumerate())
        self.stream = io.StringIO()
        self.clock = Clock()
        screen = Screen(self.stream, is_live=True, colour=False, size=lambda: os.terminal_size((80, 24)))
        self.line = WaitIndicator(screen, WaitState("tiny", patience=0.0, silence=0.5, clock=self.clock))
        [self.thread] = set(threading.enumerate()) - before

    def wait(self, words: str) -> None:
        """Wait until these words were written."""
        wait_for(lambda: words in self.stream.getvalue())


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_the_line_updates_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    shown.line.note(LoadProgress(0.5))
    shown.wait("loading ")
    shown.line.note(PrefillProgress(0, 100, 0.0))
    shown.wait("0 of 100 tokens · 0 s · Ctrl+C stops")
    shown.clock.now = 1.5
    shown.wait("0 of 100 tokens · 1 s · Ctrl+C stops")
    shown.line.note(PrefillProgress(100, 100, 1.0))
    shown.clock.now = 2.1
    shown.wait("no token for 0 s · Ctrl+C stops")
    shown.line.end()


def test_the_line_is_hidden_while_others_write_and_gone_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    shown.line.note(LoadProgress(0.5))
    shown.wait("loading ")
    with shown.line.hidden():
        before = shown.stream.getvalue()
        shown.stream.write("note: mind the gap\n")
        wait_for(lambda: shown.thread in shown.lock.waiting)  # it is time to draw the line again
        assert shown.stream.getvalue() == before + "note: mind the gap\n"
    shown.line.note(LoadProgress(0.75))
    shown.wait("75%")
    shown.line.end()
    ended = shown.stream.getvalue()
    shown.thread.join(DEADLINE_SECONDS)
    assert not shown.thread.is_alive()
    shown.line.note(LoadProgress(1.0))
    assert shown.stream.getvalue() == ended


def lines_at(wait_state: WaitState, clock: Clock, seconds: float) -> list[Line]:
    """The lines at a time, after a look at them in every second before it."""
    while clock.now < seconds - 1:
        clock.now += 1
        wait_state.lines(80)
    clock.now = seconds
    return wait_state.lines(80)


def test_a_wait_without_events_is_shown_after_a_while() -> None:
    clock = Clock()
    wait_state = WaitState("tiny", patience=1.0, silence=15.0, clock=clock)
    assert wait_state.lines(80) == []
    assert lines_at(wait_state, clock, 1.0) == [silence_line(1, 80)]
    wait_state.note(TextDelta("word"))
    assert lines_at(wait_state, clock, 15.9) == []
    assert lines_at(wait_state, clock, 16.0) == [silence_line(15, 80)]


def test_silence_during_a_batch_is_shown_only_if_it_is_longer_than_earlier_batches() -> None:
    clock = Clock()
    wait_state = WaitState("tiny", patience=1.0, silence=15.0, clock=clock)
    first, second = PrefillProgress(0, 100, 0.0), PrefillProgress(50, 100, 20.0)
    wait_state.note(first)
    assert lines_at(wait_state, clock, 20.0) == [reading_line(first, 20, 80)]  # the first batch has no limit
    wait_state.note(second)
    assert lines_at(wait_state, clock, 79.9) == [reading_line(second, 59, 80)]
    assert lines_at(wait_state, clock, 80.0) == [silence_line(60, 80)]  # three times as long as the first batch


def test_an_hour_in_which_the_program_was_stopped_is_no_silence() -> None:
    """After Ctrl+Z and `fg` an hour later, the line said that no token had come for an hour."""
    clock = Clock()
    wait_state = WaitState("tiny", patience=1.0, silence=15.0, clock=clock)
    wait_state.note(TextDelta("word"))
    assert lines_at(wait_state, clock, 10.0) == []
    clock.now = 3610.0
    assert wait_state.lines(80) == []
    assert lines_at(wait_state, clock, 3614.9) == []
    assert lines_at(wait_state, clock, 3615.0) == [silence_line(15, 80)]
    clock.now = 7200.0
    wait_state.note(TextDelta("word"))  # before the first look
    assert wait_state.lines(80) == []
    assert lines_at(wait_state, clock, 7215.0) == [silence_line(15, 80)]


@pytest.mark.slow
def test_a_silent_server_is_reported_and_ctrl_c_removes_the_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        terminal = Terminal(
            [sys.executable, "-m", "chat", "--remote", url, "--remote-model", "x", "hello"],
            environment={"MISTRAL_CHAT_HOME": str(tmp_path)},
            folder=tmp_path,
        )
        terminal.wait("s · Ctrl+C stops")
        terminal.send(CTRL_C)
        assert terminal.end() == 130
        assert "no token" not in terminal.text()


def test_a_picture_that_is_encoded_has_a_name_a_share_and_a_time() -> None:
    """It was "0 of 3,000 tokens" for minutes."""
    clock = Clock()
    state = WaitState("model", clock=clock)
    clock.now = 2.0
    state.note(PictureProgress("\x1bphoto.jpg", 0.25, 20.0))
    clock.now = 4.0
    (line,) = state.lines(80)
    assert (
        "".join(span.text for span in line)
        == "encoding ␛photo.jpg ━━━━━━────────────────── 25% · 58 s left · Ctrl+C stops"
    )
    state.note(PictureProgress("photo.jpg", 0.0, 0.5))
    (line,) = state.lines(40)
    assert "".join(span.text for span in line) == "encoding photo.jpg ─────────── 0% · 0 s"
