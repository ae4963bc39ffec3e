"""Answer the records of a batch, and run the functions that their answers call, those of many records side by side."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chat.app.request_builder import after_calls
from chat.app.tool_runs import not_run_note
from chat.core.events import Completion, Seconds, TokenCounts
from chat.errors import ChatError, fault_text
from chat.tools.runner import failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from chat.batch.records import BatchRecord
    from chat.core.backend import ChatBackend
    from chat.core.request import Request
    from chat.tools.approval import Decision
    from chat.tools.loop import CallLoop
    from chat.tools.rules import ToolRule
    from chat.tools.runner import CallResult, PreparedCall

MOST_OPEN = 16  # records that are being answered or whose functions run
INTERRUPTED = Completion("", "interrupted", None, "", TokenCounts(), Seconds())
Outcome = tuple[int, "Completion | ChatError", "Sequence[CallResult]"]  # of the record with this index


@dataclass
class _Line:
    """A record between its first request and its outcome."""

    index: int
    request: Request
    loop: CallLoop | None
    results: list[CallResult] = field(default_factory=list)


class CallRounds:
    """Sends the requests of records to a backend, and a further one where an answer calls functions.

    The sources of functions are shared by all records; calls are counted for each.
    """

    def __init__(self, loop: CallLoop, parallel: int | None, note: Callable[[str], None]) -> None:
        """Start nothing yet.

        Args:
            loop: its functions, rules and limits count for each record.
            parallel: how many requests are answered at a time.
            note: gets sentences for the user.
        """
        self._loop = loop
        self._most_open = max(MOST_OPEN, 3 * (parallel or 0))
        self._note = note
        self._changed = threading.Condition()
        self._waiting: deque[_Line] = deque()  # requests to send, those after results first
        self._sent: dict[int, _Line] = {}  # by the number of the request
        self._open: dict[int, _Line] = {}  # by the index of the record
        self._all_read = False
        self._read_error: BaseException | None = None
        self._stopped = threading.Event()
        self._ui = BatchCalls(self._stopped, note)

    def outcomes(
        self,
        backend: ChatBackend,
        records: Iterator[BatchRecord],
        parallel: int | None,
        cancellable: Callable[[Iterator[Request]], Iterator[Request]],
    ) -> Iterator[Outcome]:
        """Yield the outcome of each record with a request, with the results of its calls, as they end.

        Args:
            backend: answers.
            records: those with a request are taken, in a thread of its own, as there is room for them.
            parallel: how many requests are answered at a time.
            cancellable: what requests must pass through, so that Ctrl+C cancels.

        Raises:
            ChatError: the backend is lost, or what taking the records raised.
        """
        threading.Thread(target=self._read, args=(records,), daemon=True).start()
        try:
            for number, outcome in backend.answer_all(cancellable(self._requests()), parallel, self._note):
                line = self._sent.pop(number)
                if (end := self._end(line, outcome)) is not None:
                    yield self._ended(line, end)
                for notice in self._loop.toolbox.take_notices():
                    self._note(notice)
            for line in tuple(self._open.values()):  # the batch was cancelled
                yield self._ended(line, INTERRUPTED)
        finally:
            self._stopped.set()
            with self._changed:
                self._changed.notify_all()

    def _read(self, records: Iterable[BatchRecord]) -> None:
        """Take records as there is room for them."""
        try:
            for index, record in enumerate(each for each in records if each.request is not None):
                assert record.request is not None
                line = _Line(index, record.request, self._loop.beside() if record.runs_calls else None)
                with self._changed:
                    self._changed.wait_for(lambda: len(self._open) < self._most_open or self._stopped.is_set())
                    if self._stopped.is_set():
                        return
                    self._open[index] = line
                    self._waiting.append(line)
                    self._changed.notify_all()
        except BaseException as error:  # raised again where the requests are taken
            self._read_error = error
        with self._changed:
            self._all_read = True
            self._changed.notify_all()

    def _requests(self) -> Iterator[Request]:
        """The requests in the order in which they can be sent; ends when no record can have another one."""
        number = 0
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._waiting or self._stopped.is_set() or (self._all_read and not self._open)
                )
                if self._stopped.is_set() or not self._waiting:
                    break
                line = self._waiting.popleft()
                self._sent[number] = line
            yield line.request
            number += 1
        if self._read_error is not None:
            raise self._read_error

    def _end(self, line: _Line, outcome: Completion | ChatError) -> Completion | ChatError | None:
        """The outcome of a record; None where the calls of its answer are run, which begins here."""
        loop = line.loop
        if isinstance(outcome, ChatError) or loop is None or outcome.finish_reason == "interrupted":
            return outcome
        if not outcome.tool_calls or loop.has_by_hand(outcome.tool_calls):
            return outcome
        try:
            loop.check_goes_on()
        except ChatError as error:
            return error
        threading.Thread(target=self._run_calls, args=(line, loop, outcome), daemon=True).start()
        return None

    def _run_calls(self, line: _Line, loop: CallLoop, done: Completion) -> None:
        calls = done.tool_calls
        try:
            results = loop.run(calls, self._ui)
        except Exception as error:  # of one record: it is answered without them, and the others go on
            results = tuple(failed(call, fault_text(error)) for call in calls)
        line.results += results
        line.request = after_calls(line.request, done, [result.message() for result in results])
        with self._changed:
            self._waiting.appendleft(line)
            self._changed.notify_all()

    def _ended(self, line: _Line, outcome: Completion | ChatError) -> Outcome:
        with self._changed:
            self._open.pop(line.index, None)
            self._changed.notify_all()
        return line.index, outcome, tuple(line.results)


class BatchCalls:
    """Nobody is asked: a call runs if a rule allows it; a note for each function that none allows."""

    def __init__(self, stopped: threading.Event, note: Callable[[str], None]) -> None:
        self._stopped = stopped
        self._note = note
        self._noted: set[str] = set()

    def show_call(self, number: int, most: int, prepared: PreparedCall) -> None:
        """Nothing: the result of the record has the call."""

    def ask(self, prepared: PreparedCall) -> Decision | None:
        """None, with a note where it is the first call of the function."""
        note = not_run_note(prepared, "a batch asks nobody")
        if note not in self._noted:
            self._noted.add(note)
            self._note(note)
        return None

    def store_rule(self, rule: ToolRule) -> None:
        """Never asked for."""

    def wait(self, names: Sequence[str]) -> bool:
        """Whether the batch goes on."""
        return not self._stopped.is_set()

    def show_result(self, number: int, result: CallResult) -> None:
        """Nothing, either."""
