"""Keep a line of status up to date below what a one shot says, by a thread of its own. Knows terminals, not answers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chat.rendering.wait_text import WaitState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.core.events import Event
    from chat.rendering.screen import Screen

TICK_SECONDS = 0.25


class WaitIndicator:
    """What one waits for, shown from when it takes long until `end`."""

    def __init__(self, screen: Screen, waiting: WaitState | None = None) -> None:
        """Begin to wait, as `waiting` says it."""
        self._screen = screen
        self._waiting = waiting or WaitState("the model")
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        threading.Thread(target=self._tick, daemon=True, name="status").start()

    def hear(self, event: Event) -> None:
        """Something came."""
        with self._lock:
            self._waiting.hear(event)

    @contextmanager
    def away(self) -> Iterator[None]:
        """The line is away while the block writes."""
        with self._lock:
            self._screen.update()
            yield

    def end(self) -> None:
        """Take the line away for good."""
        self._is_over.set()
        with self._lock:
            self._screen.update()

    def _tick(self) -> None:
        while not self._is_over.wait(TICK_SECONDS):
            with self._lock:
                if not self._is_over.is_set():
                    self._screen.update((), self._waiting.lines(self._screen.width))
