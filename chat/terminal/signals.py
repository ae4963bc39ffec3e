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
        self.on_leave: Callable[[], None] = lambda: None
        self._quiet: Any = None  # the terminal's modes to return to, while typed keys are not shown

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listen while the block runs; afterwards handlers and terminal modes are as they were."""
        modes = _modes()
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
            _set_modes(modes)

    @contextmanager
    def quiet_keys(self) -> Iterator[None]:
        """Keep typed keys for the next prompt instead of showing them, while an answer is written."""
        self.presses = 0
        self._quiet = _modes()
        self._hush()
        try:
            yield
        finally:
            self._unhush()
            self._quiet = None

    def lose(self) -> None:
        """The terminal is gone: end as after a hangup."""
        self.leaving = self.leaving or signal.SIGHUP

    def _press(self, _number: int, _frame: object) -> None:
        self.presses += 1

    def _leave(self, number: int, _frame: object) -> None:
        self.leaving = number
        self.on_leave()

    def _stop(self, _number: int, _frame: object) -> None:
        """Ctrl+Z: hand the terminal back as it was, sleep, and take it again."""
        self._unhush()
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, before)
        self._hush()

    def _hush(self) -> None:
        if self._quiet is None:
            return
        import termios

        modes = _modes()
        modes[0] &= ~termios.ICRNL  # so that Enter arrives at the next prompt as Enter
        modes[3] &= ~(termios.ECHO | termios.ICANON)
        _set_modes(modes)
        _write(BRACKETED_PASTE_ON)

    def _unhush(self) -> None:
        if self._quiet is not None:
            _write(BRACKETED_PASTE_OFF)
            _set_modes(self._quiet)


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


def _write(text: str) -> None:
    if os.environ.get("TERM", "dumb") != "dumb":
        with contextlib.suppress(OSError, ValueError):
            if sys.stdout.isatty():
                sys.stdout.write(text)
                sys.stdout.flush()
