"""Run one task in a child process and receive its messages until it is done.

`doctor` and `bench` examine llama.cpp in this way: if it crashes, only the task has failed.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chat import platform
from chat.errors import ChatError, EngineError, fault_text, shortage_error
from chat.system.child_streams import take_streams
from chat.worker.process import WorkerProcess, write_all
from chat.worker.protocol import from_line, pack_error, to_line, unpack_error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

Message = dict[str, Any]


def run_isolated_task(module: str, question: Message, log_file: Path | None = None) -> Generator[Message, None, None]:
    """Yield the messages of a task; leaving the loop ends its process.

    Args:
        module: ends in a call of `serve_isolated_task`.
        question: what the task gets.
        log_file: keeps what the process prints.

    Raises:
        ChatError: the error of the task, or the reason why its process died.
    """
    child = WorkerProcess(log_file, module)
    try:
        write_all(child.input, to_line(question))
        while "end" not in (message := _received(child)):
            yield message
    except BrokenPipeError:
        raise EngineError(child.death_error().message) from None
    finally:
        child.close(patience_seconds=1.0)


class QuestionTask:
    """A task in a child process that answers one question after the other, until `close`."""

    def __init__(self, module: str, subject: Message) -> None:
        """Start the process.

        Args:
            module: ends in a call of `serve_questions`.
            subject: what all questions are about.

        Raises:
            ChatError: it cannot be started.
        """
        self._child = WorkerProcess(None, module)
        self._send(subject)

    def ask(self, question: Message, on_progress: Callable[[Message], None] = lambda _message: None) -> Message:
        """The answer to a question.

        Args:
            question: about the subject.
            on_progress: gets what the task sends before its answer, each a message with the key `progress`.

        Raises:
            ChatError: the error of the task, or the reason why its process died; then it answers no more.
        """
        self._send(question)
        while "progress" in (message := _received(self._child)):
            on_progress(message)
        return message

    def close(self) -> None:
        """End the process."""
        self._child.close(patience_seconds=1.0)

    def _send(self, message: Message) -> None:
        with suppress(BrokenPipeError):  # what it says before its end is read in place of the answer
            write_all(self._child.input, to_line(message))


def _received(child: WorkerProcess) -> Message:
    """The next message of a child.

    Raises:
        ChatError: it is an error, or the child has died.
    """
    line = child.output.readline()
    if not line.endswith(b"\n"):
        raise EngineError(child.death_error().message, hint="`mistral-chat doctor` looks for the reason")
    message = from_line(line)
    if "error" in message:
        raise unpack_error(message["error"])
    return message


def serve_isolated_task(task: Callable[[Message, Callable[[Message], None]], None]) -> None:
    """In the child: run `task(question, send)` once, then exit. The process also exits when the parent's end closes."""

    def run(received: Callable[[], Message], send: Callable[[Message], None]) -> None:
        task(received(), send)
        send({"end": True})

    _serve(run)


def serve_questions(task: Callable[[Message, Callable[[Message], None]], Callable[[Message], Message]]) -> None:
    """In the child: answer questions until the parent's end closes, then exit.

    Args:
        task: gets the subject of all questions and what sends progress, and gives what answers one.
    """

    def run(received: Callable[[], Message], send: Callable[[Message], None]) -> None:
        answer = task(received(), send)
        while True:
            send(answer(received()))

    _serve(run)


def _serve(run: Callable[[Callable[[], Message], Callable[[Message], None]], None]) -> None:
    """Run `run(received, send)`, and exit when it ends, or when the parent's end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl+C means
    source, sink = take_streams()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in source:
            lines.put(line)
        os._exit(0)

    def send(message: Message) -> None:
        try:
            sink.write(to_line(message))
            sink.flush()
        except OSError as error:
            if not platform.is_broken_pipe(error):
                raise
            os._exit(0)

    try:
        threading.Thread(target=read, daemon=True).start()
        run(lambda: from_line(lines.get()), send)
    except ChatError as error:
        send({"error": pack_error(error)})
    except Exception as error:
        traceback.print_exc()
        failed = shortage_error(error) or EngineError(f"the task failed: {fault_text(error)}")
        send({"error": pack_error(failed)})
    os._exit(0)  # the thread still waits for the parent
