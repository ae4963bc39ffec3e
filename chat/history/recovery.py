"""Move a damaged history damaged_file and read what can be read of it into a new one. Knows our rows, not who asks."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from chat.history.records import SESSION_ID
from chat.history.rows import NODE_COLUMNS, SESSION_COLUMNS, node_of
from chat.history.schema import INSERT_SESSION, PUT_NODE, migrate, run_transaction
from chat.history.sqlite_pages import PAGE_BYTES, SqlitePages, read_rows
from chat.system.atomic_file import sync_folder

if TYPE_CHECKING:
    from pathlib import Path

# A table is known by its number of columns, the row's number included: no other table of ours has so many.
_SESSION_WIDTH = 1 + len(SESSION_COLUMNS)
_NODE_WIDTH = 1 + 1 + len(NODE_COLUMNS) + 2


@dataclass(frozen=True)
class Recovered:
    """What came back of a damaged history, and where the damaged file is now."""

    damaged_file: Path
    sessions: int
    messages: int


def recover(path: Path) -> Recovered:
    """Replace the damaged history at `path` by a new one that holds what could be read.

    The caller keeps other programs from opening the file meanwhile. Until the last step the old file stays in place.

    Raises:
        OSError, sqlite3.Error: the folder cannot be written.
    """
    fresh = path.with_name(f"{path.name}.recovering")
    fresh.unlink(missing_ok=True)  # of a program that was killed here
    try:
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        sessions, messages = _salvage(path, fresh)
        return Recovered(_swap(path, fresh), sessions, messages)
    finally:
        fresh.unlink(missing_ok=True)


def _salvage(damaged: Path, fresh: Path) -> tuple[int, int]:
    """Write what can be read of `damaged` to the new file `fresh`; count sessions and messages."""
    sessions: dict[int, tuple[Any, ...]] = {}
    nodes: dict[int, tuple[Any, ...]] = {}
    tables = {_SESSION_WIDTH: sessions, _NODE_WIDTH: nodes}
    for number, values in read_rows(SqlitePages(damaged)):
        if len(values) in tables:
            tables[len(values)][number] = values[1:]
    with closing(sqlite3.connect(fresh, isolation_level=None)) as new:
        new.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        migrate(new)
        in_order = [[rows[number] for number in sorted(rows)] for rows in (sessions, nodes)]
        return run_transaction(new, lambda connection: _refill(connection, *in_order))


def _refill(
    new: sqlite3.Connection, session_rows: list[tuple[Any, ...]], node_rows: list[tuple[Any, ...]]
) -> tuple[int, int]:
    sessions = {row[0] for row in session_rows if _store_session(new, row)}
    newest: dict[str, str] = {}  # the last node of each session
    known: set[tuple[str, str]] = set()
    for session, node_id, parent, *values in node_rows:
        created = values[-1]
        with suppress(sqlite3.Error, ValueError, TypeError, KeyError):
            node_of((node_id, parent, *values[:-2]))
            if session not in sessions:
                if not _store_session(new, (session, None, "", "", "", None, "{}", created, created, None)):
                    continue
                sessions.add(session)
            if parent is not None and (session, parent) not in known:
                parent = newest.get(session)  # its own is lost: it follows what was said last before it
            new.execute(PUT_NODE, (session, node_id, parent, *values))
            known.add((session, node_id))
            newest[session] = node_id
    for session in sessions:
        _mend_leaf(new, session, newest.get(session), known)
    return len(sessions), len(known)


def _store_session(new: sqlite3.Connection, row: tuple[Any, ...]) -> bool:
    """Store a session, without its name if that is taken; False if the row makes no sense."""
    if not isinstance(row[0], str) or not SESSION_ID.fullmatch(row[0]):
        return False
    with suppress(sqlite3.Error):
        return any(new.execute(INSERT_SESSION, values).rowcount > 0 for values in (row, (row[0], None, *row[2:])))
    return False


def _mend_leaf(new: sqlite3.Connection, session: str, newest: str | None, known: set[tuple[str, str]]) -> None:
    (leaf, title) = new.execute("SELECT leaf, title FROM sessions WHERE id = ?", (session,)).fetchone()
    if (leaf is None and title) or (session, leaf) in known:
        return  # looking at the place before the first message is a choice; a session without title was lost itself
    new.execute("UPDATE sessions SET leaf = ? WHERE id = ?", (newest, session))


def _swap(path: Path, fresh: Path) -> Path:
    """Put `fresh` in the place of `path`, and `path` with its write-ahead log damaged_file."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    names = (f"{path.name}.corrupt-{stamp}" + (f"-{i}" if i else "") for i in count())
    damaged_file = next(place for name in names if not (place := path.with_name(name)).exists())
    try:
        os.link(path, damaged_file)
    except OSError:  # a file system without hard links: for a moment there is no file at all
        path.rename(damaged_file)
    log = path.with_name(path.name + "-wal")
    with suppress(FileNotFoundError):
        log.rename(damaged_file.with_name(damaged_file.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    fresh.replace(path)
    sync_folder(path.parent)
    return damaged_file
