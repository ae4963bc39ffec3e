"""Read files that the user names, with errors that say which file and why."""

from __future__ import annotations

from pathlib import Path

from chat.errors import DataError, FileError


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
