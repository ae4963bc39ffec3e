"""Events for the session's main thread: other threads and signal handlers post them, the repl takes them."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class SessionEvent(Enum):
    """What happened outside the main thread; the details are in the object that posted it."""

    LOAD_PROGRESSED = auto()
    LOAD_ENDED = auto()  # the model is ready, or cannot be used
    TERMINATED = auto()  # SIGTERM or SIGHUP
    CONTINUED = auto()  # SIGCONT: the program was stopped, and others may have written to the terminal


class EventQueue:
    """A queue that any thread and any signal handler may post to, and that only the main thread takes from."""

    def __init__(self) -> None:
        self._events: deque[SessionEvent] = deque()
        self._wake: Callable[[], None] = lambda: None

    def post(self, event: SessionEvent) -> None:
        """Add an event, and wake the reader that waits for input."""
        self._events.append(event)
        self._wake()

    def take(self) -> Iterator[SessionEvent]:
        """Remove and yield the events, the oldest first."""
        while True:
            try:
                event = self._events.popleft()
            except IndexError:
                return
            yield event

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` after each post while the block runs; it has to be safe in any thread and signal handler."""
        self._wake = wake
        try:
            yield
        finally:
            self._wake = lambda: None
