"""The tables of the history, their versions, and the connection to a file."""

from __future__ import annotations

import itertools
import re
import sqlite3
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Literal, TypeVar

from chat.history.rows import NODE_COLUMNS, PICTURE_COLUMNS, SESSION_COLUMNS
from chat.history.sqlite_pages import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
TransactionKind = Literal["IMMEDIATE", "DEFERRED"]

APPLICATION_ID = 0x4D436861  # "MCha"
BUSY_SECONDS = 15.0
# the second where SQLite's text names a table that is damaged: Python cannot decode that text
DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
PAUSE_SECONDS = 0.02  # between two attempts
CHECKED_BYTES = 16 << 20  # a file up to this size is checked when it is opened, a larger one as it is read

# `number` grows with every row: it is the order of time, even if the clock is set back.
_VERSION_1 = (
    """CREATE TABLE sessions (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT UNIQUE, title TEXT NOT NULL,
        model TEXT NOT NULL, model_path TEXT NOT NULL, system TEXT, settings TEXT NOT NULL,
        created REAL NOT NULL, updated REAL NOT NULL, leaf TEXT)""",
    """CREATE TABLE nodes (
        number INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions(id), id TEXT NOT NULL, parent TEXT,
        role TEXT NOT NULL, content TEXT NOT NULL, calls TEXT NOT NULL, answers TEXT NOT NULL, ids BLOB NOT NULL,
        finish_reason TEXT, streaming INTEGER NOT NULL, created REAL NOT NULL, UNIQUE (session, id))""",
    "CREATE INDEX sessions_by_time ON sessions(updated)",
    """CREATE VIRTUAL TABLE node_texts USING fts5(
        content, calls, content='nodes', content_rowid='number', tokenize='unicode61 remove_diacritics 2')""",
    """CREATE VIRTUAL TABLE session_texts USING fts5(
        name, title, system, content='sessions', content_rowid='number', tokenize='unicode61 remove_diacritics 2')""",
)


def _search_triggers(table: str, index: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The triggers that keep an external-content index equal to its table (sqlite.org/fts5.html, section 4.4.3)."""
    names = ", ".join(columns)
    old, new = (", ".join(f"{row}.{column}" for column in columns) for row in ("old", "new"))
    delete = f"INSERT INTO {index}({index}, rowid, {names}) VALUES ('delete', old.number, {old});"
    insert = f"INSERT INTO {index}(rowid, {names}) VALUES (new.number, {new});"
    return (
        f"CREATE TRIGGER {table}_inserted AFTER INSERT ON {table} BEGIN {insert} END",
        f"CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN {delete} END",
        f"CREATE TRIGGER {table}_updated AFTER UPDATE OF {names} ON {table} BEGIN {delete} {insert} END",
    )


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        *_VERSION_1,
        *_search_triggers("nodes", "node_texts", ("content", "calls")),
        *_search_triggers("sessions", "session_texts", ("name", "title", "system")),
    ),
    ("ALTER TABLE nodes ADD COLUMN reasoning TEXT NOT NULL DEFAULT ''",),
    ("ALTER TABLE nodes ADD COLUMN details TEXT NOT NULL DEFAULT ''",),
    (
        "ALTER TABLE nodes ADD COLUMN pictures TEXT NOT NULL DEFAULT ''",
        """CREATE TABLE pictures (
            number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, media_type TEXT NOT NULL, data BLOB NOT NULL)""",
    ),
)
SCHEMA = len(MIGRATIONS)
# What the migrations make, with the tables in which FTS5 keeps an index
OBJECTS = {
    *re.findall(r"CREATE (?:VIRTUAL )?(?:TABLE|INDEX|TRIGGER) (\w+)", " ".join(itertools.chain(*MIGRATIONS))),
    *(f"{index}_{part}" for index in ("node_texts", "session_texts") for part in ("data", "idx", "docsize", "config")),
}

INSERT_SESSION = (
    f"INSERT OR IGNORE INTO sessions ({', '.join(SESSION_COLUMNS)}) VALUES ({', '.join('?' * len(SESSION_COLUMNS))})"
)
_CHANGEABLE_COLUMNS = ("content", "calls", "answers", "ids", "finish_reason", "reasoning", "details", "streaming")
PUT_NODE = (
    f"INSERT INTO nodes (session, {', '.join(NODE_COLUMNS)}, streaming, created)"
    f" VALUES ({', '.join('?' * (len(NODE_COLUMNS) + 3))}) ON CONFLICT (session, id) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in _CHANGEABLE_COLUMNS)
)

PUT_PICTURE = f"INSERT OR IGNORE INTO pictures ({', '.join(PICTURE_COLUMNS)}) VALUES (?, ?, ?)"
REMOVE_UNUSED_PICTURES = (
    "DELETE FROM pictures WHERE NOT EXISTS"
    " (SELECT 1 FROM nodes WHERE nodes.pictures <> '' AND instr(nodes.pictures, pictures.sha256))"
)


class RefusedError(Exception):
    """The file is of another program or a newer version, and must not be changed; the text is the reason."""


class DamagedError(Exception):
    """The file is damaged, or not a database."""


def connect_memory() -> sqlite3.Connection:
    """An empty history in memory."""
    connection = _prepare(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
    migrate(connection)
    return connection


def connect_file(path: Path) -> sqlite3.Connection:
    """Open the history in `path`, an existing file, which may be empty.

    Raises:
        RefusedError: a newer version or another program wrote it; it is unchanged.
        DamagedError: it is damaged, or not a database.
        sqlite3.Error: it cannot be used for another reason.
    """
    _refuse_other_programs(path)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
        _retry_while_busy(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
        connection.execute("PRAGMA synchronous = FULL")
        _check_pages(connection, path)
        migrate(connection)
    except BaseException as error:
        connection.close()
        if is_damage(error) or is_refused(error):
            raise DamagedError(str(error)) from error
        raise
    return connection


def copy_to_memory(path: Path) -> sqlite3.Connection:
    """Copy a history that cannot be written to memory.

    Raises:
        RefusedError: a newer version or another program wrote it.
        DamagedError: its tables are not what its version says.
        sqlite3.Error: it cannot be read.
    """
    memory = connect_memory()
    try:
        _backup(path, "mode=ro", memory)
    except sqlite3.Error:  # reading a write-ahead log needs files beside it, and they cannot be made
        _backup(path, "immutable=1", memory)
    migrate(memory)  # the file may be of an older version
    return _prepare(memory)


def _backup(path: Path, mode: str, memory: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, isolation_level=None)) as source:
        if check_version(source):
            source.backup(memory)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to this version, in one transaction.

    Raises:
        RefusedError: they are of a newer version or another program.
        DamagedError: they are not what their version says.
    """

    def transaction(connection: sqlite3.Connection) -> None:
        version = check_version(connection)
        for migration in MIGRATIONS[version:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")

    if check_version(connection) < SCHEMA:
        run_transaction(connection, transaction)
    _check_tables(connection)


def has_other_tables(connection: sqlite3.Connection) -> bool:
    """Whether the tables are not those that this version makes, which a statement that fails is then due to."""
    named = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
    with closing(connect_memory()) as whole:
        try:
            return bool(connection.execute(named).fetchall() != whole.execute(named).fetchall())
        except DATABASE_ERRORS:
            return True


def run_transaction(
    connection: sqlite3.Connection, transaction: Callable[[sqlite3.Connection], T], kind: TransactionKind = "IMMEDIATE"
) -> T:
    """Run a transaction: committed when this returns, rolled back when it raises.

    Args:
        connection: a connection without an open transaction.
        transaction: called with the connection.
        kind: IMMEDIATE to write, DEFERRED to read.
    """
    connection.execute(f"BEGIN {kind}")
    try:
        result = transaction(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def is_damage(error: BaseException) -> bool:
    """Whether the error means that the file's content is wrong."""
    if isinstance(error, UnicodeDecodeError):
        return True
    return isinstance(error, sqlite3.Error) and primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_refused(error: BaseException) -> bool:
    """Whether SQLite cannot run a statement of ours on the tables that there are, though it has the modules for it."""
    if not isinstance(error, sqlite3.OperationalError) or primary_code(error) != sqlite3.SQLITE_ERROR:
        return False
    return "no such module" not in str(error)


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error that Python raised itself."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def _refuse_other_programs(path: Path) -> None:
    """Check which program wrote the file, without a change to it; damage is not reported here.

    Without a write-ahead log beside it no program has the file open, so it may be opened as immutable.

    Raises:
        RefusedError: a newer version or another program wrote it.
    """
    has_log = path.with_name(path.name + "-wal").exists()
    mode = "mode=ro" if has_log else "immutable=1"
    with suppress(*DATABASE_ERRORS):
        uri = f"{path.as_uri()}?{mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            check_version(connection)


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size <= CHECKED_BYTES:
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise DamagedError(verdict)


def _check_tables(connection: sqlite3.Connection) -> None:
    """Check that the tables are there with their columns, and what keeps their indexes.

    Raises:
        DamagedError: a part of an index is missing.
        sqlite3.OperationalError: a table or a column is missing.
    """
    tables = {
        "sessions": SESSION_COLUMNS,
        "nodes": ("number", "session", *NODE_COLUMNS, "streaming", "created"),
        "pictures": ("number", *PICTURE_COLUMNS),
    }
    for table, columns in {**tables, "node_texts": ("content",), "session_texts": ("title",)}.items():
        connection.execute(f"SELECT {', '.join(columns)} FROM {table} LIMIT 0")
    if missing := OBJECTS - {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}:
        raise DamagedError(f"it has no {min(missing)}")


def check_version(connection: sqlite3.Connection) -> int:
    """The version of the tables; 0 for an empty file.

    Raises:
        RefusedError: they are of a newer version or another program.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if application != APPLICATION_ID and tables:
        raise RefusedError("it is a database of another program")
    if version > SCHEMA:
        raise RefusedError(f"its version, {version}, is newer than {SCHEMA}, which this program knows")
    return version


def _prepare(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    for pragma in (
        f"page_size = {PAGE_BYTES}",
        "foreign_keys = ON",
        "secure_delete = ON",  # deleted rows are overwritten
        "temp_store = MEMORY",
        "cell_size_check = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _retry_while_busy(attempt: Callable[[], T]) -> T:
    """Repeat while another program holds the file: SQLite itself does not wait to change the journal mode."""
    waited = 0.0  # by no clock: the program may be stopped meanwhile
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if primary_code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or waited > BUSY_SECONDS:
                raise
            time.sleep(PAUSE_SECONDS)
            waited += PAUSE_SECONDS
