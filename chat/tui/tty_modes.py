"""Keep the terminal's modes: quiet between two prompts; as they were at the end, and while Ctrl+Z stops the program.

Knows no prompts, and of signals only the one that stops.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chat.system.interrupts import signal_handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BRACKETED_PASTE_ON, BRACKETED_PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
ENTER_AND_END = bytes.maketrans(b"\n\0", b"\r\x04")


def is_live() -> bool:
    """Whether stdout is a terminal that can be redrawn."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")


def rewraps() -> bool:
    """Whether the terminal wraps the lines it shows again when its width changes; xterm alone cuts them."""
    return not ("XTERM_VERSION" in os.environ and os.environ.get("TERM", "").startswith("xterm"))


class TtyModes:
    """The modes of the terminal that keys come from; nothing is done where there is none, or where it is dumb."""

    def __init__(self) -> None:
        self._before: Any = None
        self.early_keys = ""  # that were typed before the terminal was taken
        self.on_return: Callable[[], None] = lambda: None  # after Ctrl+Z: others wrote to the terminal meanwhile

    @contextmanager
    def raw_between_prompts(self) -> Iterator[TtyModes]:
        """Keep keys that are typed while nobody reads them for the next prompt, instead of showing them.

        A session begins with it, as early as it can: whoever starts a program types on.
        """
        self._before = _modes() if is_live() and sys.stdin.isatty() else None
        with signal_handlers({"SIGTSTP": self._stop, "SIGQUIT": self._quit}):
            try:
                self.hush()
                self.early_keys = _waiting_keys() if self._before is not None else ""
                yield self
            finally:
                self._give_back_undisturbed()
                self._before = None

    @contextmanager
    def restored(self) -> Iterator[None]:
        """The terminal as it was before, while the block runs."""
        self.give_back()
        try:
            yield
        finally:
            self.hush()

    def _give_back_undisturbed(self) -> None:
        """Give the terminal back though signals arrive: each would end this by an exception, and the program ends."""
        before: dict[int, Any] = {}
        try:
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                if number := getattr(signal, name, None):
                    before[number] = signal.signal(number, signal.SIG_IGN)
        finally:
            self.give_back()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: object) -> None:
        """Ctrl+Z: hand the terminal back as it was, sleep, and take it again."""
        present = _modes() if self._before is not None else None
        self.give_back()
        before = signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, before)
        _set_modes(present)
        self.mark_pastes(present != self._before)  # else it was lent
        self.on_return()

    def _quit(self, number: int, _frame: object) -> None:
        """Ctrl+Backslash: hand the terminal back as it was, and end at once, as asked."""
        self.give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def hush(self) -> None:
        """Take the terminal."""
        modes = _modes() if self._before is not None else None
        if modes is None:
            return
        import termios

        modes[0] &= ~termios.ICRNL  # so that Enter arrives at the next prompt as Enter
        modes[3] &= ~(termios.ECHO | termios.ICANON)
        _set_modes(modes)
        self.mark_pastes(True)

    def give_back(self) -> None:
        """Put the modes back that were there before."""
        self.mark_pastes(False)
        _set_modes(self._before)

    def mark_pastes(self, on: bool) -> None:
        """Have the terminal mark pastes: prompt_toolkit does so during prompts only."""
        if self._before is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.write(BRACKETED_PASTE_ON if on else BRACKETED_PASTE_OFF)
                sys.stdout.flush()


def _modes() -> Any:
    try:
        import termios
    except ImportError:
        return None
    try:
        return termios.tcgetattr(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError, termios.error):
        return None


def _waiting_keys() -> str:
    """Keys that the terminal has already, as they would arrive now: it had put its own marks for Enter and Ctrl+D."""
    import fcntl
    import termios

    with contextlib.suppress(OSError):
        descriptor = sys.stdin.fileno()
        count = int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
        if count:
            return os.read(descriptor, count).translate(ENTER_AND_END).decode("utf-8", "replace")
    return ""


def _set_modes(modes: Any) -> None:
    if modes is None:
        return
    import termios

    with contextlib.suppress(OSError, ValueError, termios.error):
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, modes)
