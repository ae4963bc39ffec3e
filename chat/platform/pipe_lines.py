"""Lines of a pipe on Windows, where no signal is handled while a thread waits for a pipe."""

from __future__ import annotations

import io
import queue
import threading
from contextlib import suppress
from typing import IO

_POLL_SECONDS = 0.1  # after which a wait looks for Ctrl+C


class PipeLines(io.RawIOBase):
    """Lines of a pipe, which a thread reads."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._is_at_end = pipe, False
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError, ValueError):  # closed
            for line in self._pipe:
                self._lines.put(line)
        self._lines.put(b"")

    def readline(self, _size: int | None = -1) -> bytes:
        """The next line; empty at the end."""
        while not self._is_at_end:
            try:
                line = self._lines.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            self._is_at_end = not line
            return line
        return b""

    def close(self) -> None:
        """Close the pipe, whose other end is closed."""
        self._pipe.close()
        super().close()
