"""Windows 10 and later."""

from __future__ import annotations

import codecs
import errno
import io
import os
import signal
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

assert sys.platform == "win32"

if TYPE_CHECKING:
    import ctypes
    import mmap
    import subprocess
    from pathlib import Path

# Flags of os.open
BINARY = os.O_BINARY
NO_FOLLOW = 0  # links need a privilege, and open as what they stand for
NO_TERMINAL = 0
NON_BLOCKING = 0

OWN_GROUP = 0x200  # creation flag of a child process that Ctrl+C does not reach: CREATE_NEW_PROCESS_GROUP
KILLED: int | None = None  # no exit code says that a process was killed
BAD_INSTRUCTION = 0xC000001D  # exit code of one that used an instruction that the processor lacks
OUT_OF_TIME = 258  # exit code of one that `limit_processor_seconds` ended: WAIT_TIMEOUT
HANGUP = 1  # the signal of a terminal that is gone, which only has a number here
EDITOR = "notepad"  # of a user who has set none
TERM = "windows"  # the kind of a terminal that does not say what it is: consoles understand escape sequences

_CRASHES = {  # by exit code: the statuses of ntstatus.h, and what abort() of the C library gives
    3: "abort()",
    0xC0000005: "an access violation",
    0xC0000017: "a lack of memory",
    BAD_INSTRUCTION: "an illegal instruction",
    0xC0000094: "a division by zero",
    0xC00000FD: "a stack overflow",
    0xC0000374: "a damaged heap",
    0xC0000409: "abort()",
}
_LOCKED_BYTE = 1 << 43
_READ_AND_WRITE, _SHARE_ALL, _CREATE_NEW, _OPEN_EXISTING = 0xC0000000, 7, 1, 3  # of CreateFileW
_ENABLE_ESCAPES = 4  # ENABLE_VIRTUAL_TERMINAL_PROCESSING

_position = threading.Lock()  # of the files that `read_at` and `write_at` move


# --- files


def open_movable(path: Path, flags: int, mode: int = 0o777) -> int:
    """Open a file to read and write it, which may be renamed and removed meanwhile; `os.open` allows neither.

    Args:
        path: the file.
        flags: as of `os.open`; O_CREAT only together with O_EXCL.
        mode: means nothing here.

    Raises:
        OSError: it cannot be opened.
    """
    import ctypes
    import msvcrt

    create = ctypes.WinDLL("kernel32", use_last_error=True).CreateFileW
    create.restype = ctypes.c_void_p
    create.argtypes = [
        *(ctypes.c_wchar_p, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p),
        *(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p),
    ]
    disposition = _CREATE_NEW if flags & os.O_CREAT else _OPEN_EXISTING
    handle = create(str(path), _READ_AND_WRITE, _SHARE_ALL, None, disposition, 0, None)
    if handle == ctypes.c_void_p(-1).value:
        code = ctypes.get_last_error()
        raise OSError(None, ctypes.FormatError(code), str(path), code)
    return msvcrt.open_osfhandle(handle, flags)


def open_lock(folder: Path) -> int:
    """Open what `lock_file` locks for a folder: a file in it, since no folder can be opened.

    Raises:
        OSError: it cannot be opened.
    """
    return os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_BINARY)


def names_stream(path: Path) -> bool:
    """Whether a path names a stream inside of a file, as `notes.txt:more` and `notes.txt::$DATA` do."""
    return any(":" in part for part in path.parts[1:])


def lock_file(descriptor: int) -> bool:
    """Lock an open file without waiting; False if another process has locked it.

    The lock is on a byte beyond any file's end: nobody else may read or write the bytes that are locked.
    """
    import msvcrt

    with _position:
        before = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
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


def is_broken_pipe(error: OSError) -> bool:
    """Whether nobody reads what was written any more; the C library calls that an invalid argument."""
    return isinstance(error, BrokenPipeError) or (error.errno == errno.EINVAL and error.filename is None)


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
    timer = threading.Timer(seconds, os._exit, (OUT_OF_TIME,))
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
    """Kill a process, and what it started."""
    import subprocess

    command = [_system_program("taskkill.exe"), "/f", "/t", "/pid", str(process)]
    root = {"SYSTEMROOT": os.environ.get("SYSTEMROOT", r"C:\Windows")}
    subprocess.run(command, env=root, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child process has ended."""
    return process.poll() is not None


def terminate_own_group() -> None:
    """Nothing: there is no signal that asks processes to end."""


def crash_name(code: int) -> str:
    """What ended a process, by its exit code; empty for one that exited by itself."""
    return _CRASHES.get(code, f"status 0x{code:X}" if code >= 0xC0000000 else "")


def send_signal(number: int) -> None:
    """Send a signal to this process, from any thread; `os.kill` would end it."""
    signal.raise_signal(number)


def lines_of(pipe: IO[bytes]) -> Any:
    """What reads lines of a pipe so that Ctrl+C ends the wait for one."""
    from chat.platform.pipe_lines import PipeLines

    return PipeLines(pipe)


def shell_command(text: str) -> str | list[str]:
    """The command that has the system's shell run a line, whose quotes are the shell's."""
    return f'"{_system_program("cmd.exe")}" /d /s /c "{text}"'


def console_output(data: bytes) -> bytes:
    """What a program wrote to a console or a pipe, as UTF-8 with line feeds; many write the console's code page."""
    try:
        data.decode()
    except UnicodeDecodeError:
        if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            data = data.decode("oem", "replace").encode()
    return data.replace(b"\r\n", b"\n")


def split_words(text: str) -> list[str]:
    """The words of a line, split at spaces that are not quoted; a backslash is a part of a path.

    Raises:
        ValueError: a quote has no end.
    """
    import shlex

    words = shlex.shlex(text, posix=True, punctuation_chars=False)
    words.whitespace_split, words.commenters, words.escape = True, "", ""
    return list(words)


def quoted(word: str) -> str:
    """A word as the user types it in the system's shell."""
    import re

    if re.fullmatch(r"[\w.,:\\/~+=@-]+", word):
        return word
    return '"' + word.replace('"', '\\"') + '"'


def _system_program(name: str) -> str:
    """The path of a program of Windows; by its name alone one in the working folder would be run."""
    return os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", name)  # noqa: PTH118


def c_library() -> ctypes.CDLL:
    """The C library that is a part of Windows."""
    import ctypes

    return ctypes.CDLL("msvcrt")


def library_file(name: str) -> str:
    """The file of a shared library, such as ggml.dll of `ggml`."""
    return f"{name}.dll"


# --- the terminal, whose modes prompt_toolkit changes during a prompt, and the standard streams


class _Device(io.TextIOWrapper):
    """A device that is no console, such as NUL; Python takes each for a terminal."""

    def isatty(self) -> bool:
        """False."""
        return False


def prepare_streams() -> None:
    """Have consoles obey escape sequences; files and pipes get UTF-8 with line feeds, as on other systems."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream.isatty() and not _is_console(stream.fileno(), obeys_escapes=name != "stdin"):
            stream = _Device(stream.detach(), errors="replace")
            setattr(sys, name, stream)
        if not stream.isatty():
            encoding = None if "PYTHONIOENCODING" in os.environ else "utf-8"
            stream.reconfigure(encoding=encoding, newline=None if name == "stdin" else "\n")


def _is_console(descriptor: int, *, obeys_escapes: bool) -> bool:
    """Whether a descriptor is a console's, which is made to obey escape sequences if it is to show something."""
    import ctypes
    import msvcrt

    kernel, handle, mode = ctypes.windll.kernel32, msvcrt.get_osfhandle(descriptor), ctypes.c_ulong()
    if not kernel.GetConsoleMode(ctypes.c_void_p(handle), ctypes.byref(mode)):
        return False
    if obeys_escapes:
        kernel.SetConsoleMode(ctypes.c_void_p(handle), mode.value | _ENABLE_ESCAPES)
    return True


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
