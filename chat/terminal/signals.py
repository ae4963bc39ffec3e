"""Turn signals into facts the session can look at. Knows no conversation."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chat.ground.handlers import handling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from chat.terminal.modes import Modes


class Leaving(BaseException):  # it is no error, and no `except Exception` may stop it
    """The program is to end now: SIGTERM, SIGHUP, or the terminal is gone."""


class Signals:
    """What has arrived: how often Ctrl+C was pressed during an answer, and whether the program is to end."""

    def __init__(self, modes: Modes) -> None:
        """Listen for a program that holds the terminal by `modes`."""
        self.presses = 0
        self.leaving: int | None = None
        self.is_hurried = False  # there is no time to wait for the engine
        self.on_leave: Callable[[], None] = lambda: None
        self.modes = modes
        self._is_answering = False

    def installed(self) -> AbstractContextManager[None]:
        """Listen while a block runs; afterwards handlers are as they were."""
        return handling({"SIGINT": self._press, "SIGTERM": self._leave, "SIGHUP": self._leave})

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count presses of Ctrl+C anew, and have pastes marked as between two prompts they are not."""
        self.presses = 0
        self._is_answering = True
        self.modes.mark_pastes(True)
        try:
            yield
        finally:
            self.modes.mark_pastes(False)
            self._is_answering = False

    def lose(self) -> None:
        """The terminal is gone: end as after a hangup."""
        self.leaving = self.leaving or signal.SIGHUP
        self.is_hurried = True

    def _press(self, _number: int, _frame: object) -> None:
        self.presses += 1
        if not self._is_answering:
            raise KeyboardInterrupt

    def _leave(self, number: int, _frame: object) -> None:
        self.leaving = number
        self.is_hurried = True
        self.on_leave()
