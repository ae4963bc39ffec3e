"""The line editor: pastes, history, blocks, the external editor, vi keys."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.application import create_app_session, get_app
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from chat.errors import UsageError
from chat.system.external_editor import edit_text
from chat.tui.input.line_editor import LineEditor
from chat.tui.signals import Terminated
from tests.chat.tui.pseudo_terminal import (
    CTRL_C,
    CTRL_G,
    CTRL_J,
    CTRL_R,
    DEADLINE_SECONDS,
    ENTER,
    TAB,
    UP,
    Terminal,
)
from tests.grids import FULL

CURSOR_IS_BLOCK = b"\x1b[2 q"
LEFT, RIGHT = "\x1b[D", "\x1b[C"


@pytest.mark.slow
def test_a_large_paste_folds_and_is_sent_whole(start: Any) -> None:
    terminal = start(lines=60)
    terminal.wait_for_prompt()
    pasted = "\n".join(f"row {number}" for number in range(30))
    terminal.send("look: ")
    terminal.paste(pasted)
    terminal.wait("> look: [paste 1: 30 lines, row 0]")
    terminal.send(" please", ENTER)
    terminal.wait(f"You said: look: {pasted} please")


def test_backspace_deletes_a_folded_paste(start: Any) -> None:
    terminal = start()
    terminal.wait_for_prompt()
    terminal.paste("x\n" * 20)
    terminal.wait("[paste 1: 20 lines, x]")
    terminal.send("\x7f")
    terminal.wait_for_prompt()
    terminal.send("kept", ENTER)
    terminal.wait("You said: kept")


@pytest.mark.slow
def test_the_cursor_steps_over_a_mark(start: Any) -> None:
    """Once a letter typed into a mark made it plain text, and the paste was not sent."""
    terminal = start()
    terminal.wait_for_prompt()
    pasted = "\n".join("x" * 12)
    terminal.send("see ")
    terminal.paste(pasted)
    terminal.wait("lines, x]")
    terminal.send(LEFT, "it: ", RIGHT, "!", LEFT, LEFT, RIGHT, "?", ENTER)
    terminal.wait(f"You said: see it: {pasted}?!")


@pytest.mark.slow
@pytest.mark.parametrize("keys", [("\x17",), ("\x1b\x7f",), (LEFT, "\x04"), (LEFT, "\x1b[3~"), (LEFT, "\x1bd")])
def test_every_deleting_key_deletes_a_whole_mark(start: Any, keys: tuple[str, ...]) -> None:
    terminal = start()
    terminal.wait_for_prompt()
    terminal.send("see ")
    terminal.paste("a b\n" * 12)
    terminal.wait("lines, a b]")
    terminal.send(*keys)
    terminal.wait(lambda: terminal.cursor_line() == "> see")


def test_a_short_paste_is_neither_folded_nor_sent(start: Any) -> None:
    terminal = start()
    terminal.wait_for_prompt()
    terminal.paste("one\ntwo\n")
    terminal.wait("> one\n  two")
    terminal.send("three", ENTER)
    terminal.wait("You said: one\ntwo\nthree")


@pytest.mark.slow
def test_an_unmarked_paste_is_not_sent_line_by_line(start: Any) -> None:
    late = {"TYPED_AHEAD_SECONDS": 0}  # later than this, keys that come together are a paste
    terminal = start(seconds=late, environment={"TERM": "linux"})
    terminal.wait_for_prompt()
    terminal.child.send("alpha\rbeta\rgamma")
    terminal.wait("> alpha\n  beta\n  gamma")
    terminal.send(ENTER)
    terminal.wait("You said: alpha\nbeta\ngamma")


@pytest.mark.slow
def test_keys_that_come_with_enter_are_sent_where_the_terminal_marks_pastes(start: Any) -> None:
    """Once a question, Enter and more text in one burst, as a script or tmux sends them, were taken for a paste."""
    terminal = start(seconds={"TYPED_AHEAD_SECONDS": 0}, environment={"TERM": "xterm-256color"})
    terminal.wait_for_prompt()
    terminal.child.send("alpha\rbeta")
    terminal.wait("You said: alpha")
    terminal.wait(lambda: terminal.cursor_line() == "> beta")


@pytest.mark.slow
def test_keys_typed_during_an_answer_come_to_the_next_prompt(start: Any, tmp_path: Path) -> None:
    script = [["text", "slow "], ["until", "typed"], ["text", "answer"]]
    terminal = start(script, seconds={"TYPED_AHEAD_SECONDS": 3600})
    terminal.wait_for_prompt()
    terminal.say("first")
    terminal.wait("slow")
    terminal.send("second", ENTER, "third", ENTER)
    assert "second" not in terminal.text()
    (tmp_path / "typed").touch()
    terminal.wait("You said: third")
    order = [terminal.everything().index(text) for text in ("slow answer", "> second", "You said: second", "> third")]
    assert order == sorted(order)


def test_three_quotes_enclose_a_block(start: Any) -> None:
    terminal = start()
    terminal.wait_for_prompt()
    terminal.send('"""first', ENTER, "/help", ENTER, 'last"""', ENTER)
    terminal.wait("You said: first\n/help\nlast")


@pytest.mark.slow
def test_up_finds_messages_of_earlier_sessions_by_their_beginning(start: Any) -> None:
    terminal = start()
    for message in ("apple pie", "banana split", "apple cake"):
        terminal.wait_for_prompt()
        terminal.say(message)
        terminal.wait(f"You said: {message}")
    terminal.wait_for_prompt()
    terminal.say("/bye")
    terminal.end()
    terminal = start()
    terminal.wait_for_prompt()
    terminal.send("app", UP)
    terminal.wait("> apple cake")
    terminal.send(UP)
    terminal.wait("> apple pie")
    terminal.send(CTRL_C, UP, UP)
    terminal.wait("> banana split")


def test_ctrl_r_searches_history(start: Any) -> None:
    terminal = start()
    for message in ("red fox", "blue whale"):
        terminal.wait_for_prompt()
        terminal.say(message)
        terminal.wait(f"You said: {message}")
    terminal.wait_for_prompt()
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
    terminal.wait_for_prompt()
    terminal.send("typed", CTRL_G)
    terminal.wait("and edited")
    terminal.send(ENTER)
    terminal.wait("You said: typed")
    terminal.wait("and edited")


@pytest.mark.parametrize("editor", ["no-such-editor", "false", "'", "sh -c 'echo opened; exec sleep 3600'"])
@pytest.mark.slow
def test_an_editor_that_fails_is_reported_and_the_text_stays(start: Any, editor: str) -> None:
    """Once a missing $EDITOR opened another editor, and Ctrl+C in an editor dropped the text here."""
    terminal = start(environment={"EDITOR": editor, "VISUAL": ""})
    terminal.wait_for_prompt()
    terminal.paste("x\n" * 20)
    terminal.send("kept", CTRL_G)
    if "sleep" in editor:
        terminal.wait("opened")
        terminal.send(CTRL_C)
    terminal.wait(f"the editor `{editor}` failed · set $EDITOR to yours")
    assert "> [paste 1: 20 lines, x]kept" in terminal.text()


@pytest.mark.parametrize("left", ["mkfifo", "ln -s /dev/zero", "mkdir", "true"])
def test_an_editor_that_leaves_no_file_is_an_error(monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    """Once a pipe or a device in place of the file was read for ever."""
    monkeypatch.setenv("VISUAL", f"sh -c 'rm $0; {left} $0'")
    with pytest.raises(UsageError, match="the editor left no file with the text"):
        edit_text("before")


def test_sigterm_ends_the_editor_and_the_program(start: Any) -> None:
    terminal = start(environment={"EDITOR": "sh -c 'echo opened; exec sleep 3600'", "VISUAL": ""})
    terminal.wait_for_prompt()
    terminal.send(CTRL_G)
    terminal.wait("opened")
    terminal.child.kill(signal.SIGTERM)
    assert terminal.end() == 130


def test_an_editor_that_opens_while_the_program_ends_is_terminated() -> None:
    def terminate() -> None:
        raise Terminated

    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        line_editor = LineEditor(complete=lambda _: (), toolbar=str, past_messages=tuple, handle_events=terminate)
        with pytest.raises(Terminated):
            line_editor.read()
    with subprocess.Popen(["sleep", "3600"]) as editor:
        line_editor._note_external_editor(editor)
        assert editor.wait(DEADLINE_SECONDS) == -signal.SIGTERM


def test_an_editors_invalid_bytes_and_crlf_become_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf 'a\\r\\nb \\377\\n\\n' > \"$2\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", f"{editor} --wait")
    assert edit_text("before") == "a\nb \ufffd\n"


def test_tab_takes_the_only_folder_and_then_completes_inside_it(start: Any, tmp_path: Path) -> None:
    """Once a second Tab removed the folder's name again."""
    (tmp_path / "my files" / "deep").mkdir(parents=True)
    (tmp_path / "my files" / "deep" / "note.md").write_text("words")
    terminal = start()
    terminal.wait_for_prompt()
    terminal.send("/file my")
    path = ""
    for offered in ("my files/", "deep/", "note.md"):
        path += offered
        terminal.wait(lambda offered=offered: offered in "\n".join(terminal.lines()[terminal.screen.cursor.y + 1 :]))
        terminal.send(TAB)
        terminal.wait(f"> /file {path}")


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("/unTABx", "> /undox"),  # completed, and the text after it kept
        ("/file myTABdTABnTAB too", "> /file my files/deep/note.md too"),
        ("/sTABt", "> /st"),  # several completions begin with this; none is taken
        ("/set temTAB0.2", "> /set temperature0.2"),
        ("no commandTAB at all", "> no command at all"),
    ],
)
def test_tab_completes_in_the_same_burst_as_text(start: Any, tmp_path: Path, keys: str, line: str) -> None:
    """The completions were looked for later, when the keys after Tab had changed the text."""
    (tmp_path / "my files" / "deep").mkdir(parents=True)
    (tmp_path / "my files" / "deep" / "note.md").write_text("words")
    terminal = start()
    terminal.wait_for_prompt()
    terminal.send(keys.replace("TAB", TAB))
    terminal.wait(lambda: line in [row.rstrip() for row in terminal.lines()])


def leave_insert_mode(terminal: Terminal) -> None:
    """Press Escape, and wait until the cursor is a block: before that, Escape may be the beginning of another key."""
    before = len(terminal.output)
    terminal.send("\x1b")
    terminal.wait(lambda: CURSOR_IS_BLOCK in terminal.output[before:])


@pytest.mark.slow
def test_vi_keys_edit_the_line(start: Any) -> None:
    terminal = start(flags={"keys": "vi"})
    terminal.wait_for_prompt()
    terminal.send("helpo")
    terminal.wait("> helpo")
    leave_insert_mode(terminal)
    terminal.send("h", "x", "A", "!", ENTER)
    terminal.wait("You said: helo!")
    terminal.wait_for_prompt()
    terminal.send("gone")
    terminal.wait("> gone")
    leave_insert_mode(terminal)
    terminal.send(CTRL_C, "a new line", ENTER)
    terminal.wait("You said: a new line")
    terminal.wait_for_prompt()
    terminal.say("/set keys emacs")
    terminal.wait("keys             emacs  /set")


def test_bytes_that_are_not_utf8_become_replacement_characters(start: Any) -> None:
    terminal = start()
    terminal.wait_for_prompt()
    terminal.child.send(b"caf\xe9 ok")
    terminal.wait(lambda: terminal.before_cursor().endswith(" ok"))
    terminal.send(ENTER)
    terminal.wait("You said: caf\ufffd ok")


@pytest.mark.slow
def test_ctrl_c_ends_a_search_and_removes_its_line(start: Any) -> None:
    """Once the line of the search stayed under the prompt until the next message."""
    terminal = start()
    terminal.wait_for_prompt()
    terminal.say("the lighthouse")
    terminal.wait("You said: the lighthouse")
    terminal.wait_for_prompt()
    terminal.send(CTRL_R, "light")
    terminal.wait("I-search backward: light")
    terminal.send(CTRL_C)
    terminal.wait(lambda: "I-search" not in terminal.text())
    terminal.wait_for_prompt()
    terminal.send("next", ENTER)
    terminal.wait("You said: next")


@pytest.mark.slow
def test_another_thread_may_wake_the_editor_while_its_prompt_ends() -> None:
    """Once it raised now and then, because the loop ended between two looks at it, and a model's load thread died."""
    faults: list[Exception] = []
    is_over = threading.Event()

    def wake_always() -> None:
        while not is_over.is_set():
            try:
                editor.wake()
            except Exception as fault:
                faults.append(fault)

    before = sys.getswitchinterval()
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        editor = LineEditor(complete=lambda _: (), toolbar=lambda: "", past_messages=lambda: ())
        thread = threading.Thread(target=wake_always)
        sys.setswitchinterval(1e-6)  # threads take turns everywhere
        try:
            thread.start()
            for number in range(60 if FULL else 30):
                keys.send_text(f"{number}\r")
                assert editor.read() == str(number)
        finally:
            is_over.set()
            thread.join()
            sys.setswitchinterval(before)
    assert faults == []


def test_a_line_is_shown_once_after_the_terminal_became_narrower(start: Any) -> None:
    """Once each change of width left the upper rows of a long line behind, because terminals wrap their lines again."""
    terminal = start()
    terminal.wait("/ 32,768")
    terminal.wait_for_prompt()
    terminal.send("x" * 100, CTRL_J, "窓" * 35)  # rows of 80, 24 and 72 columns
    terminal.wait(lambda: terminal.before_cursor().endswith("窓" * 35))
    written = len(terminal.output)
    terminal.resize(31, 24)
    terminal.wait(lambda: b"\x1b[J" in terminal.output[written:])
    erased = terminal.output[written:].partition(b"\x1b[J")[0]
    moves = [int(number) for number in re.findall(rb"\x1b\[(\d+)A", erased)]
    assert sum(moves) == 2 + (3 - 1) + (1 - 1) + (3 - 1)  # a wide character does not fit into column 31


INTERRUPTED = """
import asyncio, os, runpy, signal, sys

end = asyncio.BaseEventLoop.shutdown_asyncgens


async def interrupted(self):
    asyncio.BaseEventLoop.shutdown_asyncgens = end  # only once
    os.kill(os.getpid(), signal.SIGINT)
    await end(self)


asyncio.BaseEventLoop.shutdown_asyncgens = interrupted
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_ctrl_c_right_after_enter_stops_the_answer_and_keeps_the_question(start: Any) -> None:
    """Once it ended the session and lost the question, because prompt_toolkit was still ending its loop."""
    shell = f'{sys.executable} -c "$INTERRUPTED" "$@"; echo code=$?'
    terminal = start([["text", "half"], ["wait"]], shell=shell, environment={"INTERRUPTED": INTERRUPTED})
    terminal.wait_for_prompt()
    terminal.say("go on")
    terminal.wait("Stopped. /continue resumes.")
    terminal.wait_for_prompt()
    terminal.say("/context")
    terminal.wait("including the prompt format")
    assert "1 user" in terminal.text() and "go on" in terminal.text().rsplit("/context", 1)[1]
    terminal.wait_for_prompt()
    terminal.say("/bye")
    terminal.wait("code=0")


@pytest.mark.slow
def test_ctrl_c_right_after_enter_stops_a_command(start: Any) -> None:
    """Once it was lost, and the command waited until the model was loaded."""
    shell = f'{sys.executable} -c "$INTERRUPTED" "$@"; echo code=$?'
    terminal = start([], shell=shell, environment={"INTERRUPTED": INTERRUPTED}, loads_when="never")
    terminal.wait_for_prompt()
    terminal.say("/model")
    terminal.wait("Stopped.")
    terminal.wait_for_prompt()
    terminal.say("/bye")
    terminal.wait("code=0")


def test_ctrl_c_in_the_moment_of_enter_is_counted() -> None:
    """The signal comes while the prompt runs, but Enter ends the prompt before its loop handles the signal."""

    def enter_and_interrupt() -> None:
        asyncio.get_running_loop().call_soon(lambda: get_app().exit(result="hello"))
        editor.interrupt()

    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        editor = LineEditor(
            complete=lambda text: (), toolbar=str, past_messages=lambda: (), handle_events=enter_and_interrupt
        )
        assert editor.read() == "hello"
    assert editor.unhandled_interrupts == 1


def test_ctrl_z_ends_the_input_where_no_program_can_be_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, where it is the key for that, it became a sign in the message."""
    monkeypatch.setattr("chat.tui.input.line_editor.suspend_to_background_supported", lambda: False)
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        editor = LineEditor(complete=lambda _: (), toolbar=str, past_messages=lambda: ())
        keys.send_text("a\x1ab\r")
        assert editor.read() == "ab"
        keys.send_text("\x1a")
        with pytest.raises(EOFError):
            editor.read()
