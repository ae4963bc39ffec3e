"""Write a file completely or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from chat.errors import FileError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def write_file(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a UTF-8 text that only its owner may read.

    Raises:
        UsageError: the file exists, and `overwrite` is false.
        FileError: it cannot be written.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists", hint="choose another name, or add `--overwrite`")
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk, if the system can, so that they survive a power cut."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
