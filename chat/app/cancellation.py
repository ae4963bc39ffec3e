"""Cancel the answers of one-shot runs and batches by Ctrl+C."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chat.core.backend import ChatBackend

    Cancellable = Callable[[Iterator[Any]], Iterator[Any]]


@contextmanager
def cancelling(backend: ChatBackend) -> Iterator[Cancellable]:
    """Let the first Ctrl+C cancel the answer and keep its text, and the second one end the program.

    Yields:
        A function that the backend's events, or a batch's requests, must pass through: it cancels again where the
        backend had not begun when Ctrl+C came.
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

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        backend.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield cancellable
    finally:
        signal.signal(signal.SIGINT, before)
