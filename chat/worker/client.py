"""Answer through the engine's child process, and start it again when it has died."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.core.backend import ModelInfo, Rendered
from chat.core.events import (
    Completion,
    Event,
    LoadProgress,
    Notice,
    ReasoningDelta,
    Seconds,
    TextDelta,
    TokenCounts,
    outcome_of,
)
from chat.errors import ChatError, EngineError
from chat.system.terminal_text import counted
from chat.worker.process import GpuMemoryError, IllegalInstructionError, WorkerProcess, write_all
from chat.worker.protocol import build, from_line, to_line, unpack_error, unpack_event
from chat.worker.request_feed import RequestFeed
from chat.worker.sent_pictures import SentPictures

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from chat.core.conversation import Message
    from chat.core.request import EngineOptions, Request

PATIENCE_SECONDS, HURRY_SECONDS = 2.0, 0.3  # that the child gets to end by itself, normally and in a hurry
SILENCE_SECONDS = 4.0  # without a sign of life while it saves the cache, until it is ended
CLOSED = "the engine is closed"
NO_REPACKING = "this processor lacks an instruction that llama.cpp needs for repacked weights, so `--repack` is off now"


class LocalBackend:
    """A `ChatBackend` whose model lives in a child process; one answer at a time, from one thread.

    The constructor starts the child, which loads while the user types. `cancel` may come from signal handlers and
    threads.

    Attributes:
        options: how the model is loaded; changed if a GPU's memory runs out.
    """

    def __init__(self, options: EngineOptions, *, log_file: str | os.PathLike[str] | None = None) -> None:
        """Start loading.

        Args:
            options: how to load the model.
            log_file: keeps all that llama.cpp prints; None: only what explains a fault.

        Raises:
            EngineError: the system cannot start a process.
        """
        self.options = options
        self._notices: list[str] = []  # for the user, with the next answer
        self._log_file = Path(log_file) if log_file is not None else None
        self._child: WorkerProcess | None = None
        self._number = 0
        self._load_call = 0
        self._info: ModelInfo | None = None
        self._writing = threading.Lock()
        self._current: int | None = None  # the call that a cancel ends
        self._to_cancel: int | None = None
        self._closed = False
        self._pictures = SentPictures()
        self._start()

    # --- the protocol ChatBackend

    def info(self, on_loading: Callable[[float], None] = lambda _: None) -> ModelInfo:
        """The loaded model; waits until it is loaded.

        Args:
            on_loading: gets the loaded fraction in 0..1.

        Raises:
            ChatError: the model cannot be used.
        """
        while True:
            options = self.options
            try:
                return self._wait_for_model(on_loading)
            except IllegalInstructionError:
                if self.options is options:
                    raise

    def _wait_for_model(self, on_loading: Callable[[float], None]) -> ModelInfo:
        self._ensure_child()
        if self._info is None:
            on_loading(0.0)
        while self._info is None:
            message = self._next()
            self._note_load(message)
            if "event" in message and isinstance(event := unpack_event(message["event"]), LoadProgress):
                on_loading(event.fraction)
        return self._info

    def reply(self, request: Request) -> Iterator[Event]:
        """Yield events, the last one `Completion`; `LoadProgress` first while the model is loading.

        If a GPU's memory runs out before the first text, the model is loaded with fewer layers there and the request
        is answered again. If the processor does not run llama.cpp's code for repacked rows, it is loaded without.

        Raises:
            ChatError: the request cannot be answered, or the child died: the next call starts it again.
        """
        has_text = False
        while True:
            while self._notices:
                yield Notice(self._notices.pop(0))
            options = self.options
            try:
                for event in self._reply(request):
                    has_text = has_text or isinstance(event, TextDelta | ReasoningDelta)
                    yield event
                return
            except (GpuMemoryError, IllegalInstructionError):
                if has_text or self.options is options:
                    raise

    def _reply(self, request: Request) -> Iterator[Event]:
        self._ensure_child()
        self._current = number = self._number + 1
        try:
            self._call("reply", request=self._pictures.shortened_request(request))
            for message in self._messages(number):
                if "event" in message and self._current is not None:  # a load goes on after a cancelled answer
                    event = unpack_event(message["event"])
                    if isinstance(event, Completion):
                        self._current = None
                    yield event
        finally:
            if self._current == number:  # it failed, or the caller left the loop
                self.cancel()
                self._current = None

    def answer_all(
        self, requests: Iterable[Request], parallel: int | None, on_notice: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[int, Completion | ChatError]]:
        """Answer many requests together; a common prefix is read once.

        If the child dies, the requests that it was answering are answered again, each alone: only one that kills it
        again gets an error. A new child answers the others together.

        Args:
            requests: are taken as there is room for them, in another thread.
            parallel: how many at a time; None: as many as is fastest.
            on_notice: gets sentences for the user.

        Raises:
            ChatError: the model cannot be used.
        """
        feed = RequestFeed(requests, parallel, self._send_more)
        try:
            while True:
                self._ensure_child()
                self._current = number = self._number + 1
                self._call("batch", parallel=parallel)
                feed.send_to(number)
                suspects = yield from self._outcomes(number, feed, on_notice)
                if suspects is None:
                    break
                for index, request in suspects:
                    outcome = outcome_of(self.reply(request), on_notice)
                    feed.mark_done(index)
                    yield index, outcome
                    if isinstance(outcome, Completion) and outcome.finish_reason == "interrupted":
                        return
        finally:
            feed.close()
            if self._current is not None:  # it failed, or the caller left the loop
                self.cancel()
                self._current = None
        if feed.error is not None:
            raise feed.error
        for index in feed.remaining():
            yield index, Completion("", "interrupted", (), "", TokenCounts(), Seconds())

    def _outcomes(
        self, number: int, feed: RequestFeed, on_notice: Callable[[str], None]
    ) -> Generator[tuple[int, Completion | ChatError], None, list[tuple[int, Request]] | None]:
        """Yield the outcomes of a batch.

        Returns:
            None at its end, or the requests that the child was answering when it died.

        Raises:
            EngineError: the child died before it started a request.
        """
        try:
            for message in self._messages(number):
                if "notice" in message:
                    on_notice(message["notice"])
                if "index" not in message:
                    continue
                index = message["index"]
                if "failed" in message:
                    feed.mark_done(index)
                    yield index, unpack_error(message["failed"])
                elif message["done"] is None:
                    feed.mark_started(index)
                elif isinstance(done := unpack_event(message["done"]), Completion):
                    feed.mark_done(index)
                    yield index, done
        except EngineError:
            suspects = feed.pause()
            if self._child is not None or not suspects:
                raise
            return suspects
        self._current = None
        return None

    def render(self, request: Request) -> Rendered:
        """The text and ids of a request's prompt, without an answer.

        Raises:
            ChatError: the model or the prompt cannot be used.
        """
        self.info()
        return build(Rendered, self._result("render", request=self._pictures.shortened_request(request)))

    def count(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """How many tokens the content of each message has, without what the prompt format adds.

        Raises:
            ChatError: the model cannot be used.
        """
        self.info()
        return tuple(self._result("count", messages=self._pictures.shortened(messages)))

    def cancel(self) -> None:
        """Stop the current answer soon; without one, nothing happens."""
        self._to_cancel = self._current
        self._send_cancel()

    def close(self, *, keep_state: bool = True) -> None:
        """End the child; a second call does nothing.

        Args:
            keep_state: save the cache for the next time if the options name a folder, which may take seconds.
        """
        patience = PATIENCE_SECONDS if keep_state else HURRY_SECONDS
        can_save = self._info is not None and self._child is not None and not self._closed
        if keep_state and can_save and self.options.state_folder and not self._save_state():
            patience = 0
        self._closed = True
        child, self._child = self._child, None
        if child is not None:
            child.close(patience)

    def _save_state(self) -> bool:
        """Have the child save the cache; False if it shows no sign of life, because it is stopped or its disk hangs."""
        goes_on: queue.Queue[bool] = queue.Queue()

        def save() -> None:
            with suppress(ChatError, OSError, ValueError):  # it died, or took too long and the pipes are closed
                for _ in self._messages(self._call("leave")):
                    goes_on.put(True)
            goes_on.put(False)

        try:
            threading.Thread(target=save, daemon=True, name="save").start()
            while goes_on.get(timeout=SILENCE_SECONDS):
                pass
        except queue.Empty:
            return False
        except RuntimeError:  # the system allows no more threads
            pass
        return True

    # --- the child

    @property
    def pid(self) -> int | None:
        """The child's process id; None if it does not run."""
        return self._child.pid if self._child else None

    def _start(self) -> None:
        self._child = WorkerProcess(self._log_file)
        self._pictures = SentPictures()
        self._info = None
        options = {field.name: getattr(self.options, field.name) for field in fields(self.options)}
        self._load_call = self._call("load", options=options, verbose=self._log_file is not None)

    def _ensure_child(self) -> None:
        if self._closed:
            raise EngineError(CLOSED)
        if self._child is None:
            self._start()

    def _result(self, name: str, **arguments: Any) -> Any:
        self.info()
        result: Any = None
        for message in self._messages(self._call(name, **arguments)):
            result = message.get("result", result)
        return result

    # --- lines

    def _call(self, name: str, **arguments: Any) -> int:
        """Send a call; its number."""
        self._number += 1
        line = to_line({"id": self._number, "call": name, **arguments})
        assert self._child is not None
        try:
            with self._writing:
                write_all(self._child.input, line)
        except BrokenPipeError:
            raise self._discard_child() from None
        self._send_cancel()
        return self._number

    def _send_more(self, message: dict[str, Any]) -> None:
        """Add to a call, from any thread; a dead child is noticed where its answer is awaited."""
        with suppress(OSError), self._writing:
            if self._child is not None:
                write_all(self._child.input, to_line(message))
        self._send_cancel()

    def _send_cancel(self) -> None:
        """Send the cancel that is due, unless a call is being written: then its writer sends the cancel after it."""
        while self._to_cancel is not None and self._child is not None and self._writing.acquire(blocking=False):
            try:
                number, self._to_cancel = self._to_cancel, None
                write_all(self._child.input, to_line({"id": number, "call": "cancel"}))
            except (BrokenPipeError, TypeError):
                return
            finally:
                self._writing.release()

    def _messages(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield the messages of one call up to its end, and those of the load before it.

        Messages of calls that nobody awaits any more are dropped.

        Raises:
            ChatError: the call or the load failed, or the child died.
        """
        while True:
            message = self._next()
            if message["id"] == self._load_call:
                self._note_load(message)
                if "event" in message:
                    yield message
            elif message["id"] == number:
                if "error" in message:
                    raise unpack_error(message["error"])
                if "end" in message:
                    return
                yield message

    def _note_load(self, message: dict[str, Any]) -> None:
        if message["id"] != self._load_call:
            return
        if "result" in message:
            self._info = build(ModelInfo, message["result"])
        elif "error" in message:
            child, self._child = self._child, None
            if child is not None:
                child.close()
            raise unpack_error(message["error"])

    def _next(self) -> dict[str, Any]:
        if (child := self._child) is None:
            raise EngineError(CLOSED)
        line = child.output.readline()
        if not line.endswith(b"\n"):
            raise self._discard_child()
        return from_line(line)

    def _discard_child(self) -> EngineError:
        """Forget a child that has died; the error gives the reason."""
        with self._writing:  # nobody is in the middle of a line to it
            child, self._child = self._child, None
        if child is None:
            return EngineError(CLOSED)
        error = child.death_error()
        child.close()
        held = int(self._info.details.get("gpu_layers", 0)) if self._info is not None else 0
        if isinstance(error, GpuMemoryError) and self.options.gpu_layers == "auto" and held:
            layers = held * 3 // 4
            self.options = replace(self.options, most_gpu_layers=layers)
            self._notices = [
                f"the GPU's memory ran out: it now holds {counted(layers, 'layer')} at most, the processor the others"
            ]
        if isinstance(error, IllegalInstructionError) and self.options.repack == "auto":
            self.options = replace(self.options, repack="off")
            self._notices = [NO_REPACKING]
        return error
