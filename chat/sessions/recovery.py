"""Move a damaged history aside and read what can be read of it into a new one. Knows pages and rows, not who asks."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from chat.sessions.records import SESSION_ID
from chat.sessions.rows import NODE_COLUMNS, SESSION_COLUMNS, node_of
from chat.sessions.schema import (
    APPLICATION_ID,
    INSERT_SESSION,
    PAGE_BYTES,
    PUT_NODE,
    migrate,
    transact,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC = b"SQLite format 3\0"
FAILURES_LEFT = 20_000  # unreadable ranges that are halved before we give up
ROWS_AT_ONCE = 200
MAX_TEXT_BYTES = 256 << 20  # a damaged length must not ask for more memory than this


@dataclass(frozen=True)
class Recovered:
    """What came back of a damaged history, and where the damaged file is now."""

    aside: Path
    sessions: int
    messages: int


def recover(path: Path) -> Recovered:
    """Replace the damaged history at `path` by a new one that holds what could be read.

    The caller keeps other programs from opening the file meanwhile. Until the last step the old file stays in place.

    Raises:
        OSError, sqlite3.Error: the folder cannot be written.
    """
    for leftover in path.parent.glob(f"{path.name}.salvage-*"):
        leftover.unlink(missing_ok=True)
    damaged = path.with_name(f"{path.name}.salvage-old")
    fresh = path.with_name(f"{path.name}.salvage-new")
    try:
        _copy(path, damaged)
        sessions, messages = _salvage(damaged, fresh)
        aside = _swap(path, fresh)
    finally:
        for leftover in path.parent.glob(f"{path.name}.salvage-*"):
            leftover.unlink(missing_ok=True)
    return Recovered(aside, sessions, messages)


def _copy(path: Path, copy: Path) -> None:
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        target = copy.with_name(copy.name + suffix)
        with suppress(FileNotFoundError), source.open("rb") as old:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as new:
                shutil.copyfileobj(old, new)


def _salvage(damaged: Path, fresh: Path) -> tuple[int, int]:
    """Write what can be read of `damaged` to the new file `fresh`; count sessions and messages."""
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(fresh, isolation_level=None)) as new:
        new.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        migrate(new)
        _mend_first_page(damaged, fresh)
        with closing(sqlite3.connect(damaged, isolation_level=None)) as old:
            old.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_TEXT_BYTES)
            old.text_factory = lambda raw: raw.decode("utf-8", "replace")
            return transact(new, lambda connection: _refill(old, connection))


def _mend_first_page(damaged: Path, sound: Path) -> None:
    """Give a file whose first page is lost the first page of a new one.

    Tables are made in one order only, so their roots are at the same pages in every file.
    """
    with damaged.open("r+b") as file:
        head = file.read(PAGE_BYTES)
        if head[:16] == MAGIC and int.from_bytes(head[68:72], "big") == APPLICATION_ID and _has_tables(damaged):
            return
        page = bytearray(sound.read_bytes()[:PAGE_BYTES])
        pages = os.fstat(file.fileno()).st_size // PAGE_BYTES
        page[28:32] = pages.to_bytes(4, "big")
        page[32:40] = bytes(8)  # no free pages
        file.seek(0)
        file.write(page)


def _has_tables(path: Path) -> bool:
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE name IN ('sessions', 'nodes')").fetchall()
        return len(names) == 2
    return False


def _refill(old: sqlite3.Connection, new: sqlite3.Connection) -> tuple[int, int]:
    sessions: set[str] = set()
    for values in _readable(old, "sessions", SESSION_COLUMNS):
        with suppress(sqlite3.Error):
            nameless = (values[0], None, *values[2:])
            if SESSION_ID.fullmatch(str(values[0])) and any(
                new.execute(INSERT_SESSION, row).rowcount > 0 for row in (values, nameless)
            ):
                sessions.add(values[0])
    newest: dict[str, str] = {}  # the last node of each session
    known: set[tuple[str, str]] = set()
    for values in _readable(old, "nodes", ("session", *NODE_COLUMNS, "streaming", "created")):
        session, node_id, parent, created = values[0], values[1], values[2], values[-1]
        with suppress(sqlite3.Error, ValueError, TypeError, KeyError):
            node_of(values[1:-2])
            if not SESSION_ID.fullmatch(session):
                continue
            if session not in sessions:
                new.execute(INSERT_SESSION, (session, None, "", "", "", None, "{}", created, created, None))
                sessions.add(session)
            if parent is not None and (session, parent) not in known:
                parent = newest.get(session)  # its own is lost: it follows what was said last before it
            new.execute(PUT_NODE, (session, node_id, parent, *values[3:]))
            known.add((session, node_id))
            newest[session] = node_id
    for session in sessions:
        _mend_leaf(new, session, newest.get(session), known)
    return len(sessions), len(known)


def _mend_leaf(new: sqlite3.Connection, session: str, newest: str | None, known: set[tuple[str, str]]) -> None:
    (leaf, title) = new.execute("SELECT leaf, title FROM sessions WHERE id = ?", (session,)).fetchone()
    if (leaf is None and title) or (session, leaf) in known:
        return  # looking at the place before the first message is a choice; a session without title was lost itself
    new.execute("UPDATE sessions SET leaf = ? WHERE id = ?", (newest, session))


def _readable(old: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Rows in order of their number, without those on damaged pages: a range that cannot be read is halved."""
    query = f"SELECT number, {', '.join(columns)} FROM {table} WHERE number BETWEEN ? AND ? ORDER BY number LIMIT ?"
    ranges = [(1, _last_number(old, table))]
    failures = 0
    while ranges and failures < FAILURES_LEFT:
        first, last = ranges.pop()
        try:
            rows = old.execute(query, (first, last, ROWS_AT_ONCE)).fetchall()
        except (sqlite3.Error, MemoryError, OverflowError):
            failures += 1
            if first < last:
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]
            continue
        yield from (row[1:] for row in rows)
        if len(rows) == ROWS_AT_ONCE and rows[-1][0] < last:
            ranges.append((rows[-1][0] + 1, last))


def _last_number(old: sqlite3.Connection, table: str) -> int:
    with suppress(sqlite3.Error):
        last = old.execute(f"SELECT max(number) FROM {table}").fetchone()[0]
        return int(last or 0)
    return 1 << 20  # the way to the last row is damaged; more messages than this nobody types


def _swap(path: Path, fresh: Path) -> Path:
    """Put `fresh` in the place of `path`, and `path` with its write-ahead log aside."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    names = (f"{path.name}.corrupt-{stamp}" + (f"-{i}" if i else "") for i in count())
    aside = next(place for name in names if not (place := path.with_name(name)).exists())
    try:
        os.link(path, aside)
    except OSError:  # a file system without hard links: for a moment there is no file at all
        path.rename(aside)
    log = path.with_name(path.name + "-wal")
    with suppress(FileNotFoundError):
        log.rename(aside.with_name(aside.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    fresh.replace(path)
    sync_folder(path.parent)
    return aside


def sync_folder(folder: Path) -> None:
    """Make names in `folder` survive a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
