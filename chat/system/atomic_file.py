"""Write a file whole or not at all. Knows no formats."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from chat.errors import FileError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def write_file(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a text that only its owner may read.

    Raises:
        UsageError: there is such a file, and `overwrite` is false.
        FileError: it cannot be written.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists", hint="choose another name, or add `--overwrite`")
    neighbour = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        try:
            descriptor = os.open(neighbour, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            neighbour.replace(path)
            sync_folder(path.parent)
        finally:
            neighbour.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make names in `folder` survive a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
