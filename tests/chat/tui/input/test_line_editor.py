"""The line as a person writes it: pastes, history, blocks, the editor, vi keys."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from chat.system.external_editor import edit_text
from chat.tui.input.line_editor import LineEditor
from chat.tui.signals import Terminated
from tests.chat.tui.pseudo_terminal import CTRL_C, CTRL_G, CTRL_J, CTRL_R, ENTER, TAB, UP, Terminal

LEFT, RIGHT = "\x1b[D", "\x1b[C"


def ready(terminal: Terminal) -> None:
    """Wait for an empty prompt."""
    terminal.wait(lambda: terminal.lines()[terminal.screen.cursor.y] == ">")


@pytest.mark.slow
def test_a_large_paste_folds_and_is_sent_whole(start: Any) -> None:
    terminal = start(lines=60)
    ready(terminal)
    pasted = "\n".join(f"row {number}" for number in range(30))
    terminal.send("look: ")
    terminal.paste(pasted)
    terminal.wait("> look: [paste 1: 30 lines, row 0]")
    terminal.send(" please", ENTER)
    terminal.wait(f"You said: look: {pasted} please")


def test_a_folded_paste_goes_as_a_whole(start: Any) -> None:
    terminal = start()
    ready(terminal)
    terminal.paste("x\n" * 20)
    terminal.wait("[paste 1: 20 lines, x]")
    terminal.send("\x7f")
    ready(terminal)
    terminal.send("kept", ENTER)
    terminal.wait("You said: kept")


@pytest.mark.slow
def test_a_mark_is_stepped_over_and_never_typed_into(start: Any) -> None:
    """Once a letter that was typed into a mark made it stand for nothing, and the paste was not sent."""
    terminal = start()
    ready(terminal)
    pasted = "\n".join("x" * 12)
    terminal.send("see ")
    terminal.paste(pasted)
    terminal.wait("lines, x]")
    terminal.send(LEFT, "it: ", RIGHT, "!", LEFT, LEFT, RIGHT, "?", ENTER)
    terminal.wait(f"You said: see it: {pasted}?!")


@pytest.mark.parametrize("keys", [("\x17",), ("\x1b\x7f",), (LEFT, "\x04"), (LEFT, "\x1b[3~"), (LEFT, "\x1bd")])
def test_a_mark_goes_as_a_whole_by_whatever_key(start: Any, keys: tuple[str, ...]) -> None:
    terminal = start()
    ready(terminal)
    terminal.send("see ")
    terminal.paste("a b\n" * 12)
    terminal.wait("lines, a b]")
    terminal.send(*keys)
    terminal.wait(lambda: terminal.lines()[terminal.screen.cursor.y] == "> see")


def test_a_small_paste_stays_open_and_is_never_sent(start: Any) -> None:
    terminal = start()
    ready(terminal)
    terminal.paste("one\ntwo\n")
    terminal.wait("> one\n  two")
    terminal.send("three", ENTER)
    terminal.wait("You said: one\ntwo\nthree")


@pytest.mark.slow
def test_an_unmarked_paste_is_not_sent_line_by_line(start: Any) -> None:
    terminal = start()
    ready(terminal)
    terminal.settle(0.4)  # keys that come right after a prompt count as typed before it
    terminal.child.send("alpha\rbeta\rgamma")
    terminal.wait("> alpha\n  beta\n  gamma")
    terminal.send(ENTER)
    terminal.wait("You said: alpha\nbeta\ngamma")


@pytest.mark.slow
def test_what_is_typed_during_an_answer_waits_for_the_next_prompt(start: Any) -> None:
    terminal = start([["text", "slow "], ["sleep", 0.8], ["text", "answer"]])
    ready(terminal)
    terminal.say("first")
    terminal.wait("slow")
    terminal.send("second", ENTER, "third", ENTER)
    assert "second" not in terminal.text()
    terminal.wait("You said: third")
    order = [terminal.everything().index(text) for text in ("slow answer", "> second", "You said: second", "> third")]
    assert order == sorted(order)


def test_three_quotes_hold_a_block(start: Any) -> None:
    terminal = start()
    ready(terminal)
    terminal.send('"""first', ENTER, "/help", ENTER, 'last"""', ENTER)
    terminal.wait("You said: first\n/help\nlast")


@pytest.mark.slow
def test_up_finds_earlier_messages_by_their_beginning_across_sessions(start: Any) -> None:
    terminal = start()
    for message in ("apple pie", "banana split", "apple cake"):
        ready(terminal)
        terminal.say(message)
        terminal.wait(f"You said: {message}")
    ready(terminal)
    terminal.say("/bye")
    terminal.end()
    terminal = start()
    ready(terminal)
    terminal.send("app", UP)
    terminal.wait("> apple cake")
    terminal.send(UP)
    terminal.wait("> apple pie")
    terminal.send(CTRL_C, UP, UP)
    terminal.wait("> banana split")


def test_ctrl_r_searches_history(start: Any) -> None:
    terminal = start()
    for message in ("red fox", "blue whale"):
        ready(terminal)
        terminal.say(message)
        terminal.wait(f"You said: {message}")
    ready(terminal)
    terminal.send(CTRL_R, "fox")
    terminal.wait("red fox")
    terminal.send(ENTER, ENTER)
    terminal.wait(lambda: terminal.everything().count("You said: red fox") == 2)


@pytest.mark.slow
def test_ctrl_g_opens_the_editor_and_brings_its_text_back(start: Any, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\ncase "$1" in *.md) ;; *) exit 1;; esac\necho " and edited" >> "$1"\n')
    editor.chmod(0o755)
    terminal = start(environment={"EDITOR": str(editor), "VISUAL": ""})
    ready(terminal)
    terminal.send("typed", CTRL_G)
    terminal.wait("and edited")
    terminal.send(ENTER)
    terminal.wait("You said: typed")
    terminal.wait("and edited")


@pytest.mark.parametrize("editor", ["no-such-editor", "false", "'"])
@pytest.mark.slow
def test_an_editor_that_fails_is_told_and_loses_nothing(start: Any, editor: str) -> None:
    """Once another editor than $EDITOR came up where that one was missing, and one that failed said nothing."""
    terminal = start(environment={"EDITOR": editor, "VISUAL": ""})
    ready(terminal)
    terminal.paste("x\n" * 20)
    terminal.send("kept", CTRL_G)
    terminal.wait(f"the editor `{editor}` failed · set $EDITOR to yours")
    assert "> [paste 1: 20 lines, x]kept" in terminal.text()


def test_a_program_that_is_to_end_does_not_wait_for_the_editor(start: Any) -> None:
    terminal = start(environment={"EDITOR": "sh -c 'echo opened; exec sleep 60'", "VISUAL": ""})
    ready(terminal)
    terminal.send(CTRL_G)
    terminal.wait("opened")
    began = time.monotonic()
    terminal.child.kill(signal.SIGTERM)
    assert terminal.end() == 130
    assert time.monotonic() - began < 2.0


def test_an_editor_that_opens_while_the_program_ends_is_ended_too() -> None:
    def terminate() -> None:
        raise Terminated

    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        line_editor = LineEditor(complete=lambda _: (), toolbar=str, past_messages=tuple, handle_events=terminate)
        with pytest.raises(Terminated):
            line_editor.read()
    with subprocess.Popen(["sleep", "60"]) as editor:
        line_editor._note_external_editor(editor)
        assert editor.wait(5) == -signal.SIGTERM


def test_an_editors_odd_bytes_and_line_ends_come_back_as_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf 'a\\r\\nb \\377\\n\\n' > \"$2\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", f"{editor} --wait")
    assert edit_text("before") == "a\nb \ufffd\n"


def test_tab_takes_the_only_folder_and_goes_on_inside_it(start: Any, tmp_path: Path) -> None:
    """Once a second Tab took the folder's name away again."""
    (tmp_path / "my files" / "deep").mkdir(parents=True)
    (tmp_path / "my files" / "deep" / "note.md").write_text("words")
    terminal = start()
    ready(terminal)
    terminal.send("/file my")
    for shown in ("> /file my files/", "> /file my files/deep/", "> /file my files/deep/note.md"):
        terminal.settle(0.3)
        terminal.send(TAB)
        terminal.wait(shown)


@pytest.mark.slow
def test_vi_keys_edit_the_line(start: Any) -> None:
    terminal = start(flags={"keys": "vi"})
    ready(terminal)
    terminal.send("helpo")
    terminal.wait("> helpo")
    terminal.send("\x1b")
    terminal.pump(0.8)
    terminal.send("h", "x", "A", "!", ENTER)
    terminal.wait("You said: helo!")
    ready(terminal)
    terminal.send("gone", "\x1b")
    terminal.pump(0.8)
    terminal.send(CTRL_C, "a new line", ENTER)
    terminal.wait("You said: a new line")
    ready(terminal)
    terminal.say("/set keys emacs")
    terminal.wait("keys             emacs  /set")


def test_bytes_that_are_no_utf8_become_a_mark(start: Any) -> None:
    terminal = start()
    ready(terminal)
    terminal.child.send(b"caf\xe9 ok")
    terminal.pump(0.3)
    terminal.send(ENTER)
    terminal.wait("You said: caf\ufffd ok")


@pytest.mark.slow
def test_ctrl_c_ends_a_search_and_takes_its_line_away(start: Any) -> None:
    """Once the line of the search stayed under the prompt until the next message."""
    terminal = start()
    ready(terminal)
    terminal.say("the lighthouse")
    terminal.wait("You said: the lighthouse")
    ready(terminal)
    terminal.send(CTRL_R, "light")
    terminal.wait("I-search backward: light")
    terminal.send(CTRL_C)
    terminal.wait(lambda: "I-search" not in terminal.text())
    ready(terminal)
    terminal.send("next", ENTER)
    terminal.wait("You said: next")


@pytest.mark.slow
def test_a_redraw_from_another_thread_may_come_while_the_prompt_ends() -> None:
    """Now and then it raised there: the loop was gone between two looks at it, and the loading of a model ended so."""
    faults: list[Exception] = []
    is_over = threading.Event()

    def redraw_always() -> None:
        while not is_over.is_set():
            try:
                editor.wake()
            except Exception as fault:
                faults.append(fault)

    before = sys.getswitchinterval()
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        editor = LineEditor(complete=lambda _: (), toolbar=lambda: "", past_messages=lambda: ())
        thread = threading.Thread(target=redraw_always)
        sys.setswitchinterval(1e-6)  # threads take turns everywhere
        try:
            thread.start()
            for number in range(60):
                keys.send_text(f"{number}\r")
                assert editor.read() == str(number)
        finally:
            is_over.set()
            thread.join()
            sys.setswitchinterval(before)
    assert faults == []


def test_a_narrower_terminal_shows_the_line_once_though_it_wrapped_its_rows(start: Any) -> None:
    """Once every change of width left the upper rows of a long line behind, as terminals wrap what they show again."""
    terminal = start()
    ready(terminal)
    terminal.send("x" * 100, CTRL_J, "窓" * 35)  # rows of 80, 24 and 72 columns
    terminal.settle(0.3)
    written = len(terminal.output)
    terminal.resize(31, 24)
    terminal.settle(0.5)
    erased = terminal.output[written:].partition(b"\x1b[J")[0]
    moves = [int(number) for number in re.findall(rb"\x1b\[(\d+)A", erased)]
    assert sum(moves) == 2 + (3 - 1) + (1 - 1) + (3 - 1)  # a window that does not fit into column 31 goes down


STRUCK = """
import asyncio, os, runpy, signal, sys

end = asyncio.BaseEventLoop.shutdown_asyncgens


async def struck(self):
    os.kill(os.getpid(), signal.SIGINT)
    await end(self)


asyncio.BaseEventLoop.shutdown_asyncgens = struck
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_ctrl_c_right_after_enter_stops_the_answer_and_keeps_the_question(start: Any) -> None:
    """Once it ended the session, and the question was lost: prompt_toolkit was ending its loop."""
    shell = f'{sys.executable} -c "$STRUCK" "$@"; echo code=$?'
    terminal = start([["text", "half"], ["wait"]], shell=shell, environment={"STRUCK": STRUCK})
    ready(terminal)
    terminal.say("go on")
    terminal.wait("interrupted, /continue goes on")
    ready(terminal)
    terminal.say("/context")
    terminal.wait("with what the format adds")
    assert "1 user" in terminal.text() and "go on" in terminal.text().rsplit("/context", 1)[1]
    ready(terminal)
    terminal.say("/bye")
    terminal.wait("code=0")
