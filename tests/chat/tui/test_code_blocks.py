"""What the screen shows as a code block is what `-x` prints and `/copy code` copies."""

from __future__ import annotations

import base64
import io
import os
import random
import re
from typing import TYPE_CHECKING, Any

import pytest

from chat.cli.main import run
from chat.rendering.answer_view import MarkdownAnswer
from chat.rendering.code_blocks import code_blocks
from chat.rendering.screen import Screen
from chat.system.terminal_text import escape_control_characters
from tests.chat.code_answers import ANSWERS, HTML, hostile_answer
from tests.chat.remote.stub_server import Reply, Script, serving, words
from tests.chat.tui.samples import chunks
from tests.grids import FULL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.rendering.styled_text import Line

ALL = {**ANSWERS, "in HTML": HTML}
IN_A_SESSION = ALL if FULL else dict(list(ALL.items())[::2])


class Recorder(Screen):
    """A wide screen that keeps the lines it was given for good."""

    def __init__(self) -> None:
        super().__init__(io.StringIO(), is_live=True, colour=True, size=lambda: os.terminal_size((2000, 100)))
        self.lines: list[Line] = []

    def update(self, committed: Sequence[Line] = (), live: Sequence[Line] = ()) -> None:
        self.lines += committed


def shown_blocks(text: str, seed: int) -> list[str]:
    """What stands between the marks of code blocks on the screen, which are dim, when the text comes in chunks."""
    screen = Recorder()
    view = MarkdownAnswer(screen, clock=iter(range(1_000_000)).__next__)  # every tick is time for a frame
    for chunk in chunks(text, random.Random(seed)):
        view.feed(chunk)
        view.tick()
    view.finish()
    blocks: list[str] = []
    before: int | None = None  # columns of markers and indentation before the block's marks
    for line in screen.lines:
        marks = [at for at, span in enumerate(line) if span.style == "dim" and span.text.startswith(("```", "~~~"))]
        if marks:
            before = sum(len(span.text) for span in line[: marks[0]]) if before is None else None
            blocks += [] if before is None else [""]
        elif before is not None:
            blocks[-1] += "".join(span.text for span in line)[before:] + "\n"
    return blocks


def as_shown(blocks: Sequence[str]) -> list[str]:
    return [escape_control_characters(block).expandtabs(4) for block in blocks]


@pytest.mark.parametrize("name", ALL)
def test_the_screen_shows_the_blocks_that_are_found(name: str) -> None:
    """Once empty lines of code in a list item were missing, and a fence's own indentation stood before its code."""
    text, blocks = ALL[name]
    assert shown_blocks(text, 1) == as_shown(blocks)


@pytest.mark.slow
def test_no_order_of_lines_makes_a_difference_to_the_screen() -> None:
    texts = [hostile_answer(number) for number in range(500 if FULL else 150)]
    assert [shown_blocks(text, 1) for text in texts] == [as_shown(code_blocks(text)) for text in texts]


@pytest.mark.slow
def test_the_filter_prints_and_the_session_copies_the_same(
    start: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two had parsers of their own, which disagreed about lists, indentation, empty blocks, CRLF and tildes."""
    with serving(Script([])) as script:
        for text, blocks in IN_A_SESSION.values():
            script.replies = [Reply(chunks=words(text))]
            for flag, wanted in (("-x", blocks[:1]), ("--xl", blocks[-1:])):
                monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
                code = run(["--remote", script.url, flag, "hi"])
                assert (code, capsys.readouterr().out) == (0 if blocks else 1, "".join(wanted)), text
    terminal = start(
        *([["text", text]] for text, _ in IN_A_SESSION.values()),
        lines=60,
        columns=120,
        environment={"DISPLAY": "", "WAYLAND_DISPLAY": ""},
    )
    for text, blocks in IN_A_SESSION.values():
        for line, answer in (("next", " tok"), ("/copy code", "Copied" if blocks else "the last answer has no code")):
            terminal.say(line)
            terminal.wait(lambda line=line, answer=answer: answer in terminal.everything().rsplit(f"> {line}", 1)[-1])
        found = re.findall(rb"\x1b\]52;c;([^\x07]*)\x07", terminal.output)
        terminal.output = b""
        assert [base64.b64decode(copied).decode() for copied in found] == list(blocks[-1:]), text
