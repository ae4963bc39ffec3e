"""Turn signals into facts the session can look at. Knows no conversation."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chat.system.interrupts import signal_handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from chat.tui.tty_modes import TtyModes


class Leaving(BaseException):  # it is no error, and no `except Exception` may stop it
    """The program is to end now: SIGTERM, SIGHUP, or the terminal is gone."""


class Signals:
    """What has arrived: how often Ctrl+C was pressed during an answer, and whether the program is to end."""

    def __init__(self, modes: TtyModes) -> None:
        """Listen for a program that holds the terminal by `modes`."""
        self.presses = 0  # of Ctrl+C that the answer is to obey
        self.leaving: int | None = None
        self.is_hurried = False  # there is no time to wait for the engine
        self.on_leave: Callable[[], None] = lambda: None
        self.modes = modes
        self._on_press: Callable[[], None] = _interrupt

    def installed(self) -> AbstractContextManager[None]:
        """Listen while a block runs; afterwards handlers are as they were."""
        return signal_handlers({"SIGINT": self._press, "SIGTERM": self._leave, "SIGHUP": self._leave})

    @contextmanager
    def pressing(self, action: Callable[[], None]) -> Iterator[None]:
        """Do something else at Ctrl+C while the block runs."""
        before, self._on_press = self._on_press, action
        try:
            yield
        finally:
            self._on_press = before

    def interrupting(self) -> AbstractContextManager[None]:
        """Raise KeyboardInterrupt at Ctrl+C while a block runs, as is done where nothing else was said."""
        return self.pressing(_interrupt)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count presses of Ctrl+C, and have pastes marked as between two prompts they are not."""
        with self.pressing(self._count):
            self.modes.mark_pastes(True)
            try:
                yield
            finally:
                self.modes.mark_pastes(False)

    def lose(self) -> None:
        """The terminal is gone: end as after a hangup."""
        self.leaving = self.leaving or signal.SIGHUP
        self.is_hurried = True

    def _press(self, _number: int, _frame: object) -> None:
        self._on_press()

    def _count(self) -> None:
        self.presses += 1

    def _leave(self, number: int, _frame: object) -> None:
        self.leaving = number
        self.is_hurried = True
        self.on_leave()


def _interrupt() -> None:
    raise KeyboardInterrupt
