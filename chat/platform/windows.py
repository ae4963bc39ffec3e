"""Windows, as its documentation and Python's describe it: nobody has run this there yet."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

assert sys.platform == "win32"

if TYPE_CHECKING:
    import mmap
    from pathlib import Path

# Flags of os.open
BINARY = os.O_BINARY
NO_FOLLOW = 0  # links need a privilege, and open as what they stand for
NO_TERMINAL = 0
NON_BLOCKING = 0

KILLED = 1  # exit code of a child process that was killed: TerminateProcess is given it by `subprocess`
HANGUP = 1  # the signal of a terminal that is gone, which only has a number here

_position = threading.Lock()  # of the files that `read_at` and `write_at` move


# --- files


def lock_file(descriptor: int) -> bool:
    """Lock the first byte of an open file without waiting; False if another process has locked it."""
    import msvcrt

    with _position:
        before = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, before, os.SEEK_SET)
    return True


def read_at(descriptor: int, count: int, offset: int) -> bytes:
    """Read up to `count` bytes at an offset; several threads may do so, one after the other.

    Raises:
        OSError: they cannot be read.
    """
    with _position:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, count)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write at an offset, as `read_at` reads.

    Returns:
        How many bytes were written.

    Raises:
        OSError: they cannot be written.
    """
    with _position:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)


def folded_name(name: str) -> str:
    """A text that is equal for names which mean one file: in any case, with either slash."""
    return name.casefold().replace("\\", "/")


def sync_folder(folder: Path) -> None:
    """Do nothing: Windows brings names to the disk itself, and opens no folders."""


def set_file_mode(descriptor: int, mode: int) -> None:
    """Do nothing: a file has the rights of its folder."""


def allocated_bytes(status: os.stat_result) -> int:
    """The bytes that a file takes on the disk: its size."""
    return status.st_size


def make_blocking(descriptor: int) -> None:
    """Do nothing: no file was opened otherwise."""


def memory_file() -> int | None:
    """None: there are no files in memory."""
    return None


def prefetch(mapped: mmap.mmap, offset: int, count: int) -> None:
    """Do nothing: the system reads ahead as it likes."""


def release(mapped: mmap.mmap, offset: int, count: int) -> None:
    """Do nothing: the system lets go of pages when it needs the memory."""


# --- processes and memory


def address_space_limit() -> int | None:
    """None: there is no such limit."""
    return None


def limit_memory(count: int) -> None:
    """Do nothing: the limits of time remain."""


def limit_processor_seconds(seconds: float) -> None:
    """End this process after so many seconds of the clock."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


def most_memory_used() -> int | None:
    """None: unknown."""
    return None


def physical_memory() -> int:
    """The bytes of the machine's memory. Source: GlobalMemoryStatusEx."""
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")),
        )

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.total)


def page_bytes() -> int:
    """The size of a page."""
    import mmap

    return mmap.PAGESIZE


def load_average() -> float | None:
    """None: unknown."""
    return None


def kill_group(process: int) -> None:
    """Kill a process, but not what it started."""
    with suppress(OSError):
        os.kill(process, signal.SIGTERM)  # TerminateProcess


def shell_command(text: str) -> list[str]:
    """The command that has the system's shell run a line."""
    return ["cmd.exe", "/d", "/s", "/c", text]


def library_file(name: str) -> str:
    """The file of a shared library, such as ggml.dll of `ggml`."""
    return f"{name}.dll"


# --- the terminal, whose modes prompt_toolkit changes during a prompt


def terminal_modes(descriptor: int) -> list[Any] | None:
    """None: a console has no modes of this kind."""
    return None


def raw_modes(modes: list[Any]) -> list[Any]:
    """The same modes."""
    return modes


def set_terminal_modes(descriptor: int, modes: list[Any]) -> None:
    """Do nothing."""


def drop_waiting_bytes(descriptor: int) -> None:
    """Forget what was typed and not read yet."""
    import msvcrt

    while msvcrt.kbhit():
        msvcrt.getwch()


def waiting_bytes(descriptor: int) -> bytes:
    """Nothing: keys that were typed early come to the first prompt by themselves."""
    return b""
