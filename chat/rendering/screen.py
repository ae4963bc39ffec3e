"""Write lines to a terminal and redraw the last few in place. Knows columns and escape sequences, not what lines say.

What is committed is written once and stays in the scrollback; what is live is redrawn from its first changed line on.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, TextIO

from chat.rendering.styled_text import Line, line_width, paint, row_count, text_of, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BEGIN_FRAME, END_FRAME = "\x1b[?2026h", "\x1b[?2026l"  # terminals that know it show a frame at once, others ignore it
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"


class Screen:
    """A stream that lines are written to, and what is live on it.

    `is_live` is false for a file, a pipe and a dumb terminal: there only committed lines are written, without escapes.
    `rewraps` says whether the terminal wraps what it shows again when its width changes, which nearly all do.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        is_live: bool,
        colour: bool,
        rewraps: bool = True,
        size: Callable[[], os.terminal_size] | None = None,
        on_gone: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = stream
        self.is_live = is_live
        self.colour = colour
        self._rewraps = rewraps
        self._size = size or self._measured
        self._on_gone = on_gone
        self._is_gone = False
        self._shown: tuple[Line, ...] = ()
        self._column_count = 0  # when `_shown` was drawn

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
        """Columns and rows, as the terminal has them now."""
        return self._size()

    @property
    def is_stale(self) -> bool:
        """Whether the terminal has another width than when the live lines were drawn."""
        return bool(self._shown) and self._column_count != self.width

    def update(self, committed: Sequence[Line] = (), live: Sequence[Line] = ()) -> None:
        """Write `committed` for good above `live`, which takes the place of what was live before.

        Of live lines only as many as fit the screen are shown, the last ones.
        """
        if not self.is_live:
            self.write("".join(text_of(line).rstrip() + "\n" for line in committed))
            return
        width = self.width
        kept = self._fitting(live, width)
        if not committed and kept == self._shown and width == self._column_count:
            return
        same = self._unchanged(committed, kept, width)
        above = "".join(self._painted(line) + "\n" for line in committed[same:])
        below = self._unwrapped(kept[max(0, same - len(committed)) :])
        frame = BEGIN_FRAME + self._back_to(same, width) + above + below + END_FRAME
        self._shown, self._column_count = kept, width
        self.write(frame)

    def leave(self) -> None:
        """Let what is live stand where it is: others wrote below it, and the cursor is no longer at its end."""
        self._shown = ()

    def line(self, *lines: Line) -> None:
        """Write lines for good; what was live goes."""
        self.update(lines)

    def write(self, text: str) -> None:
        """Write text as it is, where the cursor stands; a terminal that is gone is told once and then left alone."""
        if not text or self._is_gone:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._is_gone = True
            self._on_gone()

    def _fitting(self, live: Sequence[Line], width: int) -> tuple[Line, ...]:
        """The last live lines that fit, folded by us: terminals differ in where they wrap wide characters."""
        kept: list[Line] = []
        for line in reversed(live):
            kept[:0] = wrap(line, width) if line_width(line) > width else [line]
            if len(kept) >= self.height - 1:
                break
        return tuple(kept[-(self.height - 1) :])

    def _unchanged(self, committed: Sequence[Line], kept: Sequence[Line], width: int) -> int:
        """How many lines from the top stand on the screen already; the last one never counts, the cursor is there."""
        if width != self._column_count:
            return 0
        same = 0
        for old, new in zip(self._shown[:-1], (*committed, *kept)[:-1], strict=False):
            if old != new or (same < len(committed) and not _is_sure(new)):
                break
            same += 1
        return same

    def _unwrapped(self, lines: Sequence[Line]) -> str:
        """Live lines, of which each takes one row even where the terminal finds it wider than we do.

        It is cut off there for now, and written again to be wrapped once it is committed.
        """
        text = "\n".join(self._painted(line) for line in lines)
        return text if all(_is_sure(line) for line in lines) else NO_WRAP + text + WRAP

    def _back_to(self, index: int, width: int) -> str:
        """From the end of the live lines to the start of the one at `index`, with all below it erased.

        After a change of width the rows are counted as the terminal wraps them again, if it does.
        """
        if not self._shown:
            return ""
        up = sum(row_count(text_of(line), width) if self._rewraps else 1 for line in self._shown[index:]) - 1
        up = min(up, self.height - 1)
        return "\r" + (f"\x1b[{up}A" if up else "") + "\x1b[J"

    def _painted(self, line: Line) -> str:
        return paint(line, colour=self.colour)

    def _measured(self) -> os.terminal_size:
        """Asked of the terminal itself: COLUMNS and LINES, once exported, keep the size that it had then."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return shutil.get_terminal_size()
        return size if size.columns and size.lines else shutil.get_terminal_size()


def _is_sure(line: Line) -> bool:
    """Whether every terminal finds the line as wide as we do: they differ in emoji, marks and East Asian letters."""
    return text_of(line).isascii()
