"""Send the requests of a batch to the child, as many as it can take, and remember those without an outcome.

They are taken in a thread of their own: their source may wait for the answers to earlier ones.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chat.core.request import Request

MOST_OPEN = 16  # requests that are on their way or being answered


class RequestFeed:
    """The requests that were taken and have no outcome yet; sent again to a child that replaces a dead one.

    Attributes:
        error: what taking the requests raised.
    """

    def __init__(
        self, requests: Iterable[Request], parallel: int | None, send: Callable[[dict[str, Any]], None]
    ) -> None:
        """Take nothing yet.

        Args:
            requests: are taken one by one, from another thread.
            parallel: how many are answered at a time.
            send: sends one message to the child, and ignores a dead one.
        """
        self._requests = iter(requests)
        self._send = send
        self._free = threading.Semaphore(max(MOST_OPEN, 3 * (parallel or 0)))
        self._lock = threading.Lock()
        self._number: int | None = None  # of the call that the requests belong to
        self._open: dict[int, Request] = {}
        self._started: set[int] = set()
        self._all_taken = False
        self._closed = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._take, daemon=True)

    def send_to(self, number: int) -> None:
        """Send what is open, and from now on what is taken, to this call."""
        with self._lock:
            self._number = number
            for index, request in self._open.items():
                self._send_more(index=index, request=request)
            if self._all_taken:
                self._send_more()
        if not self._thread.is_alive() and not self._all_taken:
            self._thread.start()

    def mark_started(self, index: int) -> None:
        """Note that a request is being answered."""
        self._started.add(index)

    def mark_done(self, index: int) -> None:
        """Note that a request has its outcome."""
        with self._lock:
            self._started.discard(index)
            if self._open.pop(index, None) is not None:
                self._free.release()

    def pause(self) -> list[tuple[int, Request]]:
        """Send nothing until the next `send_to`.

        Returns:
            The requests that were being answered.
        """
        with self._lock:
            self._number = None
            started, self._started = sorted(self._started), set()
            return [(index, self._open[index]) for index in started]

    def remaining(self) -> list[int]:
        """The requests without an outcome."""
        with self._lock:
            return sorted(self._open)

    def close(self) -> None:
        """Take no more requests."""
        self._closed = True
        self._free.release()

    def _take(self) -> None:
        try:
            for index, request in enumerate(self._requests):
                self._free.acquire()
                if self._closed:
                    return
                with self._lock:
                    self._open[index] = request
                    self._send_more(index=index, request=request)
        except BaseException as error:  # raised again where the outcomes are awaited
            self.error = error
        with self._lock:
            self._all_taken = True
            self._send_more()

    def _send_more(self, **fields: Any) -> None:
        """Send a request, or, without fields, that there are no more."""
        if self._number is not None and not self._closed:
            self._send({"id": self._number, "call": "more", **fields})
