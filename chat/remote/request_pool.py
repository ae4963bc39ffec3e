"""Many requests to one server at a time, which go on after it was gone for a while."""

from __future__ import annotations

import random
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from chat.core.events import Completion, Notice, Seconds, TokenCounts
from chat.errors import ChatError, ModelError, as_chat_error
from chat.remote.server_errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chat.core.events import Event
    from chat.core.request import Request

    Outcome: TypeAlias = Completion | ChatError

PARALLEL = 8  # servers batch what comes together; llama-server's and vLLM's queues take more than they compute at once
LONGEST_OUTAGE_SECONDS = 120.0  # a server that loads a large model is back by then
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 8.0
STOPPED_SECONDS = 5.0  # that a wait lasts too long: the program was stopped meanwhile, as by Ctrl+Z
INTERRUPTED = Completion("", "interrupted", None, "", TokenCounts(), Seconds())
MOST_CUTS = 5  # a request whose answers broke off so often may be what ends the server


class RequestPool:
    """Answers requests in threads of its own, each by one call at a time.

    A request that meets a server that is gone or too busy is sent again, after growing pauses; the first one that is
    answered wakes those that wait. Only a server that nobody reaches for `LONGEST_OUTAGE_SECONDS`, or one that refuses
    us altogether, ends the pool.
    """

    def __init__(
        self,
        requests: Iterable[Request],
        answer: Callable[[Request], Iterator[Event]],
        *,
        url: str,
        parallel: int | None,
    ) -> None:
        """Start nothing yet.

        Args:
            requests: are taken one by one, from any of the threads.
            answer: yields the events of one answer, without trying again.
            url: of the server, for notices.
            parallel: how many are answered at a time.
        """
        self._url = url
        self._requests = enumerate(requests)
        self._answer = answer
        self._parallel = parallel or PARALLEL
        self._taking = threading.Lock()
        self._messages: SimpleQueue[tuple[int, Outcome] | Notice | str | BaseException | None] = SimpleQueue()
        self._open: set[int] = set()  # requests that are being answered
        self._outage = _Outage()
        self.is_cancelled = False

    def cancel(self) -> None:
        """Take and send nothing any more; from any thread or a signal handler."""
        self.is_cancelled = True
        self._outage.end()
        self._messages.put(None)

    def outcomes(self, on_notice: Callable[[str], None]) -> Iterator[tuple[int, Outcome]]:
        """Answer all requests; after `cancel`, those under way are "interrupted".

        Args:
            on_notice: called with each sentence for the user, once where many requests have the same.

        Yields:
            (position, outcome) of each request, in the order in which they end.

        Raises:
            ChatError: the server is gone for good or refuses us; or what taking the requests raised.
        """
        threads = self._parallel
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()
        noticed = set()
        while threads and not self.is_cancelled:
            message = self._messages.get()
            if message is None:
                threads -= 1
            elif isinstance(message, BaseException):
                yield from self._finished()
                raise message
            elif isinstance(message, Notice):
                on_notice(message.text)
            elif isinstance(message, str):
                if message not in noticed:
                    on_notice(message)
                noticed.add(message)
            else:
                yield message
        interrupted = set(self._open)
        for index, outcome in self._finished():
            interrupted.discard(index)
            yield index, outcome
        for index in sorted(interrupted):
            yield index, INTERRUPTED

    def _finished(self) -> Iterator[tuple[int, Outcome]]:
        """The outcomes that are there already, at the end."""
        while not self._messages.empty():
            message = self._messages.get()
            if isinstance(message, tuple):
                yield message

    def _work(self) -> None:
        """Answer one request after the other, in a thread."""
        try:
            while not self.is_cancelled:
                with self._taking:
                    if self.is_cancelled or (taken := next(self._requests, None)) is None:
                        break
                    self._open.add(taken[0])
                outcome = self._outcome(taken[1])
                if isinstance(outcome, ChatError) or outcome.finish_reason != "interrupted":
                    self._messages.put((taken[0], outcome))
                    self._open.discard(taken[0])
        except BaseException as error:  # raised again where the outcomes are awaited
            self._messages.put(error)
        self._messages.put(None)

    def _outcome(self, request: Request) -> Outcome:
        """The answer or the error of one request.

        Raises:
            ChatError: the server is gone for good, or refuses us.
        """
        cuts = 0
        attempt = 0
        while True:
            try:
                return self._completion(request)
            except TemporaryError as error:
                cuts += error.is_cut
                if cuts == MOST_CUTS:
                    return error
                self._wait(error, attempt)
                attempt += 1
            except ModelError:
                raise
            except Exception as error:
                return as_chat_error(error)

    def _completion(self, request: Request) -> Completion:
        if self.is_cancelled:
            return INTERRUPTED
        is_answered = False
        for event in self._answer(request):
            if isinstance(event, Notice):
                self._messages.put(event.text)
                continue
            if not is_answered:
                self._outage.end()
                is_answered = True
            if isinstance(event, Completion):
                return event
        raise AssertionError("the events of an answer end with a Completion")

    def _wait(self, error: TemporaryError, attempt: int) -> None:
        """Wait before the next attempt, or until another request is answered.

        Raises:
            TemporaryError: the server was gone for too long.
        """
        pause = min(FIRST_WAIT_SECONDS * 2.0**attempt, LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0)
        pause = max(pause, error.wait_seconds)
        lasted = self._outage.seconds()
        if lasted + pause > LONGEST_OUTAGE_SECONDS:
            error.hint = f"it was asked again for {lasted:.0f} s; `--resume` with `--output` continues a batch"
            raise error
        if error.wait_seconds:
            self._messages.put(f"{self._url} is too busy; requests wait as long as it asks")
        elif not lasted:
            self._messages.put(Notice(f"{error.message}; waiting up to {LONGEST_OUTAGE_SECONDS:.0f} s for the server"))
        self._outage.wait(pause, lambda: self.is_cancelled, is_asked_for=error.wait_seconds > 0)


class _Outage:
    """The time in which no request was answered."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._began: float | None = None
        self._number = 0  # of the outages so far

    def seconds(self) -> float:
        """How long it lasts; 0 if it begins now."""
        with self._changed:
            now = time.monotonic()
            if self._began is None:
                self._began = now
                return 0.0
            return max(now - self._began, 1e-6)

    def end(self) -> None:
        """Something was answered: wake those that wait for it."""
        with self._changed:
            self._began = None
            self._number += 1
            self._changed.notify_all()

    def wait(self, seconds: float, stops: Callable[[], bool], *, is_asked_for: bool) -> None:
        """Wait for these seconds, or until `stops` after a call of `end`.

        Args:
            is_asked_for: the server asked for the pause, so that the end of the outage does not shorten it.
        """
        with self._changed:
            number, began = self._number, time.monotonic()
            self._changed.wait_for(lambda: stops() or (not is_asked_for and self._number != number), seconds)
            late = time.monotonic() - began - seconds
            if late > STOPPED_SECONDS and self._began is not None:
                self._began += late
