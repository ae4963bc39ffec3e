"""A connection to the history that recovers or replaces a damaged file, and falls back to memory."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from chat.core.events import Notice
from chat.history.history_file import file_identity, open_file
from chat.history.schema import (
    DATABASE_ERRORS,
    DamagedError,
    RefusedError,
    connect_memory,
    copy_to_memory,
    has_other_tables,
    is_damage,
    is_refused,
    primary_code,
    run_transaction,
)
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chat.history.recovery import Recovered

T = TypeVar("T")

MAX_COPIED_BYTES = 64 << 20  # a file up to this size is copied to memory when it cannot be written
ATTEMPTS = 3  # on a damaged file, on the recovered one, in memory

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "permission denied",
    sqlite3.SQLITE_BUSY: "another program is using it",
    sqlite3.SQLITE_IOERR: "the disk is full or broken",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is damaged",
}


class ResilientConnection:
    """Runs transactions on the history's file, or in memory once the file cannot be used.

    A damaged file is recovered, a deleted or replaced one is opened again; then, as in memory, the owner's sessions are
    restored and the transaction is tried again.

    Attributes:
        path: the file; None in memory.
        failure: why the history is in memory although it should be in a file; empty if it is not.
        is_file_unread: whether the sessions of the file are missing in memory.
        lock: held while a transaction runs.
    """

    def __init__(self, path: Path | None, restore: Callable[[sqlite3.Connection], None]) -> None:
        """Open the file at `path`, or a history in memory.

        Args:
            path: the file, created if it is missing; None for memory.
            restore: stores the open sessions in a history that lacks them.
        """
        self.path = path.absolute() if path else None
        self.failure = ""
        self.is_file_unread = False
        self.lock = threading.RLock()
        self._restore = restore
        self._notices: list[Notice] = []
        self._identity: tuple[int, int] | None = None
        if self.path is None:
            self._connection = connect_memory()
            return
        try:
            self._connect(self.path, damaged=False)
        except (OSError, sqlite3.Error, RefusedError) as error:
            self._connect_memory_copy(self.path, error)

    def fail(self, reason: str) -> None:
        """Record that the history is in memory only, with a notice for the user."""
        self.path, self.failure = None, reason
        self._notices.append(Notice(f"the history cannot be used ({reason}): this chat is kept in memory only"))

    def take_notices(self) -> tuple[Notice, ...]:
        """The notices since the last call."""
        with self.lock:
            notices, self._notices = tuple(self._notices), []
        return notices

    def write(self, transaction: Callable[[sqlite3.Connection], T]) -> T:
        """Run a transaction that is committed, with a sync, when this returns.

        Args:
            transaction: called with the connection, and again after a recovery.

        Raises:
            sqlite3.IntegrityError: it breaks a constraint of the tables.
        """
        return self._retry(lambda: run_transaction(self._connection, transaction))

    def read(self, transaction: Callable[[sqlite3.Connection], T]) -> T:
        """Run a transaction that only reads; all its queries see the same state."""
        return self._retry(lambda: run_transaction(self._connection, transaction, kind="DEFERRED"))

    def truncate_log(self) -> None:
        """Remove deleted rows from the write-ahead log too; without effect while another program reads."""
        with self.lock, suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close the file; without effect when it is closed."""
        with self.lock, suppress(sqlite3.Error):
            self._connection.close()

    def _retry(self, attempt: Callable[[], T]) -> T:
        with self.lock:
            if self.path and file_identity(self.path) != self._identity:
                self._reopen(self.path, damaged=False)  # replaced or deleted: writes to the old file would be lost
            for _ in range(ATTEMPTS - 1):
                try:
                    return attempt()
                except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
                    raise
                except DATABASE_ERRORS as error:
                    if self.path is None:
                        raise
                    self._recover(self.path, error)
            return attempt()

    def _recover(self, path: Path, error: Exception) -> None:
        if is_damage(error) or (is_refused(error) and has_other_tables(self._connection)):
            self._reopen(path, damaged=file_identity(path) == self._identity)
        else:
            self._fall_back_to_memory(path, error)

    def _reopen(self, path: Path, *, damaged: bool) -> None:
        try:
            self._connection.close()
            self._connect(path, damaged=damaged)
            run_transaction(self._connection, self._restore)
        except (OSError, sqlite3.Error, RefusedError) as error:
            self._fall_back_to_memory(path, error)

    def _connect(self, path: Path, *, damaged: bool) -> None:
        self._connection, recovered = open_file(path, damaged=damaged)
        self._identity = file_identity(path)
        if recovered:
            self._notices.append(Notice(_recovery_text(recovered)))

    def _fall_back_to_memory(self, path: Path, error: Exception) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()
        self._connect_memory_copy(path, error)
        run_transaction(self._connection, self._restore)

    def _connect_memory_copy(self, path: Path, error: Exception) -> None:
        """Open a history in memory, with the sessions of the file if it can be read."""
        copied = None if isinstance(error, RefusedError) or is_damage(error) else _memory_copy(path)
        self._connection = copied or connect_memory()
        self.is_file_unread = copied is None
        self.fail(_reason(error))


def _memory_copy(path: Path) -> sqlite3.Connection | None:
    """A copy of the file in memory; None if it cannot be read or is too large."""
    with suppress(sqlite3.Error, OSError, RefusedError, DamagedError):
        if path.is_file() and path.stat().st_size <= MAX_COPIED_BYTES:
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
        f"the history was damaged: recovered {counted(recovered.messages, 'message')}"
        f" of {counted(recovered.sessions, 'session')}; the damaged file is kept as {recovered.damaged_file.name}"
    )
