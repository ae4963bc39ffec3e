"""Start a child process that runs one of our modules, and explain why it died."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chat import platform
from chat.errors import FEWER_THREADS, LESS_MEMORY, NO_MEMORY, NO_THREADS, EngineError
from chat.system.process_limits import NO_LIMIT, group_limit, memory_kills, require_address_space
from chat.system.python_child import python_child
from chat.system.secrets import child_environment
from chat.system.terminal_text import size_text
from chat.system.text_files import open_log

if TYPE_CHECKING:
    from typing import IO

LOG_TAIL_BYTES = 8192
# numpy's library reserves 32 MiB for each of its threads, of which the engine needs one
FEW_THREADS = {"OPENBLAS_NUM_THREADS": "1"}
KILL_SECONDS = 1.0  # that the system gets to end a killed child
STDERR = Path("/dev/stderr")
ASSERTION = ("GGML_ASSERT", "GGML_ABORT", "terminate called", "what():", "error:", "Error")
SOURCE_FOLDER = re.compile(
    r"(?:[A-Za-z]:)?[^\s:(]*[/\\](?=[^\s/\\:]+\.(?:c|cc|cpp|cu|cuh|h|hpp|m|mm):\d+)"
)  # of the machine that built it
NOT_STARTED = {errno.EAGAIN: FEWER_THREADS, errno.EMFILE: "raise the limit of open files (`ulimit -n`)"}
# what the backends for CUDA and HIP, for Vulkan and for Metal print before they end the process
OUT_OF_GPU_MEMORY = re.compile(r"(CUDA|ROCm|HIP) error: out of memory|ErrorOutOfDeviceMemory|ErrorOutOfMemory")


class GpuMemoryError(EngineError):
    """The engine ended because a GPU had no memory left."""

    def __init__(self) -> None:
        super().__init__(
            "the engine stopped: the GPU's memory ran out",
            hint="use fewer `--gpu-layers`, a smaller `--context`, or `--kv-type q8_0`",
        )


class IllegalInstructionError(EngineError):
    """The engine ended because it used an instruction that the processor does not run."""


class WorkerProcess:
    """A child process with pipes to its stdin and from its stdout; its stderr goes to a log.

    Attributes:
        input: the file descriptor of the pipe to the child.
        output: the file of the pipe from the child.
    """

    def __init__(self, log_file: Path | None = None, module: str = "chat.worker.server") -> None:
        """Start the child, which then waits for its first line.

        Args:
            log_file: is appended to; None: a temporary file, for the reason of a death.
            module: what the child runs.

        Raises:
            EngineError: the system cannot start a process.
            MemoryLimitError: the process's address space is too small.
            FileError: the log cannot be written.
        """
        require_address_space("the engine")
        self._log: IO[bytes] = _open_log(log_file)
        self._memory_kills = memory_kills()
        self._log_start = os.fstat(self._log.fileno()).st_size
        try:
            self._process = subprocess.Popen(
                python_child(module),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=child_environment(FEW_THREADS | os.environ),
                bufsize=0,
                start_new_session=True,  # Ctrl+C in the terminal reaches the parent only
                creationflags=platform.OWN_GROUP,
            )
        except OSError as error:
            reason, hint = error.strerror, NOT_STARTED.get(error.errno or 0)
            raise EngineError(f"the engine process cannot be started: {reason}", hint=hint) from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self.input = self._process.stdin.fileno()
        self.output = platform.lines_of(os.fdopen(os.dup(self._process.stdout.fileno()), "rb"))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def death_error(self) -> EngineError:
        """Wait for the end of a child whose output has ended; the error gives the reason in one sentence."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        tail = self._log_tail()
        crash = platform.crash_name(code)
        if crash and OUT_OF_GPU_MEMORY.search(tail):
            return GpuMemoryError()
        kind = IllegalInstructionError if code == platform.BAD_INSTRUCTION else EngineError
        again = "asking again starts the engine anew"
        if code == platform.KILLED and memory_kills() > self._memory_kills:  # what it wrote last is not the reason
            return kind(f"the engine stopped: {_out_of_memory()}", hint=f"{again}; {LESS_MEMORY}")
        lacks_memory = crash and re.search(NO_MEMORY, tail)
        if code > 0 and re.search(NO_THREADS, tail):
            reason, way = "the system allows no more threads", FEWER_THREADS
        else:
            reason = "the memory ran out" if lacks_memory else _reason(code)
            way = LESS_MEMORY if lacks_memory or code == platform.KILLED else ""
        return kind(f"the engine stopped: {reason}{_last_line(tail)}", hint=f"{again}; {way}" if way else again)

    def _log_tail(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        start = max(self._log_start, size - LOG_TAIL_BYTES)
        try:
            return platform.read_at(self._log.fileno(), size - start, start).decode("utf-8", "replace")
        except OSError:  # a log that cannot be read, such as a terminal: the user has seen its end
            return ""

    def close(self, patience_seconds: float = 2.0) -> None:
        """End the child by closing its input; kill it if it has not ended in time.

        A child whose disk does not answer ends when it does, and is not waited for.
        """
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=patience_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(timeout=KILL_SECONDS)
            except subprocess.TimeoutExpired:
                return
        if self._process.stdout is not None:
            self._process.stdout.close()
        self.output.close()
        self._log.close()


def _open_log(path: Path | None) -> IO[bytes]:
    if path is None and hasattr(os, "memfd_create"):  # works on a full disk too
        return os.fdopen(os.memfd_create("engine-log"), "w+b")
    if path is None:
        return tempfile.TemporaryFile("w+b")
    if path == STDERR:  # opened by name it would have a file position of its own
        return os.fdopen(os.dup(2), "wb", buffering=0)
    return open_log(path)


def _last_line(tail: str) -> str:
    """The last line of a log that looks like an error, else its last line, in brackets; sources without folders."""
    tail = SOURCE_FOLDER.sub("", tail)
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in ASSERTION)] or lines
    return f" ({telling[-1][:300]})" if telling else ""


def _out_of_memory() -> str:
    """Why the system killed the engine, where it has counted that."""
    limit = group_limit()
    limited = f", which its control group limits to {size_text(limit)}" if limit < NO_LIMIT else ""
    return f"the system killed it because it ran out of memory{limited}"


def _reason(code: int) -> str:
    name = platform.crash_name(code)
    if not name:
        return f"it exited with code {code}"
    if code == platform.KILLED:
        return f"it was killed ({name}), most likely because the system ran out of memory"
    if code == platform.BAD_INSTRUCTION:
        return f"{name}: this build of llama.cpp uses instructions that this processor does not have"
    return f"it crashed with {name}"


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data` to a pipe; a signal may interrupt the call in the middle.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        if platform.is_broken_pipe(error):
            raise BrokenPipeError from error
        raise
