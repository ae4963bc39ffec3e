"""Run one task in a child process and receive its messages until it is done.

`doctor` and `bench` examine llama.cpp in this way: if it crashes, only the task has failed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from chat.errors import ChatError, EngineError, fault_text, shortage_error
from chat.worker.process import WorkerProcess
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
        os.write(child.input, to_line(question))
        while True:
            line = child.output.readline()
            if not line.endswith(b"\n"):
                raise EngineError(child.death_error().message, hint="`mistral-chat doctor` looks for the reason")
            message = from_line(line)
            if "error" in message:
                raise unpack_error(message["error"])
            if "end" in message:
                return
            yield message
    except BrokenPipeError:
        raise EngineError(child.death_error().message) from None
    finally:
        child.close(patience_seconds=1.0)


def serve_isolated_task(task: Callable[[Message, Callable[[Message], None]], None]) -> None:
    """In the child: run `task(question, send)` once, then exit. The process also exits when the parent's end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl+C means
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    question = from_line(sys.stdin.buffer.readline())
    threading.Thread(target=_exit_with_parent, daemon=True).start()

    def send(message: Message) -> None:
        try:
            sink.write(to_line(message))
            sink.flush()
        except BrokenPipeError:
            os._exit(0)

    try:
        task(question, send)
        send({"end": True})
    except ChatError as error:
        send({"error": pack_error(error)})
    except Exception as error:
        traceback.print_exc()
        failed = shortage_error(error) or EngineError(f"the task failed: {fault_text(error)}")
        send({"error": pack_error(failed)})
    os._exit(0)  # the thread still waits for the parent


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)
