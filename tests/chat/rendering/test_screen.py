"""Committed lines are written once; live lines are redrawn in place and never need more rows than the screen has."""

from __future__ import annotations

import io
import os
import random
import re
import struct

import pyte
import pytest

from chat.rendering.answer_view import SETTLED_SECONDS, MarkdownAnswer, PlainAnswer
from chat.rendering.markdown import markdown_lines
from chat.rendering.markdown_splitter import MarkdownSplitter
from chat.rendering.screen import Screen
from chat.rendering.styled_text import Line, paint, plain, text_of, wrap
from chat.system.terminal_text import escape_control_characters
from tests.chat.tui.samples import chunks, document
from tests.environments import row_of, rows_of
from tests.grids import FULL

FRAMES = re.compile(r"\x1b\[\?2026[hl]")
WIDTHS = (40, 80, 200)
STREAMED = [(number, width) for number in range(40) for width in (WIDTHS if FULL else [WIDTHS[number % 3]])]
OURS = re.compile(r"\x1b\[(?:\?2026[hl]|\?7[hl]|[0-9;]*m|\d+A|J)|\r")  # every sequence that we write


class Watched:
    """A screen whose output goes through a terminal emulator."""

    def __init__(self, columns: int = 40, lines: int = 12, **options: bool) -> None:
        self.stream = io.StringIO()
        self.terminal = pyte.HistoryScreen(columns, lines, history=10_000)
        self.terminal.set_mode(pyte.modes.LNM)
        self.size = os.terminal_size((columns, lines))
        self.foreign_writes = 0
        self.screen = Screen(
            self.stream,
            **{"is_live": True, "colour": True, **options},
            size=lambda: self.size,
            foreign_writes=lambda: self.foreign_writes,
        )

    def shown(self) -> list[str]:
        """Scrollback and screen, without the empty lines at the end."""
        pyte.Stream(self.terminal).feed(FRAMES.sub("", self.stream.getvalue()))
        above = [row_of(self.terminal, row) for row in self.terminal.history.top]
        return "\n".join(line.rstrip() for line in [*above, *rows_of(self.terminal)]).rstrip().split("\n")


def expected(text: str, width: int) -> list[str]:
    """The lines of an answer, drawn at once."""
    splitter = MarkdownSplitter()
    lines: list[Line] = []
    for piece in [*splitter.feed(escape_control_characters(text)), *splitter.close()]:
        if lines and not piece.joined:
            lines.append(())
        if piece.is_fence:
            lines.append(plain(piece.text))
        elif piece.language is not None:
            lines.append(plain(piece.text.expandtabs(4)))
        else:
            lines += markdown_lines(piece.text, width)
    return "\n".join(text_of(line).rstrip() for line in lines).rstrip().split("\n")


def test_a_live_line_is_removed_completely() -> None:
    watched = Watched()
    watched.screen.line(plain("before"))
    watched.screen.update((), [plain("reading 1")])
    watched.screen.update((), [plain("reading 2")])
    watched.screen.update((plain("answer"),))
    assert watched.shown() == ["before", "answer"]


def test_unchanged_live_lines_are_not_written_again() -> None:
    watched = Watched()
    watched.screen.update((), [plain("first"), plain("second")])
    watched.screen.update((), [plain("first"), plain("second more")])
    assert watched.stream.getvalue().count("first") == 1
    assert watched.shown() == ["first", "second more"]


def test_too_many_live_lines_show_their_end_and_are_all_committed() -> None:
    watched = Watched(lines=6)
    lines = [plain(f"line {number}") for number in range(20)]
    for count in range(1, 21):
        watched.screen.update((), lines[:count])
    assert watched.shown() == [f"line {number}" for number in range(15, 20)]
    watched = Watched(lines=6)
    for count in range(1, 21):
        watched.screen.update((), lines[:count])
    watched.screen.update(lines)
    assert watched.shown()[-20:] == [text_of(line) for line in lines]


def test_a_line_wider_than_the_screen_is_redrawn_from_its_start() -> None:
    watched = Watched(columns=10)
    watched.screen.update((), [plain("x" * 25)])
    watched.screen.update((), [plain("y" * 35)])
    watched.screen.update((plain("end"),))
    assert watched.shown() == ["end"]


def test_text_of_other_programs_below_live_lines_is_not_erased() -> None:
    """Once an answer that continued after Ctrl+Z and `fg` wrote over the shell's lines."""
    watched = Watched()
    watched.screen.update((), [plain("first"), plain("second")])
    watched.stream.write("\n$ fg\n")
    watched.foreign_writes += 1
    watched.screen.update((), [plain("first"), plain("second more")])
    watched.screen.line(plain("first"), plain("second more."))
    assert watched.shown() == ["first", "second", "$ fg", "first", "second more."]


def test_a_pipe_gets_only_committed_lines_without_escapes() -> None:
    watched = Watched(is_live=False)
    watched.screen.update((), [plain("status")])
    watched.screen.line(plain("bold", "bold red"))
    assert watched.stream.getvalue() == "bold\n"


def test_no_colour_keeps_weights_and_drops_colours() -> None:
    watched = Watched(colour=False)
    watched.screen.line(plain("word", "bold red"))
    assert watched.stream.getvalue().count("\x1b[1mword\x1b[0m") == 1 and "31" not in watched.stream.getvalue()


def test_a_lost_terminal_is_reported_once() -> None:
    class Broken(io.StringIO):
        def flush(self) -> None:
            raise OSError(5, "gone")

    reports: list[int] = []
    screen = Screen(Broken(), is_live=True, colour=True, on_gone=lambda: reports.append(1))
    screen.line(plain("a"))
    screen.line(plain("b"))
    assert reports == [1]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "columns"), STREAMED)
def test_an_answer_streamed_in_chunks_ends_as_if_drawn_at_once(number: int, columns: int) -> None:
    text = document(number)
    watched = Watched(columns)
    moments = iter(range(1_000_000))
    view = MarkdownAnswer(watched.screen, clock=lambda: next(moments))  # every tick draws a frame
    for chunk in chunks(text, random.Random(number)):
        view.feed(chunk)
        view.tick()
    view.finish()
    wrapped = [part for line in expected(text, columns) for part in pieces_of(line, columns)]
    assert watched.shown() == wrapped


def pieces_of(line: str, columns: int) -> list[str]:
    """A line as a terminal wraps it."""
    terminal = pyte.Screen(columns, 60)
    pyte.Stream(terminal).feed(line)
    return "\n".join(row.rstrip() for row in rows_of(terminal)).rstrip().split("\n")


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("# Shown\n\nA half sen", "tence.\n\nMore.", ["…tence.", "", "More."]),
        ("A **half**", " sentence.", ["… sentence."]),
        ("Whole.\n\n", "Next.", ["Next."]),
        ("Shown\n\n- one\n- tw", "o\n- three", ["• two", "• three"]),
        ("```\na = 1\nb =", " 2\n```\nEnd.", ["b = 2", "```", "", "End."]),
        ("", "All.", ["All."]),
        ("- one\n", "- two", ["• one", "• two"]),
        ("- one\n\n", "End.", ["• one", "", "End."]),
        ("Code:\n", "```py\nx = 1\n```\nEnd.", ["```py", "x = 1", "```", "", "End."]),
        ("| a | b |\n|---|---|\n", "| 1 | 2 |\n", ["a  b", "─  ─", "1  2"]),
        ("> said\n", "> more", ["│ said", "│ more"]),
    ],
)
def test_a_continued_answer_does_not_show_its_beginning_again(before: str, after: str, shown: list[str]) -> None:
    watched = Watched()
    view = MarkdownAnswer(watched.screen, before=before)
    view.feed(after)
    view.finish()
    assert [line.strip() for line in watched.shown()] == shown


def test_each_reasoning_is_counted_by_itself() -> None:
    watched = Watched()
    view = MarkdownAnswer(watched.screen, clock=iter(range(100)).__next__)
    for thought, text in (("one tw", ""), ("o three", "A.\n\n"), ("four", "B.")):
        view.think(thought)
        if text:
            view.feed(text)
    view.finish()
    assert [line for line in watched.shown() if "Thought" in line] == [
        "Thought for 1 s (3 words).",
        "Thought for 1 s (1 word).",
    ]


def test_links_are_clickable_where_the_terminal_can() -> None:
    line = markdown_lines("[**here** and there](https://e.org/a?b=c) and [local](file:///etc/passwd)", 80)[0]
    assert "\x1b]8" not in paint(line, colour=True)
    linked = paint(line, colour=False, links=True)
    link = re.compile(r"\x1b\]8;id=(\d+);(https://e\.org/a\?b=c)?\x1b\\|\x1b\]8;;\x1b\\")
    assert re.sub(r"\x1b\[[0-9;]*m", "", link.sub("", linked)) == text_of(line)
    assert {found[2] for found in link.finditer(linked)} == {"https://e.org/a?b=c", None}
    wrapped = [paint(part, colour=False, links=True) for part in wrap(line, 8)]
    assert sum("]8;id=" in part for part in wrapped) > 3  # each line of it is clickable
    assert not link.search(paint(markdown_lines("[a](javascript:alert)", 80)[0], colour=False, links=True))


PAYLOADS = [
    "\x1b[31mred", "\x1b]52;c;aGk=\x07", "\x1b]8;;http://evil\x1b\\x", "\x1bP1$q\x1b\\", "\x9b2J",
    "\x9d0;title\x9c", "a\rb", "\x07", "\x08\x08x", "\x1b[2J\x1b[H", "\x1bc", "\u202etxt", "\u2066x\u2069", "\x00",
    "\x7f", "\x1b]0;t\x07", "\x1b[?1049h", "\x0e", "\x85", "\x1b[6n", "```\x1b[2J\nx\x1b]0;a\x07\n```",
    "| \x1b[1A | b |\n|--|--|\n| \x9b1m | \r |", "[a](http://\x1b]8;;x\x07)", "# \x1b#8", "```\x1b[31m\ncode\n```",
    "1. \x1b[5m\n2. `\x1b[6m`",
]  # fmt: skip


@pytest.mark.parametrize("kind", [MarkdownAnswer, PlainAnswer])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_escape_of_an_answer_reaches_the_terminal(payload: str, kind: type) -> None:
    text = f"before {payload} after\n"
    for at in range(len(text) + 1):
        watched = Watched()
        view = kind(watched.screen)
        for chunk in (text[:at], text[at:]):
            view.feed(chunk)
            view.tick()
        view.finish()
        rest = OURS.sub("", watched.stream.getvalue())
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", rest), repr(rest)
        assert "before" in rest and "after" in rest


def test_after_a_change_of_width_rows_are_counted_as_the_terminal_wrapped_them() -> None:
    watched = Watched(columns=40)
    watched.screen.update((), [plain("a" * 35), plain("b" * 10)])
    assert not watched.screen.is_stale
    watched.size = os.terminal_size((20, 12))
    assert watched.screen.is_stale
    written = len(watched.stream.getvalue())
    watched.screen.update((), [plain("c")])
    assert watched.stream.getvalue()[written:] == "\x1b[?2026h\r\x1b[2A\x1b[Jc\x1b[?2026l"


def test_a_terminal_that_does_not_rewrap_loses_no_line_above() -> None:
    """Once a change of width in xterm erased the question above the answer."""
    watched = Watched(columns=40, rewraps=False)
    watched.screen.update((), [plain("a" * 35), plain("b" * 10)])
    watched.size = os.terminal_size((20, 12))
    written = len(watched.stream.getvalue())
    watched.screen.update((), [plain("c")])
    assert watched.stream.getvalue()[written:] == "\x1b[?2026h\r\x1b[1A\x1b[Jc\x1b[?2026l"


@pytest.mark.parametrize(
    "text", ["👍🏽" * 40, "👨‍👩‍👧‍👦 " * 20, "a 🏳️‍🌈 " * 15 + "\n\nend"], ids=["tones", "families", "flags"]
)
def test_characters_that_a_terminal_finds_wider_than_we_do_are_shown_once(text: str) -> None:
    """Once every frame left a line behind in tmux, kitty and xterm, which give a hand and its tone four columns."""
    watched = Watched(columns=40)
    view = MarkdownAnswer(watched.screen, clock=iter(range(100_000)).__next__)
    for character in text:
        view.feed(character)
        view.tick()
    view.finish()
    once = Watched(columns=40)
    once.screen.line(*markdown_lines(text, 40))
    shown = watched.shown()
    assert shown == once.shown()
    assert "".join(shown).count("👍") == text.count("👍")


def test_the_terminals_size_has_precedence_over_exported_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LINES", "50")
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(theirs, "w") as stream:
        screen = Screen(stream, is_live=True, colour=True)
        assert screen.size == (80, 24)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, bytes(8))  # a serial line knows no size
        assert screen.size == (200, 50)
    os.close(ours)
    assert Screen(io.StringIO(), is_live=False, colour=False).size == (200, 50)


def test_nothing_is_drawn_while_the_size_changes() -> None:
    """tmux reports sizes late: once frames for an earlier size stayed in the scrollback."""
    watched = Watched()
    now = 0.0
    view = MarkdownAnswer(watched.screen, clock=lambda: now)
    view.feed("a word")
    view.tick()
    for width in (39, 38, 37):
        watched.size = os.terminal_size((width, 12))
        written = watched.stream.getvalue()
        view.feed(" more")
        now += SETTLED_SECONDS / 2
        view.tick()
        assert watched.stream.getvalue() == written
    now += SETTLED_SECONDS
    view.tick()
    assert watched.shown() == ["a word more more more"]
