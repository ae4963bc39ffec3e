"""The line that stands below while a one shot waits: it moves by itself, makes room, and goes without a trace."""

from __future__ import annotations

import io
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

from chat.core.events import LoadProgress, PrefillProgress, TextDelta
from chat.rendering.screen import Screen
from chat.rendering.status_text import silence_line
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
        """Wait until they were written."""
        deadline = time.monotonic() + 10
        while words not in self.stream.getvalue():
            assert time.monotonic() < deadline, self.stream.getvalue()
            time.sleep(0.02)


def test_what_one_waits_for_moves_by_itself() -> None:
    shown = Shown(WaitState("tiny", patience=0.0, silence=0.5))
    shown.line.note(LoadProgress(0.5))
    shown.wait("loading ")
    shown.line.note(PrefillProgress(0, 100, 0.0))
    shown.wait("0 of 100 tokens · 1 s · Ctrl+C stops")
    shown.line.note(PrefillProgress(100, 100, 1.0))
    shown.wait("no token for 0 s · Ctrl+C stops")
    shown.line.end()


def test_others_write_where_the_line_was_and_after_its_end_it_is_gone_for_good() -> None:
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


def test_a_wait_without_news_is_told_after_a_while() -> None:
    waiting = WaitState("tiny", patience=0.0, silence=0.0)
    assert waiting.lines(80) == [silence_line(0, 80)]
    waiting.note(TextDelta("word"))
    assert waiting.lines(80) == [silence_line(0, 80)]
    assert WaitState("tiny").lines(80) == []


def test_a_server_that_says_nothing_is_waited_for_with_a_word_and_ctrl_c_leaves_no_trace(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        terminal = Terminal(
            [sys.executable, "-m", "chat", "--remote", url, "--remote-model", "x", "hello"],
            environment={"MISTRAL_CHAT_HOME": str(tmp_path)},
            folder=tmp_path,
        )
        terminal.wait("no token for 2 s · Ctrl+C stops")
        terminal.send(CTRL_C)
        terminal.send(CTRL_C)
        assert terminal.end() == 130
        assert "no token" not in terminal.text()
