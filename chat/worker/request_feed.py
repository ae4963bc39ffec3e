"""The requests of a batch on their way to the engine child, as there is room for them. Knows positions, not processes.

They are taken in a thread of their own: where they come from may wait for the answers to those before.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chat.core.request import Request

AHEAD = 16  # requests that are on their way or being answered, at least


class RequestFeed:
    """What was taken and has no outcome yet; sent again to a child that takes the place of a dead one."""

    def __init__(
        self, requests: Iterable[Request], parallel: int | None, send: Callable[[dict[str, Any]], None]
    ) -> None:
        """Take nothing yet.

        Args:
            requests: are taken one by one, from another thread.
            parallel: how many are answered at a time.
            send: one message to the child; whether that lives is not asked.
        """
        self._requests = iter(requests)
        self._send = send
        self._room = threading.Semaphore(max(AHEAD, 3 * (parallel or 0)))
        self._lock = threading.Lock()
        self._number: int | None = None  # of the call they belong to
        self._open: dict[int, Request] = {}
        self._begun: set[int] = set()
        self._all_taken = False
        self._closed = False
        self.error: BaseException | None = None  # what taking them raised
        self._thread = threading.Thread(target=self._take, daemon=True)

    def send_to(self, number: int) -> None:
        """Send what is open, and from now on what is taken, to this call."""
        with self._lock:
            self._number = number
            for index, request in self._open.items():
                self._say(index=index, request=request)
            if self._all_taken:
                self._say()
        if not self._thread.is_alive() and not self._all_taken:
            self._thread.start()

    def note_begin(self, index: int) -> None:
        """A request is being answered."""
        self._begun.add(index)

    def settle(self, index: int) -> None:
        """A request has its outcome."""
        with self._lock:
            self._begun.discard(index)
            if self._open.pop(index, None) is not None:
                self._room.release()

    def pause(self) -> list[tuple[int, Request]]:
        """Send nothing until the next `send_to`; the requests that were being answered."""
        with self._lock:
            self._number = None
            begun, self._begun = sorted(self._begun), set()
            return [(index, self._open[index]) for index in begun]

    def left(self) -> list[int]:
        """The requests without an outcome."""
        with self._lock:
            return sorted(self._open)

    def close(self) -> None:
        """Take no more."""
        self._closed = True
        self._room.release()

    def _take(self) -> None:
        try:
            for index, request in enumerate(self._requests):
                self._room.acquire()
                if self._closed:
                    return
                with self._lock:
                    self._open[index] = request
                    self._say(index=index, request=request)
        except BaseException as error:  # raised again by who waits for the outcomes
            self.error = error
        with self._lock:
            self._all_taken = True
            self._say()

    def _say(self, **more: Any) -> None:
        if self._number is not None and not self._closed:
            self._send({"id": self._number, "call": "more", **more})
