"""What the session needs of whoever reads a person's lines, and the plainest such reader. Knows no keys."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

PROMPT = "> "
BLOCK = '"""'


@dataclass(frozen=True)
class Candidate:
    """What may stand in place of the last `replaced` characters before the cursor, and what it is."""

    text: str
    replaced: int
    note: str = ""
    display: str = ""


class LineReader(Protocol):
    """Where a person's messages come from.

    Attributes:
        unheard: how often Ctrl+C came since the last message was sent.
    """

    unheard: int

    def read(self, prefill: str = "") -> str:
        """One message or command.

        Raises:
            EOFError: there is no more.
            KeyboardInterrupt: the person leaves.
        """

    def press(self) -> None:
        """Ctrl+C, as a signal."""

    def use_vi(self, vi: bool) -> None:
        """Choose vi or emacs keys."""

    def redraw(self) -> None:
        """Show what changed around the line; from any thread."""

    def abandon(self, reason: BaseException) -> None:
        """Make `read` raise `reason` now; from any thread and from signal handlers."""


class PlainReader:
    """Lines of stdin, for a dumb terminal, a screen reader or a pipe."""

    def __init__(self, prompt: str = PROMPT) -> None:
        self._prompt = prompt
        self._reason: BaseException | None = None
        self._is_reading = False
        self.unheard = 0

    def read(self, prefill: str = "") -> str:
        """One line, or the lines of a block of three quotes.

        Raises:
            EOFError: there is no more.
            KeyboardInterrupt: Ctrl+C.
        """
        if prefill:
            print(prefill)
        try:
            text = self._line(self._prompt)
            while is_open_block(text):
                text += "\n" + self._line("")
        except EOFError:
            print()  # so that whatever comes next stands on a line of its own
            raise
        except KeyboardInterrupt:  # drops the line; at once again, it leaves
            print("\nCtrl+C again leaves")
            text = self._line(self._prompt)
        return sendable(text)

    def _line(self, prompt: str) -> str:
        self.unheard = 0
        self._is_reading = True
        try:
            if self._reason is not None:
                raise self._reason
            return input(prompt)
        finally:
            self._is_reading = False

    def press(self) -> None:
        """Raise in the middle of a line."""
        if self._is_reading:
            raise KeyboardInterrupt
        self.unheard += 1

    def use_vi(self, vi: bool) -> None:
        """The terminal itself edits the line."""

    def redraw(self) -> None:
        """Nothing stands around the line."""

    def abandon(self, reason: BaseException) -> None:
        """Raise `reason` in the middle of a line, or when the next begins: an answer is stored first."""
        self._reason = reason
        if self._is_reading and threading.current_thread() is threading.main_thread():
            raise reason


def is_open_block(text: str) -> bool:
    """Whether a message that begins with three quotes has no three quotes at its end yet."""
    bare = text.strip()
    return bare.startswith(BLOCK) and not (len(bare) >= 2 * len(BLOCK) and bare.endswith(BLOCK))


def without_block_marks(text: str) -> str:
    """A message without the three quotes around it."""
    bare = text.strip()
    if bare.startswith(BLOCK) and not is_open_block(text):
        return bare[len(BLOCK) : -len(BLOCK)].strip("\n")
    return text


def sendable(text: str) -> str:
    """The text without lone surrogates, which stand for typed bytes that are no UTF-8."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")
