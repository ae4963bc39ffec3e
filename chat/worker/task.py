"""Send a child process on one errand and hear its messages until it is done. Knows lines, not what they say.

What `doctor` and `bench` find out about llama.cpp they find out there: if it dies, only the errand has failed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from chat.errors import ChatError, EngineError
from chat.worker.process import WorkerProcess
from chat.worker.protocol import from_line, pack_error, to_line, unpack_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Message = dict[str, Any]


def run_isolated_task(module: str, question: Message, log_file: Path | None = None) -> Iterator[Message]:
    """Yield what a module that ends in `serve_isolated_task` sends; leaving the loop ends its process.

    Raises:
        ChatError: what the errand raised, or the reason why its process died.
    """
    child = WorkerProcess(log_file, module)
    try:
        os.write(child.input, to_line(question))
        while True:
            line = child.output.readline()
            if not line.endswith(b"\n"):
                raise EngineError(child.why_dead().message, hint="`mistral-chat doctor` looks for the reason")
            message = from_line(line)
            if "error" in message:
                raise unpack_error(message["error"])
            if "end" in message:
                return
            yield message
    except BrokenPipeError:
        raise EngineError(child.why_dead().message) from None
    finally:
        child.close(patience_seconds=1.0)


def serve_isolated_task(errand: Callable[[Message, Callable[[Message], None]], None]) -> None:
    """Be the child: run `errand(question, send)` once. The process is gone when the parent's end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl+C means
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    question = from_line(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()

    def send(message: Message) -> None:
        try:
            sink.write(to_line(message))
            sink.flush()
        except BrokenPipeError:
            os._exit(0)

    try:
        errand(question, send)
        send({"end": True})
    except ChatError as error:
        send({"error": pack_error(error)})
    except Exception as error:
        traceback.print_exc()
        send({"error": pack_error(EngineError(f"the errand failed: {type(error).__name__}: {error}"))})
    os._exit(0)  # the thread still waits for the parent


def _leave_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)
