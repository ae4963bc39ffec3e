"""Show an answer while it grows: as Markdown, or as the plain text it is. Knows text and lines, not events."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Protocol

from chat.rendering.markdown import Code, closed, markdown_lines
from chat.rendering.markdown_splitter import MarkdownPiece, MarkdownSplitter
from chat.rendering.styled_text import Line, plain
from chat.system.terminal_text import escape_control_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.rendering.screen import Screen

FRAME_SECONDS = 0.05
RENDER_SHARE = 4  # a frame waits this many times as long as the one before took
SETTLED_SECONDS = 0.3  # since the last change of the terminal's size: tmux tells of each one up to 0.25 s late


class AnswerView(Protocol):
    """Where an answer appears."""

    def feed(self, text: str) -> None:
        """Take more of the answer."""

    def tick(self, below: Sequence[Line] = ()) -> None:
        """Draw what is new if it is time to, with status lines below it."""

    def note(self, *lines: Line) -> None:
        """Show lines that are no part of the answer."""

    def finish(self) -> None:
        """Draw all of it for good."""


class MarkdownAnswer:
    """Finished pieces go to the scrollback once; only the unfinished one is redrawn."""

    def __init__(self, screen: Screen, *, before: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        """A view of an answer that goes on from `before`, of which only the unfinished piece is shown again."""
        self._screen = screen
        self._clock = clock
        self._line_ends = io.IncrementalNewlineDecoder(None, translate=True)  # "\r" ends a line of Markdown too
        self._splitter = MarkdownSplitter()
        self._ready: list[MarkdownPiece | Line] = []  # notes are lines
        self._begun = False
        self._code: Code | None = None
        self._is_new = False
        self._below: tuple[Line, ...] = ()
        self._next_frame = 0.0
        self._size = screen.size
        self._splitter.feed(escape_control_characters(self._line_ends.decode(before)))

    def feed(self, text: str) -> None:
        """Take more of the answer."""
        self._ready += self._splitter.feed(escape_control_characters(self._line_ends.decode(text)))
        self._is_new = True

    def tick(self, below: Sequence[Line] = ()) -> None:
        """Draw what is new if it is time to, with status lines below it."""
        started = self._clock()
        if self._size != self._screen.size:
            self._size, self._next_frame = self._screen.size, started + SETTLED_SECONDS
        changed = self._is_new or tuple(below) != self._below or self._screen.is_stale
        if not changed or started < self._next_frame:
            return
        self._below = tuple(below)
        self._draw()
        self._next_frame = self._clock() + max(FRAME_SECONDS, RENDER_SHARE * (self._clock() - started))

    def note(self, *lines: Line) -> None:
        """Show lines that are no part of the answer, above what is unfinished."""
        self._ready += lines
        self._is_new = True

    def finish(self) -> None:
        """Draw all of it for good."""
        self._ready += self._splitter.feed(self._line_ends.decode("", final=True))
        self._ready += self._splitter.close()
        self._below = ()
        self._draw()

    def _draw(self) -> None:
        committed = [line for piece in self._ready for line in self._lines(piece, is_final=True)]
        self._ready, self._is_new = [], False
        pending = self._splitter.pending
        begun = self._begun
        live = [*(self._lines(pending, is_final=False) if pending else ()), *self._below]
        self._begun = begun
        self._screen.update(committed, live)

    def _lines(self, piece: MarkdownPiece | Line, *, is_final: bool) -> list[Line]:
        if not isinstance(piece, MarkdownPiece):
            return [piece]
        gap: list[Line] = [] if piece.joined or not self._begun else [()]
        self._begun = True
        if piece.is_fence:
            self._code = None
            return [*gap, plain(piece.text, "dim")]
        if piece.language is not None:
            self._code = self._code or Code(piece.language)
            return [self._code.take(piece.text) if is_final else self._code.peek(piece.text)]
        return gap + markdown_lines(piece.text if is_final else closed(piece.text), self._screen.width)


class PlainAnswer:
    """The text as it is, written as it comes; nothing is ever drawn again."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._at_line_start = True
        self._has_below = False

    def feed(self, text: str) -> None:
        """Take more of the answer."""
        self._clear_below()
        self._screen.write(escape_control_characters(text))
        self._at_line_start = text.endswith("\n") if text else self._at_line_start

    def tick(self, below: Sequence[Line] = ()) -> None:
        """Draw status lines, where nothing else stands on the line."""
        if below and self._at_line_start:
            self._screen.update((), below)
            self._has_below = self._screen.is_live
        elif not below:
            self._clear_below()

    def note(self, *lines: Line) -> None:
        """Show lines that are no part of the answer, on lines of their own."""
        self.finish()
        self._screen.line(*lines)

    def finish(self) -> None:
        """End the last line."""
        self._clear_below()
        if not self._at_line_start:
            self._screen.write("\n")
            self._at_line_start = True

    def _clear_below(self) -> None:
        if self._has_below:
            self._screen.update()
            self._has_below = False
