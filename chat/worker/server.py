"""The engine child: reads calls as JSON lines, answers with JSON lines. Knows how to stay clean and when to go.

The first call is `load`. File descriptor 1 is kept for the lines alone: whatever C or Python prints goes to the log on
descriptor 2. When the parent's end of descriptor 0 closes, the process is gone.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from chat.core.conversation import Message
from chat.core.events import Completion, LoadProgress, Seconds, TokenCounts
from chat.core.request import EngineOptions, Request
from chat.errors import ChatError
from chat.worker.protocol import build, from_line, pack_error, pack_event, to_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from chat.inference.batch_scheduler import BatchScheduler
    from chat.inference.loaded_model import LoadedModel

LOADING_STEP = 0.02


class Calls:
    """What the parent asks for: a queue filled by a thread, which also sees cancels and the end of the parent."""

    def __init__(self, source: BinaryIO, send: Callable[[dict[str, Any]], None]) -> None:
        self._source = source
        self._send = send
        self._queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: set[int] = set()
        self._current: int | None = None
        self._cancelled: int | None = None
        self._more: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.on_cancel: Callable[[bool], None] = lambda _: None
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._source:
            call = from_line(line)
            if call["call"] == "cancel":
                self._cancel(call["id"])
                continue
            if call["call"] == "more":
                self._more.put(call)
                continue
            with self._lock:
                self._waiting.add(call["id"])
            self._queue.put(call)
        os._exit(0)

    def _cancel(self, number: int) -> None:
        with self._lock:
            if number == self._current:
                self._cancelled = number
                self.on_cancel(True)
                self._more.put(None)
            elif number in self._waiting:  # asked for while the model loads: answered now, dropped later
                self._waiting.discard(number)
                nothing = Completion("", "interrupted", (), "", TokenCounts(), Seconds())
                self._send({"id": number, "event": pack_event(nothing)})
                self._send({"id": number, "end": True})

    def next(self) -> dict[str, Any]:
        """The next call that was not cancelled."""
        while True:
            call = self._queue.get()
            with self._lock:
                if call["id"] in self._waiting:
                    self._waiting.discard(call["id"])
                    self._current = call["id"]
                    self.on_cancel(False)
                    return call

    def is_cancelled(self, number: int) -> bool:
        """Whether the current call was cancelled before there was anything to cancel."""
        return self._cancelled == number

    def more(self, number: int, wait_seconds: float | None) -> dict[str, Any] | None:
        """What else the parent says to a call; None where nothing comes in time, or the call is cancelled."""
        while True:
            try:
                said = self._more.get(timeout=wait_seconds) if wait_seconds != 0 else self._more.get_nowait()
            except queue.Empty:
                return None
            if said is None or said["id"] == number:  # the rest is of a call that was cancelled
                return said

    def finished(self) -> None:
        """The current call is answered; cancels that come late do nothing."""
        with self._lock:
            self._current = None


class BatchSource:
    """The requests of one batch as the parent sends them."""

    def __init__(self, calls: Calls, number: int) -> None:
        self._calls = calls
        self._number = number
        self.ended = False

    def take(self, wait_seconds: float | None) -> tuple[int, Request] | None:
        """The next one; None where none came in time, or none will. None as the time waits for ever."""
        said = None if self.ended else self._calls.more(self._number, wait_seconds)
        if said is None:
            return None
        if "request" not in said:
            self.ended = True
            return None
        return said["index"], build(Request, said["request"])


class Worker:
    """Answers calls one after the other."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._sink = sink
        self._sending = threading.Lock()
        self._calls = Calls(source, self.send)
        self._room: LoadedModel | None = None
        self._together: BatchScheduler | None = None
        self._loaded = 0.0

    def send(self, message: dict[str, Any]) -> None:
        """Write one line; without a reader there is nothing left to do."""
        try:
            with self._sending:
                self._sink.write(to_line(message))
                self._sink.flush()
        except BrokenPipeError:
            os._exit(0)

    def run(self) -> None:
        """Answer until the parent closes its end."""
        while True:
            call = self._calls.next()
            number = call["id"]
            try:
                self._answer(number, call)
                self.send({"id": number, "end": True})
            except ChatError as error:
                self.send({"id": number, "error": pack_error(error)})
            except Exception as error:
                traceback.print_exc()
                self.send({"id": number, "error": pack_error(_unexpected(error))})
            self._calls.finished()

    def _answer(self, number: int, call: dict[str, Any]) -> None:
        if call["call"] == "load":
            self._load(number, build(EngineOptions, call["options"]), call["verbose"])
            return
        from chat.inference import response

        room = self._room
        if call["call"] == "leave":
            if room is not None:
                room.save_state()
            return
        if room is None:
            raise RuntimeError("called before the model was loaded")
        if call["call"] == "reply":
            for event in response.reply(room, build(Request, call["request"])):
                self.send({"id": number, "event": pack_event(event)})
        elif call["call"] == "batch":
            self._answer_batch(number, room, call["parallel"])
        elif call["call"] == "render":
            self.send({"id": number, "result": response.render(room, build(Request, call["request"]))})
        elif call["call"] == "count":
            self.send(
                {"id": number, "result": response.count(room, [build(Message, each) for each in call["messages"]])}
            )

    def _answer_batch(self, number: int, room: LoadedModel, parallel: int | None) -> None:
        from chat.inference.batch_scheduler import BatchScheduler

        together = BatchScheduler(room, parallel, lambda text: self.send({"id": number, "notice": text}))
        self._together = together
        if self._calls.is_cancelled(number):
            return
        try:
            for index, outcome in together.outcomes(BatchSource(self._calls, number)):
                if isinstance(outcome, ChatError):
                    self.send({"id": number, "index": index, "failed": pack_error(outcome)})
                else:
                    done = None if outcome is None else pack_event(outcome)
                    self.send({"id": number, "index": index, "done": done})
        finally:
            self._together = None

    def _cancel(self, flag: bool) -> None:
        room, together = self._room, self._together
        if room is not None and room.engine is not None:
            room.engine.cancel(flag)
        if together is not None:
            together.cancel(flag)

    def _load(self, number: int, options: EngineOptions, verbose: bool) -> None:
        from chat.inference.loaded_model import load_model
        from chat.llama.library import LOG, WARNING

        LOG.sink = lambda level, text: _log(text) if verbose or level >= WARNING else None

        def progress(fraction: float) -> bool:
            if fraction >= self._loaded + LOADING_STEP:
                self._loaded = fraction
                self.send({"id": number, "event": pack_event(LoadProgress(round(fraction, 3)))})
            return True

        room = self._room = load_model(options, progress)
        self._calls.on_cancel = self._cancel
        self.send({"id": number, "result": room.info})


def _log(text: str) -> None:
    os.write(2, text.encode("utf-8", "replace"))


def _unexpected(error: Exception) -> ChatError:
    return ChatError(f"the engine failed: {type(error).__name__}: {error}", hint="run it with `-v` and report this")


def main() -> None:
    """Run the child on its own three descriptors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl+C means
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Worker(sys.stdin.buffer, sink).run()


if __name__ == "__main__":
    main()
