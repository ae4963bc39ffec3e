"""The terminal's modes: no echo between prompts, and the original modes at the end and while Ctrl+Z stops us."""

from __future__ import annotations

import contextlib
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chat import platform
from chat.system.environment import Environment
from chat.system.interrupts import signal_handlers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BRACKETED_PASTE_ON, BRACKETED_PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
PASTE_MARKING = ("xterm", "tmux", "rxvt", "foot", "alacritty", "wezterm", "contour", "st-", "konsole", "gnome", "vte")
ENTER_AND_END = bytes.maketrans(b"\n\0", b"\r\x04")  # what the terminal makes of Enter and Ctrl+D in its own modes


def rewraps(variables: Mapping[str, str]) -> bool:
    """Whether the terminal wraps its lines again when its width changes; xterm cuts them instead.

    Args:
        variables: the environment variables.
    """
    return not ("XTERM_VERSION" in variables and variables.get("TERM", "").startswith("xterm"))


def marks_pastes(variables: Mapping[str, str]) -> bool:
    """Whether the terminal marks pastes when it is asked to, so that an Enter without marks was typed.

    Nearly all do that are in use today; consoles without a window system and GNU screen before version 5 do not.

    Args:
        variables: the environment variables.
    """
    return "TMUX" in variables or variables.get("TERM", "").startswith(PASTE_MARKING)


class TtyModes:
    """The modes of the terminal that keys come from; without one, or with a dumb one, nothing is changed.

    Attributes:
        early_keys: keys that were typed before `raw_between_prompts` began.
        stops: how often Ctrl+Z has stopped the program, so that other programs wrote to the terminal.
    """

    def __init__(self, environment: Environment | None = None) -> None:
        """Change nothing yet.

        Args:
            environment: the streams of the terminal; the process's own by default.
        """
        self._environment = environment or Environment()
        self._original: Any = None  # as termios gives them; None unless they are changed
        self._is_raw = False  # no echo, between prompts
        self.early_keys = ""
        self.stops = 0

    @contextmanager
    def raw_between_prompts(self) -> Iterator[TtyModes]:
        """Hold back what is typed between prompts for the next one, instead of echoing it.

        A session begins with this as early as it can, because users type on while a program starts.
        """
        environment = self._environment
        if environment.can_redraw(environment.stdout) and environment.stdin.isatty():
            self._original = self._modes()
        with signal_handlers({"SIGTSTP": self._stop, "SIGQUIT": self._quit}):
            try:
                self._set_raw()
                self.early_keys = self._waiting_keys() if self._original is not None else ""
                yield self
            finally:
                self._restore_uninterrupted()
                self._original = None

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Use the terminal's original modes while the block runs."""
        self._restore()
        try:
            yield
        finally:
            self._set_raw()

    def set_again(self) -> None:
        """Set the modes between prompts again, after a stop that no handler saw: a shell sets its own meanwhile."""
        if self._is_raw:
            self._set_raw()

    def mark_pastes(self, is_on: bool) -> None:
        """Have the terminal mark pastes, or not; prompt_toolkit asks for that only during a prompt."""
        if self._original is not None:
            with contextlib.suppress(OSError, ValueError):
                self._environment.stdout.write(BRACKETED_PASTE_ON if is_on else BRACKETED_PASTE_OFF)
                self._environment.stdout.flush()

    def _set_raw(self) -> None:
        modes = self._modes() if self._original is not None else None
        if modes is None:
            return
        self._is_raw = True
        self._set_modes(platform.raw_modes(modes))
        self.mark_pastes(True)

    def _restore(self) -> None:
        self._is_raw = False
        self.mark_pastes(False)
        self._set_modes(self._original)

    def _restore_uninterrupted(self) -> None:
        """Restore the modes with signals ignored: each would end this by an exception, and the program ends anyway."""
        handlers: dict[int, Any] = {}
        try:
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                if number := getattr(signal, name, None):
                    handlers[number] = signal.signal(number, signal.SIG_IGN)
        finally:
            self._restore()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: object) -> None:
        """Ctrl+Z: restore the original modes, stop, and set the present modes again after `fg`."""
        present, is_raw = self._modes() if self._original is not None else None, self._is_raw
        self._restore()
        handler = signal.signal(number, signal.SIG_DFL)
        platform.send_signal(number)
        signal.signal(number, handler)
        self._set_modes(present)
        self._is_raw = is_raw
        self.mark_pastes(present != self._original)  # equal inside of `restored`
        self.stops += 1

    def _quit(self, number: int, _frame: object) -> None:
        """Ctrl+Backslash: restore the original modes, and end at once."""
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        platform.send_signal(number)

    def _modes(self) -> Any:
        """The present modes as termios gives them; None without a terminal."""
        try:
            return platform.terminal_modes(self._environment.stdin.fileno())
        except (OSError, ValueError, AttributeError):
            return None

    def _set_modes(self, modes: Any) -> None:
        if modes is not None:
            with contextlib.suppress(OSError, ValueError):
                platform.set_terminal_modes(self._environment.stdin.fileno(), modes)

    def _waiting_keys(self) -> str:
        """Keys that wait in the terminal already; Enter and Ctrl+D are translated back to what they send now."""
        with contextlib.suppress(OSError):
            keys = platform.waiting_bytes(self._environment.stdin.fileno())
            return keys.translate(ENTER_AND_END).decode("utf-8", "replace")
        return ""
