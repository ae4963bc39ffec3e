"""Read and write files that the user names; a file is written completely or not at all."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from chat.errors import DataError, FileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.errors import ChatError

MOST_TEXT_BYTES = 64 << 20  # no prompt is longer: the largest contexts hold a few million tokens


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


def read_bytes(path: Path, most_bytes: int = MOST_TEXT_BYTES, *, too_large: type[ChatError] = DataError) -> bytes:
    """The content of a file; a device or a pipe is read up to its end.

    Args:
        too_large: the error if it is larger than `most_bytes`.

    Raises:
        FileError: it cannot be read.
        DataError: it is too large.
    """
    try:
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
    data = stream.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise too_large(f"{name}: is larger than the limit of {most_bytes >> 20} MiB")
    return data


def is_file(name: str) -> bool:
    """Whether a text is the path of a file."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def write_file(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a UTF-8 text that only its owner may read.

    Raises:
        UsageError: the file exists, and `overwrite` is false.
        FileError: it cannot be written.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists", hint="choose another name, or add `--overwrite`")
    try:
        with replaced_file(path) as file:
            file.write(text.encode("utf-8", "replace"))
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}") from error


def open_log(path: Path) -> IO[bytes]:
    """Open a file to append to, which only its owner may read if it is new; a device or a pipe is written to.

    Raises:
        FileError: it cannot be written; nobody reads the pipe.
    """
    try:
        if stat.S_ISFIFO(path.stat().st_mode) if path.exists() else False:  # else opening would wait for a reader
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            os.set_blocking(descriptor, True)
            return os.fdopen(descriptor, "wb", buffering=0)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOCTTY, 0o600)
        return os.fdopen(descriptor, "r+b", buffering=0)
    except OSError as error:
        reason = "nobody reads this pipe" if error.errno == errno.ENXIO else error.strerror
        raise FileError(f"{path}: cannot be written: {reason}") from error


@contextmanager
def replaced_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that takes the name `path` when it is complete; after an error the earlier file stays.

    Yields:
        The new file, which only its owner may read.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
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
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
