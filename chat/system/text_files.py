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


def read_text(path: Path) -> str:
    """The text of a small UTF-8 file, without its byte order mark.

    Raises:
        FileError: it cannot be read.
        DataError: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        FileError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error


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
