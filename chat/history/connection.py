"""A connection that never fails its user: it follows, mends or leaves its file. Knows SQL errors, not sessions."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from chat.core.events import Notice
from chat.history.history_file import file_identity, open_file
from chat.history.schema import RefusedError, connect_memory, copy_to_memory, is_damage, primary_code, transact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chat.history.recovery import Recovered

T = TypeVar("T")

COPIED_BYTES = 64 << 20  # a history up to this size is copied to memory when its file fails
ATTEMPTS = 3  # on a damaged file, on the mended one, in memory

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "permission denied",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_IOERR: "the disk is full or broken",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is damaged",
}


class ResilientConnection:
    """Runs work on the history in a file, or in memory once the file cannot be used.

    Going from one file to another, or to memory, `put_back` stores again what its owner is working on.
    """

    def __init__(self, path: Path | None, put_back: Callable[[sqlite3.Connection], None]) -> None:
        self.path = path.absolute() if path else None  # None: in memory
        self.failure = ""  # why it is in no file, although it should be
        self.is_unread = False  # what is in the file is not here either
        self.lock = threading.RLock()
        self._put_back = put_back
        self._notices: list[Notice] = []
        self._identity: tuple[int, int] | None = None
        if self.path is None:
            self._connection = connect_memory()
            return
        try:
            self._connect(self.path, damaged=False)
        except (OSError, sqlite3.Error, RefusedError) as error:
            self._copy_to_memory(self.path, error)

    def fail(self, reason: str) -> None:
        """Say that from now on nothing outlives this program."""
        self.path, self.failure = None, reason
        self._notices.append(Notice(f"the history cannot be used ({reason}): this chat is kept in memory only"))

    def take_notices(self) -> tuple[Notice, ...]:
        """What the person should know and was not told yet."""
        with self.lock:
            notices, self._notices = tuple(self._notices), []
        return notices

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction that is committed when this returns; it may run more than once.

        Raises:
            sqlite3.IntegrityError: the work breaks a rule of the tables.
        """
        return self._guarded(lambda: transact(self._connection, work))

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which sees one moment of the history."""
        return self._guarded(lambda: transact(self._connection, work, kind="DEFERRED"))

    def truncate_log(self) -> None:
        """Overwrite what the write-ahead log still holds of removed rows, unless another program is reading."""
        with self.lock, suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Let go of the file; harmless when already closed."""
        with self.lock, suppress(sqlite3.Error):
            self._connection.close()

    def _guarded(self, attempt: Callable[[], T]) -> T:
        with self.lock:
            if self.path and file_identity(self.path) != self._identity:
                self._reopen(self.path, damaged=False)  # replaced or deleted: what goes to the old one would be lost
            for _ in range(ATTEMPTS - 1):
                try:
                    return attempt()
                except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
                    raise
                except sqlite3.Error as error:
                    if self.path is None:
                        raise
                    self._mend(self.path, error)
            return attempt()

    def _mend(self, path: Path, error: sqlite3.Error) -> None:
        if is_damage(error):
            self._reopen(path, damaged=file_identity(path) == self._identity)
        else:
            self._go_on_in_memory(path, error)

    def _reopen(self, path: Path, *, damaged: bool) -> None:
        try:
            self._connection.close()
            self._connect(path, damaged=damaged)
            transact(self._connection, self._put_back)
        except (OSError, sqlite3.Error, RefusedError) as error:
            self._go_on_in_memory(path, error)

    def _connect(self, path: Path, *, damaged: bool) -> None:
        self._connection, recovered = open_file(path, damaged=damaged)
        self._identity = file_identity(path)
        if recovered:
            self._notices.append(Notice(_recovery_text(recovered)))

    def _go_on_in_memory(self, path: Path, error: Exception) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()
        self._copy_to_memory(path, error)
        transact(self._connection, self._put_back)

    def _copy_to_memory(self, path: Path, error: Exception) -> None:
        """Leave the file, with what is in it if all that is wrong is that it cannot be written."""
        copied = None if isinstance(error, RefusedError) or is_damage(error) else _memory_copy(path)
        self._connection = copied or connect_memory()
        self.is_unread = copied is None
        self.fail(_reason(error))


def _memory_copy(path: Path) -> sqlite3.Connection | None:
    """A history in memory that equals the file; None where it cannot be read, or is too large."""
    with suppress(sqlite3.Error, OSError, RefusedError):
        if path.is_file() and path.stat().st_size <= COPIED_BYTES:
            return copy_to_memory(path)
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, sqlite3.Error):
        return _REASONS.get(primary_code(error), str(error))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


def _recovery_text(recovered: Recovered) -> str:
    return (
        f"the history was damaged: {recovered.messages} messages of {recovered.sessions} sessions were recovered,"
        f" the damaged file is kept as {recovered.aside.name}"
    )
