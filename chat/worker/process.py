"""Start the engine child and say why it died. Knows processes, not what is said to them."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import EngineError
from chat.system.python_child import python_child
from chat.worker.gpu_memory_errors import RAN_OUT, gpu_memory_error

if TYPE_CHECKING:
    from typing import IO

SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
LOG_TAIL_BYTES = 8192
STDERR = Path("/dev/stderr")
ASSERTION = ("GGML_ASSERT", "GGML_ABORT", "terminate called", "what():", "error:", "Error")


class WorkerProcess:
    """One process of a module of ours, the engine's worker as a rule, and the three files that connect us."""

    def __init__(self, log_file: Path | None = None, module: str = "chat.worker.server") -> None:
        """Start it; it waits for its first call.

        Raises:
            EngineError: the system starts no process.
        """
        self._log: IO[bytes] = _open_log(log_file)
        self._log_start = os.fstat(self._log.fileno()).st_size
        environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
        try:
            self._process = subprocess.Popen(
                python_child(module),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
                bufsize=0,
                start_new_session=True,  # the terminal's Ctrl+C is the parent's alone
            )
        except OSError as error:
            raise EngineError(f"the engine process cannot be started: {error.strerror}") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self.input = self._process.stdin.fileno()
        self.output = os.fdopen(os.dup(self._process.stdout.fileno()), "rb")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def why_dead(self) -> EngineError:
        """Wait for the end of a child whose output has ended, and name the reason in one sentence."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        tail = self._log_tail()
        if code < 0 and RAN_OUT.search(tail):
            return gpu_memory_error()
        return EngineError(
            f"the engine stopped: {_reason(code)}{_last_words(tail)}",
            hint="what was said is kept; the next message starts it again",
        )

    def _log_tail(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        start = max(self._log_start, size - LOG_TAIL_BYTES)
        try:
            return os.pread(self._log.fileno(), size - start, start).decode("utf-8", "replace")
        except OSError:  # a log that is only written: who reads it has seen the end
            return ""

    def close(self, patience_seconds: float = 2.0) -> None:
        """Let it go: closing its input ends it, and a deaf one is killed."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=patience_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self.output.close()
        self._log.close()


def _open_log(path: Path | None) -> IO[bytes]:
    if path is None:
        return tempfile.TemporaryFile("w+b")
    if path == STDERR:  # opened anew it would have a place of its own in the file that stderr may be
        return os.fdopen(os.dup(2), "wb", buffering=0)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0)


def _last_words(tail: str) -> str:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in ASSERTION)] or lines
    return f" ({telling[-1][:300]})" if telling else ""


def _reason(code: int) -> str:
    if code >= 0:
        return f"it left with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return "it was killed (SIGKILL), most likely because the system ran out of memory"
    if name == "SIGILL":
        return "SIGILL: this build of llama.cpp uses instructions that this processor does not have"
    return f"it died of {name}"
