"""Find a session by what a person calls it. Knows the table of sessions, not their messages."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from chat.errors import UsageError
from chat.history.records import LONGEST_NAME, TITLE_WIDTH, SessionRecord
from chat.history.rows import SESSION_COLUMNS, record_of
from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    import sqlite3

SHORTEST_PREFIX = 4  # of an id that is looked for; a name that may be new is one unless it is as long as lists show ids

_SELECT = (
    f"SELECT {', '.join(SESSION_COLUMNS)}, (SELECT count(*) FROM nodes WHERE nodes.session = sessions.id) FROM sessions"
)
_NOT_EMPTY = "(name IS NOT NULL OR EXISTS (SELECT 1 FROM nodes WHERE nodes.session = sessions.id))"


def listed(connection: sqlite3.Connection, limit: int | None) -> tuple[SessionRecord, ...]:
    """Sessions with a name or a message, the last used first."""
    query = f"{_SELECT} WHERE {_NOT_EMPTY} ORDER BY updated DESC, number DESC LIMIT ?"
    return _records(connection, query, (-1 if limit is None else limit,))


def by_id(connection: sqlite3.Connection, session_id: str) -> SessionRecord:
    """The session with exactly this id.

    Raises:
        UsageError: there is none.
    """
    for record in _records(connection, f"{_SELECT} WHERE id = ?", (session_id,)):
        return record
    raise missing(session_id)


def find_by_name_or_id(
    connection: sqlite3.Connection, text: str, *, shortest: int = SHORTEST_PREFIX
) -> SessionRecord | None:
    """The session with this name, this id, or the only one whose id begins so; None if there is none.

    Args:
        shortest: characters of an id that are taken for its beginning.

    Raises:
        UsageError: several ids begin so.
    """
    for column in ("name", "id"):
        for record in _records(connection, f"{_SELECT} WHERE {column} = ?", (text,)):
            return record
    if len(text) < shortest:
        return None
    found = _records(connection, f"{_SELECT} WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 2", (text,))
    if len(found) > 1:
        ids = " and ".join(f"`{each.id[: len(text) + 6]}`" for each in found)
        raise UsageError(f"several sessions begin with `{text}`", hint=f"say more of it, as in {ids}")
    return next(iter(found), None)


def nearest_missing(connection: sqlite3.Connection, text: str) -> UsageError:
    """What to tell a person who asked for a session that does not exist."""
    records = listed(connection, None)
    found: dict[str, None] = {}
    for words in ([each.label for each in records], [each.title for each in records]):
        for near in get_close_matches(text[:TITLE_WIDTH], words, n=3, cutoff=0.5):
            found.setdefault(_proposal(records[words.index(near)]))
    return missing(text, hint=f"did you mean {' or '.join(list(found)[:3])}" if found else None)


def _proposal(record: SessionRecord) -> str:
    """A session as it can be called; its title says which it is where it has no name."""
    return f"`{escape_line(record.label)}`" + ("" if record.name else f" ({escape_line(record.title)})")


def recent_questions(connection: sqlite3.Connection, limit: int) -> tuple[str, ...]:
    """What was asked last, in any session, newest first and each once."""
    found: dict[str, None] = {}
    for (content,) in connection.execute("SELECT content FROM nodes WHERE role = 'user' ORDER BY number DESC"):
        found.setdefault(content)
        if len(found) >= limit:  # a long history is not read to its end
            break
    return tuple(found)


def missing(text: str, *, hint: str | None = None) -> UsageError:
    """The error that says so."""
    every = "`/sessions` shows the last ones, `mistral-chat sessions list` all"
    called = text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…"
    return UsageError(f"there is no session `{escape_line(called)}`", hint=hint or every)


def _records(connection: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> tuple[SessionRecord, ...]:
    return tuple(record_of(row) for row in connection.execute(query, values))
