"""Show an answer while it grows: styled as Markdown, or as plain text."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Protocol

from chat.rendering.markdown import CodeHighlighter, close_open_marks, markdown_lines
from chat.rendering.markdown_splitter import MarkdownPiece, MarkdownSplitter, shown_again
from chat.rendering.spoken import ANSWER, THOUGHTS
from chat.rendering.status_text import duration
from chat.rendering.styled_text import Line, plain, wrap
from chat.system.terminal_text import counted, escape_control_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.rendering.screen import Screen

FRAME_SECONDS = 0.05
PAUSE_FACTOR = 4  # the pause after a frame is at least this many times as long as the frame took
REASONING_ROWS = 8  # shown of reasoning while it grows, in a third of the terminal at most
SETTLED_SECONDS = 0.3  # after the last change of the terminal's size; tmux reports each up to 0.25 s late


class AnswerView(Protocol):
    """Shows one answer."""

    def think(self, text: str) -> None:
        """Add text to the reasoning before the answer."""

    def feed(self, text: str) -> None:
        """Add text to the answer."""

    def tick(self, below: Sequence[Line] = ()) -> None:
        """Draw what is new, if it is time for a frame.

        Args:
            below: status lines below the answer.
        """

    def note(self, *lines: Line) -> None:
        """Show lines that do not belong to the answer."""

    def finish(self) -> None:
        """Draw the complete answer."""


class LiveReasoning:
    """Reasoning on a terminal that can redraw: its last lines while it grows, then one line in their place."""

    def __init__(self, screen: Screen, hint: str, clock: Callable[[], float]) -> None:
        """Reasoning that has not begun.

        Args:
            screen: where it is shown.
            hint: a sentence that says how to read all of it; may be empty.
            clock: gives the time in seconds.
        """
        self._screen = screen
        self._hint = hint
        self._clock = clock
        self._line_ends = io.IncrementalNewlineDecoder(None, translate=True)
        self._parts: list[str] = []
        self._tail = ""  # enough of the end for all rows
        self._began_at: float | None = None

    def feed(self, text: str) -> None:
        """Add text."""
        if self._began_at is None:
            self._began_at = self._clock()
        self._parts.append(text)
        text = self._line_ends.decode(text)
        self._tail = (self._tail + text)[-REASONING_ROWS * max(self._screen.width, 80) :]

    @property
    def lines(self) -> list[Line]:
        """The last lines, dim."""
        if self._began_at is None:
            return []
        rows = max(1, min(REASONING_ROWS, self._screen.height // 3))
        return _dim_lines(self._tail.rstrip("\n"), self._screen.width)[-rows:]

    def end(self) -> list[Line]:
        """A sentence in place of the reasoning; nothing without reasoning, or when it has ended."""
        if self._began_at is None:
            return []
        words = counted(len("".join(self._parts).split()), "word")
        said = f"Thought for {duration(self._clock() - self._began_at)} ({words})."
        self._began_at, self._tail = None, ""
        self._parts.clear()
        return _dim_lines(f"{said} {self._hint}".strip(), self._screen.width)


class PrintedReasoning:
    """Reasoning as dim lines that stay: complete ones are given out once, the last one stays open."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._line_ends = io.IncrementalNewlineDecoder(None, translate=True)
        self._open = ""
        self._has_begun = False

    def feed(self, text: str) -> list[Line]:
        """The lines that are complete with more text."""
        width = self._screen.width
        self._has_begun = True
        *complete, self._open = (self._open + self._line_ends.decode(text)).split("\n")
        lines = [line for text in complete for line in _dim_lines(text, width)]
        *full, last = _dim_lines(self._open, width)
        if full:  # lines lose the spaces at their ends
            spaces = self._open[len(self._open.rstrip(" ")) :]
            self._open = "".join(span.text for span in last).rstrip(" ") + spaces
        return lines + full

    def end(self) -> list[Line]:
        """The last line and an empty one, before the answer; nothing without reasoning, or when it has ended."""
        open_line = _dim_lines(self._open, self._screen.width) if self._open else []
        lines = [*open_line, ()] if self._has_begun else []
        self._open, self._has_begun = "", False
        return lines


def _dim_lines(text: str, width: int) -> list[Line]:
    return wrap(plain(escape_control_characters(text), "dim"), width) or [()]


class MarkdownAnswer:
    """An answer styled as Markdown: finished pieces are committed, the unfinished one is redrawn."""

    def __init__(
        self,
        screen: Screen,
        *,
        before: str = "",
        reasoning_hint: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A view of an answer.

        Args:
            screen: where it is shown.
            before: the text that the answer continues. A paragraph goes on after an ellipsis; the unfinished line of
                code, item, table or quote is shown again.
            reasoning_hint: a sentence that says how to read all of the reasoning before the answer.
            clock: gives the time in seconds.
        """
        self._screen = screen
        self._clock = clock
        self._line_ends = io.IncrementalNewlineDecoder(None, translate=True)  # `\r` ends a line of Markdown too
        self._splitter = MarkdownSplitter()
        self._reasoning = LiveReasoning(screen, reasoning_hint, clock)
        self._finished: list[MarkdownPiece | Line] = []  # since the last frame; notes are lines
        self._has_pieces = False
        self._code: CodeHighlighter | None = None
        self._has_changed = False
        self._below: tuple[Line, ...] = ()
        self._next_frame_at = 0.0
        self._size = screen.size
        self._split(before)
        if (pending := self._splitter.pending) is not None and pending.language is None:
            line_ends = len(before) - len(before.rstrip("\n"))
            self._splitter = MarkdownSplitter()
            self._splitter.feed(shown_again(pending.text, line_ends))

    def think(self, text: str) -> None:
        """Add text to the reasoning before the answer."""
        self._reasoning.feed(text)
        self._has_changed = True

    def feed(self, text: str) -> None:
        """Add text to the answer."""
        if folded := self._reasoning.end():
            self._finished += [*folded, ()]
        self._finished += self._split(text)
        self._has_changed = True

    def tick(self, below: Sequence[Line] = ()) -> None:
        """Draw what is new, if it is time for a frame.

        Args:
            below: status lines below the answer.
        """
        started = self._clock()
        if self._size != self._screen.size:
            self._size, self._next_frame_at = self._screen.size, started + SETTLED_SECONDS
        has_changed = self._has_changed or tuple(below) != self._below or self._screen.is_stale
        if not has_changed or started < self._next_frame_at:
            return
        self._below = tuple(below)
        self._draw()
        now = self._clock()
        self._next_frame_at = now + max(FRAME_SECONDS, PAUSE_FACTOR * (now - started))

    def note(self, *lines: Line) -> None:
        """Show lines that do not belong to the answer, above its unfinished piece."""
        self._finished += lines
        self._has_changed = True

    def finish(self) -> None:
        """Draw the complete answer."""
        self._finished += self._reasoning.end()
        self._finished += self._splitter.feed(self._line_ends.decode("", final=True))
        self._finished += self._splitter.close()
        self._below = ()
        self._draw()

    def _split(self, text: str) -> list[MarkdownPiece]:
        return self._splitter.feed(escape_control_characters(self._line_ends.decode(text)))

    def _draw(self) -> None:
        committed = [line for piece in self._finished for line in self._lines(piece, is_final=True)]
        self._finished, self._has_changed = [], False
        pending, had_pieces = self._splitter.pending, self._has_pieces
        unfinished = self._lines(pending, is_final=False) if pending else self._reasoning.lines
        live = [*unfinished, *self._below]
        self._has_pieces = had_pieces  # the pending piece does not count yet
        self._screen.update(committed, live)

    def _lines(self, piece: MarkdownPiece | Line, *, is_final: bool) -> list[Line]:
        if not isinstance(piece, MarkdownPiece):
            return [piece]
        gap: list[Line] = [] if piece.joined or not self._has_pieces else [()]
        self._has_pieces = True
        if piece.is_fence:
            self._code = None
            return [*gap, plain(piece.text, "dim")]
        if piece.language is not None:
            self._code = self._code or CodeHighlighter(piece.language)
            return [self._code.add(piece.text) if is_final else self._code.preview(piece.text)]
        return gap + markdown_lines(piece.text if is_final else close_open_marks(piece.text), self._screen.width)


class PlainAnswer:
    """An answer as plain text, written as it comes and never drawn again."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._at_line_start = True
        self._has_below = False
        self._named = ""  # the part of the answer that was announced last, for a screen reader
        self._reasoning = PrintedReasoning(screen)

    def think(self, text: str) -> None:
        """Add text to the reasoning before the answer, line by line."""
        if lines := self._reasoning.feed(text):
            self._erase_below()
            self._name(THOUGHTS)
            self._screen.line(*lines)

    def feed(self, text: str) -> None:
        """Add text to the answer."""
        self._erase_below()
        self._end_reasoning()
        if text:
            self._name(ANSWER)
        self._screen.write(escape_control_characters(text))
        self._at_line_start = text.endswith("\n") if text else self._at_line_start

    def tick(self, below: Sequence[Line] = ()) -> None:
        """Draw status lines if the cursor is at the start of a line.

        Args:
            below: status lines below the answer.
        """
        if below and self._at_line_start:
            self._screen.update((), below)
            self._has_below = self._screen.is_live
        elif not below:
            self._erase_below()

    def note(self, *lines: Line) -> None:
        """Show lines that do not belong to the answer, after its present line."""
        self.finish()
        self._screen.line(*lines)

    def finish(self) -> None:
        """End the last line."""
        self._erase_below()
        self._end_reasoning()
        if not self._at_line_start:
            self._screen.write("\n")
            self._at_line_start = True

    def _end_reasoning(self) -> None:
        if lines := self._reasoning.end():
            self._name(THOUGHTS)
            self._screen.line(*lines)

    def _name(self, part: str) -> None:
        if self._screen.is_spoken and self._named != part and self._at_line_start:
            self._screen.line(plain(part))
            self._named = part

    def _erase_below(self) -> None:
        if self._has_below:
            self._screen.update()
            self._has_below = False
