"""Signal handlers of a session: they count Ctrl+C, and note that the program has to end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from chat import platform
from chat.system.interrupts import SIGNAL_CODES, signal_handlers
from chat.tui.event_queue import SessionEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from chat.tui.event_queue import EventQueue
    from chat.tui.tty_modes import TtyModes


class Terminated(SystemExit):  # not an Exception: no `except Exception` may stop it
    """The program ends now: SIGTERM, SIGHUP, or the terminal is gone.

    One that a handler raises has the signal in its code, from which `repeat_lost_signals` knows it.
    """


class Signals:
    """The signals that have arrived.

    Attributes:
        presses: how often Ctrl+C was pressed for the current answer.
        ending_signal: the number of the signal that ends the program; None while it runs.
        is_hurried: whether the program ends without waiting for the engine.
        modes: the terminal's modes.
    """

    def __init__(self, modes: TtyModes, events: EventQueue) -> None:
        """Prepare to handle signals.

        Args:
            modes: the terminal's modes.
            events: gets an event for a signal that ends the program.
        """
        self.presses = 0
        self.ending_signal: int | None = None
        self.is_hurried = False
        self.modes = modes
        self._events = events
        self._on_ctrl_c: Callable[[], None] = _raise_interrupt
        self._raises = False

    def installed(self) -> AbstractContextManager[None]:
        """Handle signals while the block runs, and restore the earlier handlers afterwards."""
        handlers = {"SIGINT": self._interrupt, "SIGTERM": self._terminate, "SIGHUP": self._terminate}
        return signal_handlers({**handlers, "SIGBREAK": self._terminate, "SIGCONT": self._continue})

    @contextmanager
    def calling_on_ctrl_c(self, action: Callable[[], None]) -> Iterator[None]:
        """Call `action` on Ctrl+C while the block runs."""
        before, self._on_ctrl_c = self._on_ctrl_c, action
        try:
            yield
        finally:
            self._on_ctrl_c = before

    @contextmanager
    def raising_on_ctrl_c(self) -> Iterator[None]:
        """Raise KeyboardInterrupt on Ctrl+C while the block runs, as outside of every other block.

        A signal that ends the program raises `Terminated`, also one that came before: what the block waits for may
        never come.
        """
        self._raises = True
        try:
            with self.calling_on_ctrl_c(_raise_interrupt):
                if self.ending_signal:  # it came before the block
                    raise Terminated
                yield
        finally:
            self._raises = False

    @contextmanager
    def counting_ctrl_c(self) -> Iterator[None]:
        """Count Ctrl+C in `presses` while the block runs, for a wait that looks at it.

        Pastes are marked meanwhile: prompt_toolkit asks the terminal for that only during a prompt.
        """
        with self.calling_on_ctrl_c(self._count):
            self.modes.mark_pastes(True)
            try:
                yield
            finally:
                self.modes.mark_pastes(False)

    def lose_terminal(self) -> None:
        """End as after a hangup, because the terminal is gone."""
        self.ending_signal = self.ending_signal or platform.HANGUP
        self.is_hurried = True

    def _interrupt(self, _number: int, _frame: object) -> None:
        self._on_ctrl_c()

    def _count(self) -> None:
        self.presses += 1

    def _terminate(self, number: int, _frame: object) -> None:
        self.ending_signal = number
        self.is_hurried = True
        self._events.post(SessionEvent.TERMINATED)
        if self._raises and self._on_ctrl_c is _raise_interrupt:
            raise Terminated(SIGNAL_CODES + number)

    def _continue(self, _number: int, _frame: object) -> None:
        if self._on_ctrl_c in (_raise_interrupt, self._count):  # between prompts; a prompt has modes of its own
            self.modes.set_again()
        self._events.post(SessionEvent.CONTINUED)


def _raise_interrupt() -> None:
    raise KeyboardInterrupt
