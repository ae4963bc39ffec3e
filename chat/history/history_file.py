"""Open the history's file: create it, protect it from other users, recover it if damaged; check it without changes."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_IMODE, S_ISREG
from typing import TYPE_CHECKING

from chat import platform
from chat.errors import DataError
from chat.history.recovery import Recovered, recover
from chat.history.schema import CHECKED_BYTES, DATABASE_ERRORS, DamagedError, RefusedError, check_version, connect_file
from chat.system.paths import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_MODE = 0o600
LOCK_SECONDS = 20.0  # how long another program may take to open or recover the file
PAUSE_SECONDS = 0.02  # between two attempts


def open_file(path: Path, *, damaged: bool = False) -> tuple[sqlite3.Connection, Recovered | None]:
    """Open the history at `path`.

    A missing file is created; a damaged one is replaced by a new file with everything that can be read.

    Args:
        path: the file.
        damaged: the file is known to be damaged, even if no check finds it.

    Returns:
        The connection, and what was recovered from a damaged file.

    Raises:
        OSError, sqlite3.Error: the file cannot be created, read or written.
        RefusedError: a newer version or another program wrote it.
    """
    make_private_folder(path.parent)
    with _locked(path.parent):
        _make_private_file(path)
        if not damaged:
            with suppress(DamagedError):
                return _connect_private(path), None
        recovered = recover(path)
        return _connect_private(path), recovered


def make_private(path: Path, mode: int) -> None:
    """Remove permissions that are not in `mode` from a file or folder, if this user may do that."""
    with suppress(OSError):
        current = S_IMODE(path.stat().st_mode)
        if current & ~mode:
            path.chmod(current & mode)


def file_identity(path: Path) -> tuple[int, int] | None:
    """The device and inode of the file that `path` names now; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _make_private_file(path: Path) -> None:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    if not S_ISREG(path.stat().st_mode):
        raise OSError(f"{path.name} is not a file")


def _connect_private(path: Path) -> sqlite3.Connection:
    """Open the history, with the permissions of others removed: from what a link names only if that is a history."""
    is_link = path.is_symlink()
    if not is_link:
        _make_all_private(path)
    connection = connect_file(path)
    if is_link:
        _make_all_private(Path(os.path.realpath(path)))
    return connection


def _make_all_private(path: Path) -> None:
    # SQLite gives new files beside the database (-wal, -shm) the mode of the database.
    for suffix in ("", "-wal", "-shm"):
        make_private(path.with_name(path.name + suffix), FILE_MODE)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no other program opens a history that is being recovered."""
    descriptor = platform.open_lock(folder)
    waited = 0.0  # by no clock: the program may be stopped meanwhile
    try:
        while not platform.lock_file(descriptor):
            if waited > LOCK_SECONDS:
                raise OSError("another program is opening it")
            time.sleep(PAUSE_SECONDS)
            waited += PAUSE_SECONDS
        yield
    finally:
        os.close(descriptor)


def count_sessions(path: Path) -> int:
    """Count the sessions of a history, and check all pages of a file up to `CHECKED_BYTES`.

    Raises:
        DataError: it is damaged, it cannot be opened, or a newer version or another program wrote it.
    """
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=1.0)) as connection:
            if check_version(connection) == 0:
                return 0
            if path.stat().st_size <= CHECKED_BYTES:
                verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise DataError(f"{path}: {verdict}")
            return int(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])
    except (*DATABASE_ERRORS, RefusedError) as error:
        raise DataError(f"{path}: {error}") from error
