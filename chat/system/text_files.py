"""Read and write files that the user names; a file is written completely or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from chat import platform
from chat.errors import DataError, FileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.errors import ChatError

MOST_TEXT_BYTES = 64 << 20  # no prompt is longer: the largest contexts hold a few million tokens

READ_BYTES = 1 << 20  # at a time: a read reserves all that it asks for
STREAM_FLAGS = os.O_WRONLY | os.O_APPEND | platform.NO_TERMINAL | platform.BINARY
LONGEST_CHAIN = 40  # links, as Linux allows
LONGEST_BEGINNING = 200  # bytes of a file's name in that of its temporary file; 255 is the most for a name
_DESCRIPTORS = re.compile(r"/dev/fd|/proc/(self|\d+)(/task/\d+)?/fd")


def read_text(path: Path, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """The text of a small UTF-8 file, without its byte order mark.

    Raises:
        FileError: it cannot be read.
        DataError: it is not UTF-8, or too large.
    """
    try:
        return read_bytes(path, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def read_plain_text(path: Path) -> str:
    """The text of a file, byte by byte as llama-perplexity and llama-imatrix read it: without the last line break.

    Raises:
        FileError: it cannot be read.
        DataError: it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def read_bytes(path: Path, most_bytes: int = MOST_TEXT_BYTES, *, too_large: type[ChatError] = DataError) -> bytes:
    """The content of a file; a device or a pipe is read up to its end.

    Args:
        too_large: the error if it is larger than `most_bytes`.

    Raises:
        FileError: it cannot be read.
        DataError: it is too large.
    """
    try:
        _check_name(path)
        with path.open("rb") as file:
            return read_stream(file, str(path), most_bytes, too_large=too_large)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error


def read_stream(
    stream: IO[bytes], name: str, most_bytes: int = MOST_TEXT_BYTES, *, too_large: type[ChatError] = DataError
) -> bytes:
    """The rest of a stream, in memory.

    Args:
        name: of the stream, for the error.
        too_large: the error if it is larger than `most_bytes`.

    Raises:
        ChatError: it is too large.
        OSError: it cannot be read.
    """
    data, is_whole = bytearray(), False
    while not is_whole and len(data) <= most_bytes:
        asked = min(READ_BYTES, most_bytes + 1 - len(data))
        part = stream.read(asked)
        is_whole = len(part) < asked  # to ask again would wait for a second Ctrl+D
        data += part
    if len(data) > most_bytes:
        raise too_large(f"{name}: is larger than the limit of {most_bytes >> 20} MiB")
    return bytes(data)


def read_beginning(path: Path, most_bytes: int) -> bytes:
    """The content of a file in a folder that anybody may have made, or as much of it as is taken.

    No link is followed, and what has no end yet is not waited for.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | platform.NON_BLOCKING | platform.NO_FOLLOW | platform.BINARY)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most_bytes) or b""


def is_file(name: str) -> bool:
    """Whether a text is the path of a file."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def is_stream(path: Path) -> bool:
    """Whether what is written to `path` goes to a device or a pipe, or to a descriptor of this process by its name.

    Such a place is written to, and never replaced, whatever stands behind it.

    Raises:
        FileError: it is a block device or a socket, to which no output belongs.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return True
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise FileError(f"{path}: is not a regular file", hint="name another file")
    link = path.absolute()
    for _ in range(LONGEST_CHAIN):  # /dev/stdout may stand for a file that the shell has opened
        if _DESCRIPTORS.fullmatch(str(link.parent)):
            return True
        if not link.is_symlink():
            return False
        link = link.parent.resolve() / link.readlink()
    return False


def real_path(path: Path) -> Path:
    """The path that a link, or a chain of them, stands for: what is written goes there, and the link stays.

    Raises:
        OSError: the links have no end, or no file can have the name.
    """
    _check_name(path)
    found = Path(os.path.realpath(path))
    if found.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return found


def _check_name(path: Path) -> None:
    """Raise the error that the system would have for a name with a NUL; Python has a ValueError for it."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "no file has such a name")


def can_be_read(name: str) -> bool:
    """Whether a text is the path of a file, or of a device or a pipe, as a shell gives for `<(command)`."""
    try:
        return Path(name).exists() and not Path(name).is_dir()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def write_file(path: Path, text: str, *, overwrite: bool = False, waits: bool = True) -> None:
    """Write a UTF-8 text that only its owner may read; to a device or a pipe as it is, and through links.

    Args:
        overwrite: whether a file may exist, which is replaced.
        waits: whether a pipe that nobody reads is waited for; else that is an error, also in the middle of the text.

    Raises:
        UsageError: the file exists, and `overwrite` is false.
        FileError: it cannot be written; or nobody reads the pipe.
        BrokenPipeError: the reader of the pipe has gone, and `waits` is true.
    """
    data = text.encode("utf-8", "replace")
    to_stream = is_stream(path)
    if path.exists() and not (overwrite or to_stream):
        raise UsageError(f"{path} exists", hint="choose another name, or add `--overwrite`")
    try:
        if to_stream:
            with open(path, "wb", opener=lambda name, _: _open_stream(Path(name), STREAM_FLAGS, waits=waits)) as file:
                file.write(data)
        else:
            with replaced_file(path) as file:
                file.write(data)
    except OSError as error:
        if waits and isinstance(error, BrokenPipeError):
            raise
        raise _not_written(path, error) from error


def open_log(path: Path) -> IO[bytes]:
    """Open a file to append to, which only its owner may read if it is new; a device or a pipe is written to.

    Raises:
        FileError: it cannot be written; nobody reads the pipe.
    """
    try:
        _check_name(path)
        if is_stream(path) and stat.S_ISFIFO(path.stat().st_mode):
            return os.fdopen(_open_stream(path, os.O_WRONLY, waits=False), "wb", buffering=0)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | platform.NO_TERMINAL | platform.BINARY
        descriptor = os.open(path, flags, 0o600)
        return os.fdopen(descriptor, "r+b", buffering=0)
    except OSError as error:
        raise _not_written(path, error) from error


def _open_stream(path: Path, flags: int, *, waits: bool) -> int:
    """The descriptor of a device or a pipe.

    Args:
        waits: whether a pipe that nobody reads is waited for; else it is an error.

    Raises:
        OSError: it cannot be opened.
    """
    if waits or not stat.S_ISFIFO(path.stat().st_mode):
        return os.open(path, flags)
    descriptor = os.open(path, flags | platform.NON_BLOCKING)
    platform.make_blocking(descriptor)
    return descriptor


def _not_written(path: Path, error: OSError) -> FileError:
    reason = "nobody reads this pipe" if error.errno in (errno.ENXIO, errno.EPIPE) else error.strerror
    return FileError(f"{path}: cannot be written: {reason}")


@contextmanager
def replaced_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that takes the name `path` when it is complete; after an error the earlier file stays.

    A link stays, and what it stands for is replaced.

    Yields:
        The new file, which only its owner may read.

    Raises:
        OSError: it cannot be written.
    """
    path = real_path(path)
    begun = os.fsdecode(os.fsencode(path.name)[:LONGEST_BEGINNING])  # no longer than what the name itself takes
    temporary = path.with_name(f".{begun}.{os.urandom(4).hex()}")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk, if the system can, so that they survive a power cut."""
    with suppress(OSError):
        platform.sync_folder(folder)
