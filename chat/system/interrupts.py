"""Say what Ctrl+C does where no room decides it. Knows signals, not what is to be put away."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys

from chat.errors import ExitCode


def exit_on_interrupt() -> None:
    """End quietly with 130, whatever is going on: for a program that has nothing to put away yet, or any more.

    An exception would show a traceback from the middle of an import or of the interpreter's end.
    """
    if _is_heard():
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(ExitCode.INTERRUPTED))


def ignore_interrupts_at_exit() -> None:
    """Ignore it at the very end: while Python itself ends it has no handlers any more, and would die of it."""
    if _is_heard():
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def raise_on_interrupt() -> None:
    """Raise KeyboardInterrupt, so that whatever is held is let go on the way out."""
    if _is_heard():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def die_by_interrupt() -> None:
    """End with 130 after Ctrl+C.

    Python itself would end by the signal where the exception passed through code that was compiled from a text, as an
    import of dataclasses does (CPython's `unhandled_keyboard_interrupt`), although it was caught.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(ExitCode.INTERRUPTED)


def _is_heard() -> bool:
    """Whether it was not ignored from the start, as in the background of a shell without job control."""
    return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
