"""Linux and macOS. Modules of the system are imported where they are used: not every build of Python has each."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any
from unicodedata import normalize

assert sys.platform != "win32"

if TYPE_CHECKING:
    import ctypes
    import mmap
    import subprocess
    from pathlib import Path

# Flags of os.open
BINARY = 0
NO_FOLLOW = os.O_NOFOLLOW  # fails at a link
NO_TERMINAL = os.O_NOCTTY  # a terminal does not become the controlling one
NON_BLOCKING = os.O_NONBLOCK  # opening a pipe does not wait for the other end

OWN_GROUP = 0  # creation flag of a child process that Ctrl+C does not reach; here `start_new_session` does that
KILLED: int | None = -signal.SIGKILL  # exit code of a child process that was killed
BAD_INSTRUCTION = -signal.SIGILL  # exit code of one that used an instruction that the processor lacks
OUT_OF_TIME = -signal.SIGPROF  # exit code of one that `limit_processor_seconds` ended
HANGUP = signal.SIGHUP  # the signal of a terminal that is gone
EDITOR = "vi"  # of a user who has set none
TERM = "dumb"  # the kind of a terminal that does not say what it is
FOLDS_NAMES = sys.platform == "darwin"  # its file systems do so by default


# --- files


def open_movable(path: Path, flags: int, mode: int = 0o777) -> int:
    """Open a file as `os.open` does, which may be renamed and removed meanwhile.

    Raises:
        OSError: it cannot be opened.
    """
    return os.open(path, flags, mode)


def open_lock(folder: Path) -> int:
    """Open what `lock_file` locks for a folder.

    Raises:
        OSError: it cannot be opened.
    """
    return os.open(folder, os.O_RDONLY)


def names_stream(path: Path) -> bool:
    """Whether a path names a stream inside of a file: there are none."""
    return False


def lock_file(descriptor: int) -> bool:
    """Lock an open file or folder for this process without waiting; where there are no locks, nothing is locked.

    Returns:
        False if another process has locked it.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def read_at(descriptor: int, count: int, offset: int) -> bytes:
    """Read up to `count` bytes at an offset; the file's position stays, and several threads may do so at once.

    Raises:
        OSError: they cannot be read.
    """
    return os.pread(descriptor, count, offset)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write at an offset, as `read_at` reads.

    Returns:
        How many bytes were written.

    Raises:
        OSError: they cannot be written.
    """
    return os.pwrite(descriptor, data, offset)


def folded_name(name: str) -> str:
    """A text that is equal for names which mean one file: on macOS in any case, and composed or not."""
    return normalize("NFC", normalize("NFD", name).casefold()) if FOLDS_NAMES else name


def sync_folder(folder: Path) -> None:
    """Bring new names in a folder to the disk.

    Raises:
        OSError: the disk fails.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_file_mode(descriptor: int, mode: int) -> None:
    """Set the permissions of an open file.

    Raises:
        OSError: the file system refuses.
    """
    os.fchmod(descriptor, mode)


def is_broken_pipe(error: OSError) -> bool:
    """Whether nobody reads what was written any more."""
    return isinstance(error, BrokenPipeError)


def allocated_bytes(status: os.stat_result) -> int:
    """The bytes that a file takes on the disk, which are fewer than its size if it has holes."""
    return status.st_blocks * 512


def make_blocking(descriptor: int) -> None:
    """Let reads and writes wait from now on."""
    os.set_blocking(descriptor, True)


def memory_file() -> int | None:
    """The descriptor of a file that is in memory only; None where there is none, as on macOS."""
    if sys.platform == "linux":
        return os.memfd_create("mistral-chat")
    return None


def prefetch(mapped: mmap.mmap, offset: int, count: int) -> None:
    """Have the system read whole pages of a mapped file ahead."""
    import mmap

    mapped.madvise(mmap.MADV_WILLNEED, offset, count)


def release(mapped: mmap.mmap, offset: int, count: int) -> None:
    """Let go of whole pages of a mapped file; reading them again maps them again."""
    import mmap

    mapped.madvise(mmap.MADV_DONTNEED, offset, count)


# --- processes and memory


def address_space_limit() -> int | None:
    """The bytes that this process and each of its children may map; None where there is no limit."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def limit_memory(count: int) -> None:
    """Limit what this process may use, as far as the system can: on macOS the limit counts what is reserved."""
    import resource

    if sys.platform == "linux":
        with suppress(ValueError, OSError):  # a lower limit is in force
            resource.setrlimit(resource.RLIMIT_AS, (count, count))


def limit_processor_seconds(seconds: float) -> None:
    """End this process by a signal when it has used so much processor time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def most_memory_used() -> int | None:
    """The most bytes that were resident in this process; None if unknown."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def physical_memory() -> int:
    """The bytes of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * page_bytes()


def page_bytes() -> int:
    """The size of a page."""
    return os.sysconf("SC_PAGE_SIZE")


def load_average() -> float | None:
    """How many processes ran or waited for a processor in the last minute; None if unknown."""
    with suppress(OSError):
        return os.getloadavg()[0]
    return None


def kill_group(process: int) -> None:
    """Kill a process that leads a session, and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child process has ended; its number still belongs to it and to its group where it was not reaped."""
    if process.returncode is not None:
        return True
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def terminate_own_group() -> None:
    """Ask all that this process started in its group to end; only for the main thread."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)


def crash_name(code: int) -> str:
    """What ended a process, by its exit code: the name of a signal; empty for one that exited by itself."""
    if code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def send_signal(number: int) -> None:
    """Send a signal to this process, from any thread."""
    os.kill(os.getpid(), number)


def lines_of(pipe: IO[bytes]) -> IO[bytes]:
    """What reads lines of a pipe so that Ctrl+C ends the wait for one."""
    return pipe


def shell_command(text: str) -> str | list[str]:
    """The command that has the system's shell run a line."""
    return ["/bin/sh", "-c", text]


def console_output(data: bytes) -> bytes:
    """What a program wrote, as it is."""
    return data


def split_words(text: str) -> list[str]:
    """The words of a line, as the system's shell splits it at spaces that are not quoted.

    Raises:
        ValueError: a quote has no end.
    """
    import shlex

    return shlex.split(text)


def quoted(word: str) -> str:
    """A word as the user types it in the system's shell."""
    import shlex

    return shlex.quote(word)


def c_library() -> ctypes.CDLL:
    """The C library."""
    import ctypes

    return ctypes.CDLL(None)


def library_file(name: str) -> str:
    """The file of a shared library, such as libggml.so of `ggml`."""
    return f"lib{name}.dylib" if sys.platform == "darwin" else f"lib{name}.so"


# --- the terminal and the standard streams


def prepare_streams() -> None:
    """Do nothing: the locale says how text is encoded, and TERM what a terminal understands."""


def terminal_modes(descriptor: int) -> list[Any] | None:
    """The modes of a terminal as termios gives them; None if it is none."""
    import termios

    try:
        return termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):
        return None


def raw_modes(modes: list[Any]) -> list[Any]:
    """The same modes, but keys are neither shown nor held back until Enter, and Enter arrives as Enter."""
    import termios

    changed = [*modes]
    changed[0] &= ~termios.ICRNL
    changed[3] &= ~(termios.ECHO | termios.ICANON)
    return changed


def set_terminal_modes(descriptor: int, modes: list[Any]) -> None:
    """Set the modes of a terminal, if it is still there."""
    import termios

    with suppress(OSError, ValueError, termios.error):
        termios.tcsetattr(descriptor, termios.TCSADRAIN, modes)


def drop_waiting_bytes(descriptor: int) -> None:
    """Forget what was typed and not read yet, if it is a terminal."""
    import termios

    with suppress(termios.error):
        termios.tcflush(descriptor, termios.TCIFLUSH)


def waiting_bytes(descriptor: int) -> bytes:
    """What was typed and not read yet.

    Raises:
        OSError: it is no terminal.
    """
    import fcntl
    import termios

    count = int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
    return os.read(descriptor, count) if count else b""
