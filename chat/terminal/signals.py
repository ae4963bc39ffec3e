"""Turn signals into facts the session can look at, and keep the terminal's modes. Knows no conversation."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BRACKETED_PASTE_ON, BRACKETED_PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"


class Leaving(BaseException):  # it is no error, and no `except Exception` may stop it
    """The program is to end now: SIGTERM, SIGHUP, or the terminal is gone."""


class Signals:
    """What has arrived: how often Ctrl+C was pressed during an answer, and whether the program is to end."""

    def __init__(self) -> None:
        self.presses = 0
        self.leaving: int | None = None
        self.is_hurried = False  # there is no time to wait for the engine
        self.on_leave: Callable[[], None] = lambda: None
        self._modes: Any = None  # the terminal's modes to return to
        self._is_answering = False

    @contextmanager
    def installed(self, *, hush: bool) -> Iterator[None]:
        """Listen while the block runs; afterwards handlers and terminal modes are as they were.

        Args:
            hush: keep keys that are typed between two prompts for the next one instead of showing them.
        """
        self._modes = _modes() if hush else None
        self._hush()
        handlers = {
            getattr(signal, name, None): handler
            for name, handler in (
                ("SIGINT", self._press),
                ("SIGTERM", self._leave),
                ("SIGHUP", self._leave),
                ("SIGTSTP", self._stop),
            )
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items() if number}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            _set_modes(self._modes)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count presses of Ctrl+C anew, and have pastes marked as between two prompts they are not."""
        self.presses = 0
        self._is_answering = True
        self._mark_pastes(True)
        try:
            yield
        finally:
            self._mark_pastes(False)
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

    def _stop(self, _number: int, _frame: object) -> None:
        """Ctrl+Z: hand the terminal back as it was, sleep, and take it again."""
        self._mark_pastes(False)
        _set_modes(self._modes)
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, before)
        self._hush()
        self._mark_pastes(True)

    def _hush(self) -> None:
        if self._modes is None:
            return
        import termios

        modes = _modes()
        if modes is not None:
            modes[0] &= ~termios.ICRNL  # so that Enter arrives at the next prompt as Enter
            modes[3] &= ~(termios.ECHO | termios.ICANON)
            _set_modes(modes)

    def _mark_pastes(self, on: bool) -> None:
        if self._is_answering and self._modes is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.write(BRACKETED_PASTE_ON if on else BRACKETED_PASTE_OFF)
                sys.stdout.flush()


def _modes() -> Any:
    try:
        import termios

        return termios.tcgetattr(sys.stdin.fileno())
    except (ImportError, OSError, ValueError, AttributeError, termios.error):
        return None


def _set_modes(modes: Any) -> None:
    if modes is None:
        return
    import termios

    with contextlib.suppress(OSError, ValueError, termios.error):
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, modes)
