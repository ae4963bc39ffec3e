"""Cancel the answers of one-shot runs and batches by Ctrl+C."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chat.system.interrupts import signal_handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chat.core.backend import ChatBackend

    Cancellable = Callable[[Iterator[Any]], Iterator[Any]]


@contextmanager
def cancelling(backend: ChatBackend) -> Iterator[Cancellable]:
    """Cancel the answer at the first Ctrl+C and keep its text; end the program at the second.

    Yields:
        A function that the backend's events, or a batch's requests, must pass through: it cancels again if the backend
        had not begun when Ctrl+C came.
    """
    pressed = False

    def cancellable(items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if pressed:
                backend.cancel()
            yield item

    if threading.current_thread() is not threading.main_thread():
        yield cancellable
        return

    def cancel_or_raise(_number: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        backend.cancel()

    with signal_handlers({"SIGINT": cancel_or_raise}):
        yield cancellable
