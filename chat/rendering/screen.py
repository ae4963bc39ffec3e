"""A screen: lines that are written once, and below them live lines that are redrawn in place.

Committed lines stay in the scrollback. Live lines are redrawn from the first one that changed.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, TextIO

from chat.rendering.styled_text import Line, line_width, paint, row_count, text_of, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Terminals that know these show a frame at once; others ignore them
BEGIN_FRAME, END_FRAME = "\x1b[?2026h", "\x1b[?2026l"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"


class Screen:
    """A stream that lines are written to.

    Attributes:
        is_live: whether lines can be redrawn; else only committed lines are written, without escape sequences.
        is_spoken: whether a screen reader reads it aloud, so that words stand for signs.
        colour: whether colours are shown.
    """

    is_spoken = False

    def __init__(
        self,
        stream: TextIO,
        *,
        is_live: bool,
        colour: bool,
        links: bool = False,
        rewraps: bool = True,
        size: Callable[[], os.terminal_size] | None = None,
        foreign_writes: Callable[[], int] = lambda: 0,
        on_gone: Callable[[], None] = lambda: None,
    ) -> None:
        """A screen without live lines.

        Args:
            stream: the terminal, or a file or pipe.
            is_live: whether it is a terminal that can be redrawn.
            colour: show colours.
            links: make links clickable.
            rewraps: whether the terminal wraps its lines again when its width changes; nearly all do.
            size: gives columns and rows; by default the terminal is asked.
            foreign_writes: gives a number that grows when another program has written to the terminal. The live lines
                are then left where they are, because the cursor is no longer at their end.
            on_gone: called once when the terminal is gone.
        """
        self.is_live = is_live
        self.colour = colour
        self._links = links
        self._stream = stream
        self._rewraps = rewraps
        self._size = size or self._measured_size
        self._foreign_writes = foreign_writes
        self._seen_foreign_writes = 0
        self._on_gone = on_gone
        self._is_gone = False
        self._live: tuple[Line, ...] = ()
        self._live_width = 0  # of the terminal when the live lines were drawn

    @property
    def width(self) -> int:
        """Columns, at least 1."""
        return max(1, self._size().columns)

    @property
    def height(self) -> int:
        """Rows, at least 2."""
        return max(2, self._size().lines)

    @property
    def size(self) -> os.terminal_size:
        """Columns and rows as the terminal gives them."""
        return self._size()

    @property
    def is_stale(self) -> bool:
        """Whether the terminal's width changed after the live lines were drawn."""
        return bool(self._live) and self._live_width != self.width

    def update(self, committed: Sequence[Line] = (), live: Sequence[Line] = ()) -> None:
        """Write committed lines, and replace the live lines below them.

        Args:
            committed: lines that stay.
            live: the new live lines; only the last ones are shown if not all fit.
        """
        if not self.is_live:
            self.write("".join(text_of(line).rstrip() + "\n" for line in committed))
            return
        self._leave_displaced_lines()
        width = self.width
        shown = self._fitting(live, width)
        if not committed and shown == self._live and width == self._live_width:
            return
        unchanged = self._unchanged_count(committed, shown, width)
        above = "".join(self._painted(line) + "\n" for line in committed[unchanged:])
        below = self._painted_live(shown[max(0, unchanged - len(committed)) :])
        frame = BEGIN_FRAME + self._erase_from(unchanged, width) + above + below + END_FRAME
        self._live, self._live_width = shown, width
        self.write(frame)

    def line(self, *lines: Line) -> None:
        """Write lines that stay, and remove the live lines."""
        self.update(lines)

    def write(self, text: str) -> None:
        """Write text unchanged at the cursor; after the terminal is gone, do nothing."""
        if not text or self._is_gone:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._is_gone = True
            self._on_gone()

    def _leave_displaced_lines(self) -> None:
        """Forget the live lines if another program has written below them."""
        writes = self._foreign_writes()
        if writes != self._seen_foreign_writes:
            self._seen_foreign_writes = writes
            self._live = ()

    def _fitting(self, live: Sequence[Line], width: int) -> tuple[Line, ...]:
        """The last live lines that fit, wrapped here because terminals differ in where they wrap wide characters."""
        kept: list[Line] = []
        for line in reversed(live):
            kept[:0] = wrap(line, width) if line_width(line) > width else [line]
            if len(kept) >= self.height - 1:
                break
        return tuple(kept[-(self.height - 1) :])

    def _unchanged_count(self, committed: Sequence[Line], live: Sequence[Line], width: int) -> int:
        """How many lines from the top are on the screen already; the cursor's line is never one of them."""
        if width != self._live_width:
            return 0
        count = 0
        for old, new in zip(self._live[:-1], (*committed, *live)[:-1], strict=False):
            if old != new or (count < len(committed) and not _has_certain_width(new)):
                break
            count += 1
        return count

    def _painted_live(self, lines: Sequence[Line]) -> str:
        """Live lines that take one row each, even if the terminal finds one wider than we do.

        Such a line is cut off for now; it is written again, with wrapping, when it is committed.
        """
        text = "\n".join(self._painted(line) for line in lines)
        return text if all(_has_certain_width(line) for line in lines) else NO_WRAP + text + WRAP

    def _erase_from(self, index: int, width: int) -> str:
        """The sequence from the end of the live lines to the start of the one at `index` that erases all below it.

        After a change of width the rows are counted as the terminal has wrapped them again, if it does.
        """
        if not self._live:
            return ""
        up = sum(row_count(text_of(line), width) if self._rewraps else 1 for line in self._live[index:]) - 1
        up = min(up, self.height - 1)
        return "\r" + (f"\x1b[{up}A" if up else "") + "\x1b[J"

    def _painted(self, line: Line) -> str:
        return paint(line, colour=self.colour, links=self._links)

    def _measured_size(self) -> os.terminal_size:
        """The size that the terminal gives; COLUMNS and LINES, once exported, keep an earlier one."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return shutil.get_terminal_size()
        return size if size.columns and size.lines else shutil.get_terminal_size()


def _has_certain_width(line: Line) -> bool:
    """Whether all terminals agree on the line's width; they differ in emoji, combining marks and East Asian letters."""
    return text_of(line).isascii()
