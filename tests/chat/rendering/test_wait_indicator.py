"""The line of a wait: it updates itself, is hidden while others write, and is removed at the end."""

from __future__ import annotations

import io
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

from chat.core.events import LoadProgress, PrefillProgress, TextDelta
from chat.rendering.screen import Screen
from chat.rendering.status_text import reading_line, silence_line
from chat.rendering.wait_indicator import WaitIndicator, WaitState
from tests.chat.tui.pseudo_terminal import CTRL_C, Terminal

if TYPE_CHECKING:
    from pathlib import Path


class Shown:
    """A status line on a screen of 80 columns, and what it wrote."""

    def __init__(self, waiting: WaitState) -> None:
        self.stream = io.StringIO()
        screen = Screen(self.stream, is_live=True, colour=False, size=lambda: os.terminal_size((80, 24)))
        self.line = WaitIndicator(screen, waiting)

    def wait(self, words: str) -> None:
        """Wait until these words were written."""
        deadline = time.monotonic() + 10
        while words not in self.stream.getvalue():
            assert time.monotonic() < deadline, self.stream.getvalue()
            time.sleep(0.02)


def test_the_line_updates_itself() -> None:
    shown = Shown(WaitState("tiny", patience=0.0, silence=0.5))
    shown.line.note(LoadProgress(0.5))
    shown.wait("loading ")
    shown.line.note(PrefillProgress(0, 100, 0.0))
    shown.wait("0 of 100 tokens · ")
    shown.line.note(PrefillProgress(100, 100, 1.0))
    shown.wait("no token for ")
    shown.line.end()


def test_the_line_is_hidden_while_others_write_and_gone_after_its_end() -> None:
    shown = Shown(WaitState("tiny", patience=0.0))
    shown.line.note(LoadProgress(0.5))
    shown.wait("loading ")
    with shown.line.hidden():
        before = shown.stream.getvalue()
        shown.stream.write("note: mind the gap\n")
        time.sleep(0.6)
        assert shown.stream.getvalue() == before + "note: mind the gap\n"
    shown.line.note(LoadProgress(0.75))
    shown.wait("75%")
    shown.line.end()
    ended = shown.stream.getvalue()
    shown.line.note(LoadProgress(1.0))
    time.sleep(0.6)
    assert shown.stream.getvalue() == ended


def test_a_wait_without_events_is_shown_after_a_while() -> None:
    now = 0.0
    wait_state = WaitState("tiny", patience=1.0, silence=15.0, clock=lambda: now)
    assert wait_state.lines(80) == []
    now = 1.0
    assert wait_state.lines(80) == [silence_line(1, 80)]
    wait_state.note(TextDelta("word"))
    now = 15.9
    assert wait_state.lines(80) == []
    now = 16.0
    assert wait_state.lines(80) == [silence_line(15, 80)]


def test_silence_during_a_batch_is_shown_only_if_it_is_longer_than_earlier_batches() -> None:
    now = 0.0
    wait_state = WaitState("tiny", patience=1.0, silence=15.0, clock=lambda: now)
    first, second = PrefillProgress(0, 100, 0.0), PrefillProgress(50, 100, 20.0)
    wait_state.note(first)
    now = 20.0
    assert wait_state.lines(80) == [reading_line(first, 20, 80)]  # the first batch has no limit
    wait_state.note(second)
    now = 79.9
    assert wait_state.lines(80) == [reading_line(second, 59, 80)]
    now = 80.0  # three times as long as the first batch
    assert wait_state.lines(80) == [silence_line(60, 80)]


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
