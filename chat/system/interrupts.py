"""Signal handlers: what Ctrl+C does at the start and the end of the program, and handlers for the time of a block."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from chat import platform
from chat.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SIGNAL_CODES = 128  # before the number of a signal, in the code of a program that it ends
REPEAT_SECONDS = 0.02


def exit_on_interrupt() -> None:
    """End quietly with 130 on Ctrl+C: for a program that has nothing to clean up yet, or nothing any more.

    An exception would show a traceback from the middle of an import or of the interpreter's end.
    """
    if _is_handled():
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(ExitCode.INTERRUPTED))


def ignore_interrupts_at_exit() -> None:
    """Ignore Ctrl+C while the interpreter ends: it has removed its handlers then, and the signal would kill it."""
    if _is_handled():
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def raise_on_interrupt() -> None:
    """Raise KeyboardInterrupt on Ctrl+C, so that resources are released on the way out."""
    if _is_handled():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def repeat_lost_signals() -> None:
    """Send a signal again whose exception Python has ignored.

    It does so where the handler runs in the callback of a weak reference, which each import has, or in a `__del__`.
    """
    report = sys.unraisablehook

    def repeat(unraisable: sys.UnraisableHookArgs) -> None:
        number = _signal_of(unraisable.exc_value)
        if number is None:
            report(unraisable)
            return
        timer = threading.Timer(REPEAT_SECONDS, platform.send_signal, (number,))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = repeat


def _signal_of(error: BaseException | None) -> int | None:
    """The signal for which a handler has raised an exception; None for any other."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > SIGNAL_CODES:
        return error.code - SIGNAL_CODES
    return None


def is_lost_interrupt(error: Exception) -> bool:
    """Whether an error stands for a KeyboardInterrupt that CPython lost.

    Where a signal's handler raises in the middle of `from MODULE import NAME`, CPython 3.11 raises an ImportError in
    its place and has no message for it (`import_from`, `PyErr_SetImportErrorSubclass`).
    """
    return isinstance(error, TypeError) and error.args == ("expected a message argument",)


def die_by_interrupt() -> None:
    """End with 130 after Ctrl+C.

    Python itself would end by the signal if the exception passed through code that was compiled from a text, as an
    import of dataclasses does (CPython's `unhandled_keyboard_interrupt`), although it was caught.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(ExitCode.INTERRUPTED)


@contextmanager
def signal_handlers(handlers: Mapping[str, Any]) -> Iterator[None]:
    """Handle signals while the block runs, and restore the earlier handlers afterwards.

    Args:
        handlers: handlers by the names of their signals; signals that the system lacks are left out.
    """
    numbers = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_handled() -> bool:
    """Whether SIGINT was not ignored from the start, as in the background of a shell without job control."""
    return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
