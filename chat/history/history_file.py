"""Make and open the history's file: who may read it, and who opens it when. Knows no rows."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from stat import S_IMODE, S_ISREG
from typing import TYPE_CHECKING

from chat.history.recovery import Recovered, recover
from chat.history.schema import DamagedError, connect_file
from chat.system.paths import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_MODE = 0o600
TURN_SECONDS = 20.0  # how long another program may take to open or mend the file


def open_file(path: Path, *, damaged: bool = False) -> tuple[sqlite3.Connection, Recovered | None]:
    """Open the history at `path`, made if missing, and replaced by what can be read of it if damaged.

    Args:
        damaged: it is known to be, whatever a look at it says.

    Raises:
        OSError, sqlite3.Error: it cannot be made, read or written.
        RefusedError: it is not ours to touch.
    """
    make_private_folder(path.parent)
    with _alone(path.parent):
        _make_private_file(path)
        if not damaged:
            with suppress(DamagedError):
                return _connect_private(path), None
        recovered = recover(path)
        return _connect_private(path), recovered


def make_private(place: Path, mode: int) -> None:
    """Take away what `mode` does not allow, where that is ours to do."""
    with suppress(OSError):
        now = S_IMODE(place.stat().st_mode)
        if now & ~mode:
            place.chmod(now & mode)


def file_identity(path: Path) -> tuple[int, int] | None:
    """Which file the name means now; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_private_file(path: Path) -> None:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    if not S_ISREG(path.stat().st_mode):
        raise OSError(f"{path.name} is not a file")


def _connect_private(path: Path) -> sqlite3.Connection:
    # SQLite gives the files beside it (-wal, -shm) the mode of the database.
    for suffix in ("", "-wal", "-shm"):
        make_private(path.with_name(path.name + suffix), FILE_MODE)
    return connect_file(path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one program at a time open a history of `folder`, so that none opens one that is being mended."""
    try:
        import fcntl
    except ImportError:  # Windows: a file that is open cannot be replaced there anyway
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + TURN_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OSError("another program is opening it") from None
                time.sleep(0.02)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(descriptor)
