"""The protocol of what reads the user's messages, and a reader of plain lines."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from chat.system.characters import without_escaped_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.system.environment import Environment

PROMPT = "> "
BLOCK_MARK = '"""'


@dataclass(frozen=True)
class Candidate:
    """A completion of the text before the cursor.

    Attributes:
        text: the text to insert.
        replaced: how many characters before the cursor it replaces.
        note: what it is.
    """

    text: str
    replaced: int
    note: str = ""


class LineReader(Protocol):
    """Reads messages and commands.

    Before it waits for input, and whenever `wake` is called meanwhile, it calls the session's event handler in the main
    thread. `read` raises what the handler raises.

    Attributes:
        unhandled_interrupts: how often Ctrl+C was pressed since the last message was sent.
    """

    unhandled_interrupts: int

    def read(self, prefill: str = "") -> str:
        """One message or command.

        Args:
            prefill: a text to edit.

        Raises:
            EOFError: the input has ended.
            KeyboardInterrupt: the user leaves by Ctrl+C.
        """

    def ask(self, question: str) -> str:
        """A line that answers a question of the program; what was typed before the question is dropped.

        Raises:
            EOFError: the input has ended, or Ctrl+D was pressed.
            KeyboardInterrupt: Ctrl+C was pressed.
        """

    def interrupt(self) -> None:
        """Handle the signal of Ctrl+C."""

    def use_vi(self, vi: bool) -> None:
        """Use vi keys, or emacs keys."""

    def wake(self) -> None:
        """Handle events now if `read` waits for input; may be called from any thread and from signal handlers."""

    def redraw(self) -> None:
        """Draw the prompt again, after the program was stopped by a signal."""


class PlainReader:
    """Reads lines of stdin, for a dumb terminal, a screen reader or a pipe."""

    def __init__(self, handle_events: Callable[[], None], environment: Environment, prompt: str = PROMPT) -> None:
        """Prepare to read.

        Args:
            handle_events: the session's event handler.
            environment: its stdin is read; prompts are written to its stdout.
            prompt: is written before each message.
        """
        self._prompt = prompt
        self.unhandled_interrupts = 0
        self._handle_events = handle_events
        self._environment = environment
        self._is_reading = False

    def read(self, prefill: str = "") -> str:
        """One line, or a block between three quotes.

        Raises:
            EOFError: the input has ended.
            KeyboardInterrupt: Ctrl+C was pressed twice.
        """
        if prefill:
            self._environment.print(prefill)
        try:
            text = self._line(self._prompt)
            while is_open_block(text):
                text += "\n" + self._line("")
        except EOFError:
            self._environment.print("")  # so that what follows begins on a new line
            raise
        except KeyboardInterrupt:  # the first one drops the line
            self._environment.print("\nCtrl+C again quits")
            text = self._line(self._prompt)
        return without_escaped_bytes(text)

    def ask(self, question: str) -> str:
        """A line that answers a question.

        Raises:
            EOFError: the input has ended.
            KeyboardInterrupt: Ctrl+C was pressed.
        """
        self._environment.drop_typed_ahead()
        try:
            return self._line(question)
        except (EOFError, KeyboardInterrupt):
            self._environment.print("")  # so that what follows begins on a new line
            raise

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt if a line is read, else count it."""
        if self._is_reading:
            raise KeyboardInterrupt
        self.unhandled_interrupts += 1

    def use_vi(self, vi: bool) -> None:
        """Do nothing: the terminal itself edits the line."""

    def wake(self) -> None:
        """Handle events in the middle of a line, if this is a signal handler; else the next line does it."""
        if self._is_reading and threading.current_thread() is threading.main_thread():
            self._handle_events()

    def redraw(self) -> None:
        """Do nothing: the terminal shows the line where it was."""

    def _line(self, prompt: str) -> str:
        self.unhandled_interrupts = 0
        self._is_reading = True
        try:
            self._handle_events()
            return self._environment.ask(prompt)
        finally:
            self._is_reading = False


def is_open_block(text: str) -> bool:
    """Whether a message begins with three quotes and does not end with three others."""
    stripped = text.strip()
    return stripped.startswith(BLOCK_MARK) and not (
        len(stripped) >= 2 * len(BLOCK_MARK) and stripped.endswith(BLOCK_MARK)
    )


def without_block_marks(text: str) -> str:
    """A message without the three quotes around it."""
    stripped = text.strip()
    if stripped.startswith(BLOCK_MARK) and not is_open_block(text):
        return stripped[len(BLOCK_MARK) : -len(BLOCK_MARK)].strip("\n")
    return text
