"""Replace a damaged history by a new file with everything that can be read of it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from chat.history.records import SESSION_ID
from chat.history.rows import NODE_COLUMNS, PICTURE_COLUMNS, SESSION_COLUMNS, node_of
from chat.history.schema import INSERT_SESSION, PUT_NODE, PUT_PICTURE, migrate, run_transaction
from chat.history.sqlite_pages import PAGE_BYTES, SqlitePages, read_rows
from chat.system.text_files import sync_folder

if TYPE_CHECKING:
    from pathlib import Path

# The table of a row is known by its number of columns, which is different in every table of the history.
_SESSION_WIDTH = 1 + len(SESSION_COLUMNS)  # number
# number, session; streaming, created. Columns of later versions stand at the end, and older rows lack them
_NODE_WIDTH = 1 + 1 + len(NODE_COLUMNS) + 2
_LATER_COLUMNS = ("reasoning", "details", "pictures")
_PICTURE_WIDTH = 1 + len(PICTURE_COLUMNS)  # number


@dataclass(frozen=True)
class Recovered:
    """What was recovered.

    Attributes:
        damaged_file: where the damaged file is now.
        sessions: how many sessions are in the new file.
        messages: how many messages are in the new file.
    """

    damaged_file: Path
    sessions: int
    messages: int


def recover(path: Path) -> Recovered:
    """Replace the damaged history at `path`. Until the last step the damaged file stays in its place.

    The caller holds the lock that keeps other programs from opening the file.

    Raises:
        OSError, sqlite3.Error: the folder cannot be written.
    """
    fresh = path.with_name(f"{path.name}.recovering")
    fresh.unlink(missing_ok=True)  # left by a program that was killed here
    try:
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        sessions, messages = _copy_rows(path, fresh)
        return Recovered(_replace_file(path, fresh), sessions, messages)
    finally:
        fresh.unlink(missing_ok=True)


def _copy_rows(damaged: Path, fresh: Path) -> tuple[int, int]:
    """Write every row that can be read to the new file `fresh`; returns the numbers of sessions and messages."""
    sessions: dict[int, tuple[Any, ...]] = {}
    nodes: dict[int, tuple[Any, ...]] = {}
    pictures: dict[int, tuple[Any, ...]] = {}
    tables = {_SESSION_WIDTH: sessions, _PICTURE_WIDTH: pictures}
    tables |= {_NODE_WIDTH - missing: nodes for missing in range(len(_LATER_COLUMNS) + 1)}
    for number, values in read_rows(SqlitePages(damaged)):
        if len(values) in tables:
            tables[len(values)][number] = values[1:]
    with closing(sqlite3.connect(fresh, isolation_level=None)) as new:
        new.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        migrate(new)
        in_order = [[rows[number] for number in sorted(rows)] for rows in (sessions, nodes)]
        whole = [row for row in pictures.values() if _is_whole_picture(row)]
        new.executemany(PUT_PICTURE, whole)
        return run_transaction(new, lambda connection: _insert_rows(connection, *in_order))


def _is_whole_picture(row: tuple[Any, ...]) -> bool:
    sha256, media_type, data = row
    is_typed = isinstance(media_type, str) and isinstance(data, bytes)
    return is_typed and hashlib.sha256(data).hexdigest() == sha256


def _insert_rows(
    new: sqlite3.Connection, session_rows: list[tuple[Any, ...]], node_rows: list[tuple[Any, ...]]
) -> tuple[int, int]:
    sessions = {row[0] for row in session_rows if _store_session(new, row)}
    newest: dict[str, str] = {}  # session -> its last node
    known: set[tuple[str, str]] = set()
    for row in node_rows:
        session, node_id, parent, *values = _in_written_order(row)
        created = values[-1]
        with suppress(sqlite3.Error, ValueError, TypeError, KeyError):
            node_of((node_id, parent, *values[:-2]))
            if session not in sessions:
                if not _store_session(new, (session, None, "", "", "", None, "{}", created, created, None)):
                    continue
                sessions.add(session)
            if parent is not None and (session, parent) not in known:
                parent = newest.get(session)  # its parent is lost: it follows the message before it
            new.execute(PUT_NODE, (session, node_id, parent, *values))
            known.add((session, node_id))
            newest[session] = node_id
    for session in sessions:
        _repair_leaf(new, session, newest.get(session), known)
    return len(sessions), len(known)


def _in_written_order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of the nodes as it is written: session, `NODE_COLUMNS`, streaming, created."""
    first_version = _NODE_WIDTH - 1 - len(_LATER_COLUMNS)  # without the number
    *before, streaming, created = row[:first_version]
    later = [*row[first_version:], *("" for _ in _LATER_COLUMNS)]
    return (*before, *later[: len(_LATER_COLUMNS)], streaming, created)


def _store_session(new: sqlite3.Connection, row: tuple[Any, ...]) -> bool:
    """Insert a session, without its name if another one has it; False if the row is damaged."""
    if not isinstance(row[0], str) or not SESSION_ID.fullmatch(row[0]):
        return False
    with suppress(sqlite3.Error):
        return any(new.execute(INSERT_SESSION, values).rowcount > 0 for values in (row, (row[0], None, *row[2:])))
    return False


def _repair_leaf(new: sqlite3.Connection, session: str, newest: str | None, known: set[tuple[str, str]]) -> None:
    """Give a session whose leaf is lost its newest message as the leaf."""
    (leaf, title) = new.execute("SELECT leaf, title FROM sessions WHERE id = ?", (session,)).fetchone()
    if (leaf is None and title) or (session, leaf) in known:
        return  # a session with a title may have its leaf before the first message; one without is itself recovered
    new.execute("UPDATE sessions SET leaf = ? WHERE id = ?", (newest, session))


def _replace_file(path: Path, fresh: Path) -> Path:
    """Rename the damaged file with its write-ahead log, and put `fresh` in its place; returns the new name."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    names = (f"{path.name}.corrupt-{stamp}" + (f"-{i}" if i else "") for i in count())
    damaged_file = next(candidate for name in names if not (candidate := path.with_name(name)).exists())
    try:
        os.link(path, damaged_file)
    except OSError:  # a file system without hard links: for a moment there is no file
        path.rename(damaged_file)
    log = path.with_name(path.name + "-wal")
    with suppress(FileNotFoundError):
        log.rename(damaged_file.with_name(damaged_file.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    fresh.replace(path)
    sync_folder(path.parent)
    return damaged_file
