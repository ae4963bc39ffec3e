"""The child process of the engine: reads calls as JSON lines and answers with JSON lines.

The first call is `load`. File descriptor 1 is kept for the lines alone: whatever C or Python code prints goes to the
log on descriptor 2. The process exits when the parent's end of descriptor 0 closes.
"""

from __future__ import annotations

import mmap
import os
import queue
import signal
import threading
import traceback
from typing import TYPE_CHECKING, Any

from chat import platform
from chat.core.conversation import Message
from chat.core.events import Completion, LoadProgress, Seconds, TokenCounts
from chat.core.request import EngineOptions, Request
from chat.errors import LESS_MEMORY, ChatError, MemoryLimitError, UsageError, fault_text, lacks_memory, shortage_error
from chat.system.child_streams import take_streams
from chat.worker.protocol import build, from_line, pack_error, pack_event, to_line
from chat.worker.sent_pictures import ReceivedPictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from chat.inference.batch_scheduler import BatchScheduler
    from chat.inference.loaded_model import LoadedModel, LoadedVocabulary

LOADING_STEP = 0.02
LIBRARY_BYTES = 128 << 20  # what the libraries take before a model is loaded


class CallQueue:
    """The parent's calls, read by a thread that also receives cancels and notices the end of the parent."""

    def __init__(
        self, source: BinaryIO, send: Callable[[dict[str, Any]], None], on_cancel: Callable[[bool], None]
    ) -> None:
        """Start to read.

        Args:
            source: has the parent's lines.
            send: sends one message to the parent.
            on_cancel: is called with True to end the current call, from the reading thread, and with False before
                the next one starts.
        """
        self._source = source
        self._send = send
        self._on_cancel = on_cancel
        self._queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: set[int] = set()
        self._current: int | None = None
        self._cancelled: int | None = None
        self._pictures = ReceivedPictures()
        self._more: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Take calls until the parent has ended; then this process ends, whatever it does."""
        try:
            for line in self._source:
                if not line.endswith(b"\n"):
                    break  # the parent died while it wrote
                self._take(from_line(line))
        except Exception:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def _take(self, call: dict[str, Any]) -> None:
        if call["call"] == "cancel":
            self._cancel(call["id"])
        elif call["call"] == "more":
            self._more.put(call)
        else:
            asked = call["request"]["prompt"]["messages"] if "request" in call else call.get("messages")
            self._pictures.complete(asked or ())  # also of a call that is cancelled before its turn
            with self._lock:
                self._waiting.add(call["id"])
            self._queue.put(call)

    def _cancel(self, number: int) -> None:
        with self._lock:
            if number == self._current:
                self._cancelled = number
                self._on_cancel(True)
                self._more.put(None)
            elif number in self._waiting:  # the model is still loading: answered now, dropped later
                self._waiting.discard(number)
                nothing = Completion("", "interrupted", (), "", TokenCounts(), Seconds())
                self._send({"id": number, "event": pack_event(nothing)})
                self._send({"id": number, "end": True})

    def next(self) -> dict[str, Any]:
        """Wait for the next call that was not cancelled; it is the current one until `finish`."""
        while True:
            call = self._queue.get()
            with self._lock:
                if call["id"] in self._waiting:
                    self._waiting.discard(call["id"])
                    self._current = call["id"]
                    self._on_cancel(False)
                    return call

    def is_cancelled(self, number: int) -> bool:
        """Whether the call with this number was cancelled while it was the current one."""
        return self._cancelled == number

    def more(self, number: int, wait_seconds: float | None) -> dict[str, Any] | None:
        """The next addition to a call; None if none comes in time, or the call is cancelled."""
        while True:
            try:
                message = self._more.get(timeout=wait_seconds) if wait_seconds != 0 else self._more.get_nowait()
            except queue.Empty:
                return None
            if message is None or message["id"] == number:  # others are of a call that was cancelled
                return message

    def finish(self) -> None:
        """Note that the current call is answered; a cancel that comes late has no effect."""
        with self._lock:
            self._current = None


class BatchSource:
    """The requests of one batch as the parent sends them; the scheduler's `RequestSource`."""

    def __init__(self, calls: CallQueue, number: int) -> None:
        self._calls = calls
        self._number = number
        self.ended = False

    def take(self, wait_seconds: float | None) -> tuple[int, Request] | None:
        """The next request with its index; None if none came in time, or none will. None as time waits for ever."""
        message = None if self.ended else self._calls.more(self._number, wait_seconds)
        if message is None:
            return None
        if "request" not in message:
            self.ended = True
            return None
        return message["index"], build(Request, message["request"])


class WorkerServer:
    """Loads a model and answers calls one after the other."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._sink = sink
        self._sending = threading.Lock()
        self._loaded: LoadedVocabulary | None = None
        self._model: LoadedModel | None = None  # the same, if it has weights
        self._scheduler: BatchScheduler | None = None
        self._loaded_fraction = 0.0
        self._calls = CallQueue(source, self.send, self._cancel)

    def send(self, message: dict[str, Any]) -> None:
        """Write one line; exit if nobody reads it."""
        try:
            with self._sending:
                self._sink.write(to_line(message))
                self._sink.flush()
        except OSError as error:
            if not platform.is_broken_pipe(error):
                raise
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
            self._calls.finish()

    def _answer(self, number: int, call: dict[str, Any]) -> None:
        name = call["call"]
        if name == "load":
            self._load(number, build(EngineOptions, call["options"]), call["verbose"])
        elif name == "leave":
            if self._model is not None:
                self._model.generator.cache.save_current(lambda: self.send({"id": number, "saving": True}))
        elif name == "reply":
            self._reply(number, build(Request, call["request"]))
        elif name == "batch":
            self._answer_batch(number, call["parallel"])
        else:
            self.send({"id": number, "result": self._ask_vocabulary(name, call)})

    def _reply(self, number: int, request: Request) -> None:
        from chat.inference.response import reply

        for event in reply(self._require_model(), request):
            self.send({"id": number, "event": pack_event(event)})

    def _ask_vocabulary(self, name: str, call: dict[str, Any]) -> Any:
        from chat.inference.response import count, render

        if self._loaded is None:
            raise RuntimeError("called before the model was loaded")
        if name == "render":
            return render(self._loaded, build(Request, call["request"]))
        return count(self._loaded, [build(Message, message) for message in call["messages"]])

    def _answer_batch(self, number: int, parallel: int | None) -> None:
        from chat.inference.batch_scheduler import BatchScheduler

        def notify(text: str) -> None:
            self.send({"id": number, "notice": text})

        scheduler = self._scheduler = BatchScheduler(self._require_model(), parallel, notify)
        try:
            if self._calls.is_cancelled(number):  # before there was a scheduler to cancel
                return
            for index, outcome in scheduler.outcomes(BatchSource(self._calls, number)):
                if isinstance(outcome, ChatError):
                    self.send({"id": number, "index": index, "failed": pack_error(outcome)})
                else:
                    done = None if outcome is None else pack_event(outcome)
                    self.send({"id": number, "index": index, "done": done})
        finally:
            self._scheduler = None

    def _require_model(self) -> LoadedModel:
        if self._loaded is None:
            raise RuntimeError("called before the model was loaded")
        if self._model is None:
            raise UsageError("only the vocabulary was loaded: there is nothing to answer with")
        return self._model

    def _cancel(self, flag: bool) -> None:
        model, scheduler = self._model, self._scheduler
        if model is not None:
            model.generator.cancel(flag)
        if scheduler is not None:
            scheduler.cancel(flag)

    def _load(self, number: int, options: EngineOptions, verbose: bool) -> None:
        _check_room()
        from chat.inference.loaded_model import load_model, load_vocabulary
        from chat.llama.library import EVERYTHING, LOG, WARNING

        LOG.copy_to(_log, EVERYTHING if verbose else WARNING)

        def report(fraction: float) -> bool:
            if fraction >= self._loaded_fraction + LOADING_STEP:
                self._loaded_fraction = fraction
                self.send({"id": number, "event": pack_event(LoadProgress(round(fraction, 3)))})
            return True

        if options.vocab_only:
            self._loaded = load_vocabulary(options)
        else:
            self._loaded = self._model = load_model(options, report)
        self.send({"id": number, "result": self._loaded.info})


def _check_room() -> None:
    """Reserve for a moment what the libraries need: where a limit forbids it, numpy's would try without end.

    Raises:
        OSError: there is not so much memory.
    """
    private = {"flags": mmap.MAP_PRIVATE} if hasattr(mmap, "MAP_PRIVATE") else {}  # what a limit of the data counts
    mmap.mmap(-1, LIBRARY_BYTES, **private).close()


def _log(text: str) -> None:
    os.write(2, text.encode("utf-8", "replace"))


def _unexpected(error: Exception) -> ChatError:
    if lacks_memory(error):
        return MemoryLimitError("there is not enough memory to run the engine", hint=LESS_MEMORY)
    return shortage_error(error) or ChatError(
        f"the engine failed: {fault_text(error)}", hint="run it with `-v` and report this"
    )


def main() -> None:
    """Run the server on descriptors 0 and 1; 2 is the log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl+C means
    WorkerServer(*take_streams()).run()


if __name__ == "__main__":
    main()
