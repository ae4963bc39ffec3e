"""Find sessions: by name, by id, by time; and the nearest ones where there is none."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from chat.errors import UsageError
from chat.history.records import MAX_NAME_LENGTH, MAX_TITLE_LENGTH, ListedSession, SessionRecord, title_of
from chat.history.rows import SESSION_COLUMNS, record_of, text_of
from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    import sqlite3

MIN_PREFIX_LENGTH = 4  # characters of an id that find it
MOST_CHARACTERS = 16 << 20  # of the messages that an editor offers again

_COLUMNS = ", ".join(SESSION_COLUMNS)
_SELECT = f"SELECT {_COLUMNS} FROM sessions"
_IS_EMPTY = "nodes.streaming AND nodes.content = '' AND nodes.reasoning = '' AND nodes.calls = ''"
_NEWEST_FIRST = (
    " WHERE name IS NOT NULL OR EXISTS (SELECT 1 FROM nodes WHERE nodes.session = sessions.id)"
    " ORDER BY updated DESC, number DESC LIMIT ?"
)


# For each session the branch that is shown: its messages, its first question, and the first one of the whole tree.
# An answer that was cut off before its first word does not count. UNION ends a circle in a damaged history.
_BRANCHES = f"""
    WITH RECURSIVE
    listed AS (SELECT id, leaf FROM sessions {_NEWEST_FIRST}),
    branch(session, id, parent, role, number, is_empty) AS (
        SELECT session, nodes.id, parent, role, number, {_IS_EMPTY}
            FROM listed JOIN nodes ON session = listed.id AND nodes.id = listed.leaf
        UNION
        SELECT nodes.session, nodes.id, nodes.parent, nodes.role, nodes.number, {_IS_EMPTY}
            FROM branch JOIN nodes ON nodes.session = branch.session AND nodes.id = branch.parent)
    SELECT session, sum(NOT is_empty), min(number) FILTER (WHERE role = 'user'),
        (SELECT min(number) FROM nodes WHERE nodes.session = branch.session AND role = 'user')
        FROM branch GROUP BY session"""


def list_sessions(connection: sqlite3.Connection, limit: int | None) -> tuple[ListedSession, ...]:
    """Sessions with a name or a message, the last used first, as the branch that is shown."""
    most = -1 if limit is None else limit
    branches = {session: values for session, *values in connection.execute(_BRANCHES, (most,))}
    listed = []
    for record in _records(connection, _SELECT + _NEWEST_FIRST, (most,)):
        messages, shown, first = branches.get(record.id, (0, None, None))
        if shown is not None and shown != first:
            (question,) = connection.execute("SELECT content FROM nodes WHERE number = ?", (shown,)).fetchone()
            record = replace(record, title=title_of(text_of(question)))
        listed.append(ListedSession(**vars(record), messages=messages))
    return tuple(listed)


def latest_session(connection: sqlite3.Connection) -> SessionRecord | None:
    """The session that was used last; None if there is none."""
    return next(iter(_records(connection, _SELECT + _NEWEST_FIRST, (1,))), None)


def by_id(connection: sqlite3.Connection, session_id: str) -> SessionRecord:
    """The session with exactly this id.

    Raises:
        UsageError: there is none.
    """
    for record in _records(connection, f"{_SELECT} WHERE id = ?", (session_id,)):
        return record
    raise missing_session(session_id)


def find_by_name_or_id(
    connection: sqlite3.Connection, text: str, *, min_prefix_length: int = MIN_PREFIX_LENGTH
) -> SessionRecord | None:
    """The session with this name, this id, or the only one whose id begins so; None if there is none.

    Args:
        connection: the history.
        text: a name, an id or the beginning of one.
        min_prefix_length: a shorter text is not taken for the beginning of an id, in characters.

    Raises:
        UsageError: several ids begin so.
    """
    for column in ("name", "id"):
        for record in _records(connection, f"{_SELECT} WHERE {column} = ?", (text,)):
            return record
    if len(text) < min_prefix_length:
        return None
    found = _records(connection, f"{_SELECT} WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 2", (text,))
    if len(found) > 1:
        ids = " and ".join(f"`{record.id[: len(text) + 6]}`" for record in found)
        raise UsageError(f"several sessions begin with `{text}`", hint=f"type more of the id, as in {ids}")
    return next(iter(found), None)


def missing_session_with_nearest(connection: sqlite3.Connection, text: str, list_command: str) -> UsageError:
    """The error for a session that does not exist; its hint names those with a similar name or title.

    Args:
        connection: the history.
        text: what was searched for.
        list_command: lists the sessions where the user is.
    """
    records = _records(connection, _SELECT + _NEWEST_FIRST, (-1,))
    proposals: dict[str, None] = {}
    for words in ([record.label for record in records], [record.title for record in records]):
        for near in get_close_matches(text[:MAX_TITLE_LENGTH], words, n=3, cutoff=0.5):
            proposals.setdefault(_proposal(records[words.index(near)]))
    nearest = f"did you mean {' or '.join(list(proposals)[:3])}?"
    return missing_session(text, hint=nearest if proposals else f"`{list_command}` shows them")


def missing_session(text: str, *, hint: str | None = None) -> UsageError:
    """The error for a session that does not exist."""
    shown = text if len(text) <= MAX_NAME_LENGTH else text[:MAX_NAME_LENGTH] + "…"
    return UsageError(f"there is no session `{escape_line(shown)}`", hint=hint)


def recent_questions(connection: sqlite3.Connection, limit: int) -> tuple[str, ...]:
    """The user's messages of all sessions, newest first, without repetitions; no more than fit in little memory."""
    found: dict[str, None] = {}
    characters = 0
    for (value,) in connection.execute("SELECT content FROM nodes WHERE role = 'user' ORDER BY number DESC"):
        content = text_of(value)
        characters += 0 if content in found else len(content)
        if characters > MOST_CHARACTERS and found:
            break
        found.setdefault(content)
        if len(found) >= limit:  # a long history is not read to its end
            break
    return tuple(found)


def _proposal(record: SessionRecord) -> str:
    """What to type for a session, with its title where it has no name."""
    return f"`{escape_line(record.label)}`" + ("" if record.name else f" ({escape_line(record.title)})")


def _records(connection: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> tuple[SessionRecord, ...]:
    return tuple(record_of(row) for row in connection.execute(query, values))
