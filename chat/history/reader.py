"""Open the history and read it: lists, single sessions, search."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from chat.errors import DataError, FileError
from chat.history.connection import ResilientConnection
from chat.history.records import SHORT_ID_LENGTH
from chat.history.rows import (
    NODE_COLUMNS,
    conversation_of,
    node_values,
    picture_hashes,
    picture_values,
    session_values,
)
from chat.history.schema import INSERT_SESSION, PUT_NODE, PUT_PICTURE
from chat.history.search import find_hits
from chat.history.session_lookup import (
    by_id,
    find_by_name_or_id,
    latest_session,
    list_sessions,
    missing_session_with_nearest,
    recent_questions,
)
from chat.system.characters import whole_characters
from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from chat.core.conversation import Conversation, Node
    from chat.core.events import Notice
    from chat.history.records import ListedSession, SessionRecord
    from chat.history.search import Hit

EARLIER_BYTES = 1 << 20  # of memory, about, for the sessions that were in use before the present one
NODE_BYTES = 2000  # that a message takes besides its text, measured

_SELECT_NODES = f"SELECT {', '.join(NODE_COLUMNS)}, streaming FROM nodes WHERE session = ? ORDER BY number"
_SELECT_PICTURE = "SELECT sha256, data FROM pictures WHERE sha256 = ?"


@dataclass
class _CachedSession:
    record: SessionRecord
    nodes: dict[str, tuple[Node, bool]] = field(default_factory=dict)  # id -> (node, whether it is still streaming)

    def bytes(self) -> int:
        """About how much memory it takes."""
        messages = [node.message for node, _ in self.nodes.values()]
        texts = sum(NODE_BYTES + len(message.content) + len(message.reasoning) for message in messages)
        return texts + sum(len(picture.data) for message in messages for picture in message.pictures)


class SessionCache:
    """The session that this program created, loaded or changed last, and of earlier ones what takes little memory."""

    def __init__(self) -> None:
        self._sessions: dict[str, _CachedSession] = {}  # in the order of their last use

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions

    def add(self, record: SessionRecord, conversation: Conversation) -> None:
        """Add a session with its whole tree."""
        nodes = {node.id: (node, False) for node in conversation.nodes.values()}
        self._sessions.pop(record.id, None)
        self._sessions[record.id] = _CachedSession(record, nodes)
        self._drop_earlier()

    def update(self, record: SessionRecord, nodes: Iterable[Node] = (), *, streaming: bool = False) -> None:
        """Replace the record of a session, and add or replace some of its messages.

        Args:
            record: the session.
            nodes: the messages.
            streaming: whether they are still being streamed.
        """
        is_last = next(reversed(self._sessions), None) == record.id
        session = self._sessions.pop(record.id, None) or _CachedSession(record)
        self._sessions[record.id] = session
        session.record = record
        session.nodes.update({node.id: (node, streaming) for node in nodes})
        if not is_last:
            self._drop_earlier()

    def _drop_earlier(self) -> None:
        """Forget the sessions that were not used for longest, where all but the last one take too much memory."""
        kept = 0
        for session_id in list(reversed(self._sessions))[1:]:
            kept += self._sessions[session_id].bytes()
            if kept > EARLIER_BYTES:
                del self._sessions[session_id]

    def remove(self, session_id: str) -> None:
        """Remove a session."""
        self._sessions.pop(session_id, None)

    def restore(self, connection: sqlite3.Connection, session_id: str) -> None:
        """Store a session again. It loses its name if another session has it now."""
        session = self._sessions[session_id]
        record = session.record
        if connection.execute("SELECT 1 FROM sessions WHERE name = ? AND id <> ?", (record.name, record.id)).fetchone():
            record = replace(record, name=None)
        connection.execute(INSERT_SESSION, session_values(record))
        for node, streaming in session.nodes.values():
            connection.execute(PUT_NODE, (session_id, *node_values(node), int(streaming), record.updated))
        connection.executemany(PUT_PICTURE, picture_values(node for node, _ in session.nodes.values()))

    def restore_all(self, connection: sqlite3.Connection) -> None:
        """Store every session again."""
        for session_id in self._sessions:
            self.restore(connection, session_id)


class HistoryReader:
    """The stored sessions, for several threads and beside other programs.

    When the file cannot be used, the history is in memory, and `take_notices` says so once.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the history.

        Args:
            path: the file, created if it is missing; None for memory.
        """
        self._cache = SessionCache()
        self._connection = ResilientConnection(path, self._cache.restore_all)

    @property
    def path(self) -> Path | None:
        """The file; None in memory."""
        return self._connection.path

    @property
    def failed(self) -> bool:
        """Whether the history is in memory because its file cannot be used."""
        return bool(self._connection.failure)

    def check(self, *, writes: bool) -> None:
        """Refuse a history in memory that stands in for a file that cannot be used.

        Args:
            writes: whether the caller changes the history; else a copy of the file is good enough.

        Raises:
            FileError: the file cannot be read, or not written.
        """
        if self.failed and (writes or self._connection.is_file_unread):
            action, hint = ("written", "nothing was changed") if writes else ("read", None)
            raise FileError(f"the history cannot be {action}: {self._connection.failure}", hint=hint)

    def fail(self, reason: str) -> None:
        """Record that there cannot be a file."""
        self._connection.is_file_unread = True
        self._connection.fail(reason)

    def take_notices(self) -> tuple[Notice, ...]:
        """The notices since the last call; show them after opening and after each change."""
        return self._connection.take_notices()

    def close(self) -> None:
        """Close the file; without effect when it is closed."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def list(self, limit: int | None = None) -> tuple[ListedSession, ...]:
        """Sessions with a name or a message, the last used first."""
        return self._connection.read(lambda connection: list_sessions(connection, limit))

    def latest(self) -> SessionRecord | None:
        """The session that was used last; None if there is none."""
        return self._connection.read(latest_session)

    def find(self, text: str) -> SessionRecord | None:
        """The session with this name, this id, or the only one whose id begins so; None if there is none.

        Raises:
            UsageError: several ids begin so.
        """
        return self._connection.read(lambda connection: find_by_name_or_id(connection, whole_characters(text.strip())))

    def find_named(self, text: str) -> SessionRecord | None:
        """Like `find`, for a text that may be the name of a new session.

        Only a text as long as the ids in lists is taken for the beginning of an id: `cafe` is a name.

        Raises:
            UsageError: several ids begin so.
        """
        name = whole_characters(text.strip())
        return self._connection.read(
            lambda connection: find_by_name_or_id(connection, name, min_prefix_length=SHORT_ID_LENGTH)
        )

    def get(self, text: str, *, list_command: str = "mistral-chat sessions list") -> SessionRecord:
        """Like `find`, for a session that must exist.

        Args:
            text: a name, an id or the beginning of one.
            list_command: lists the sessions where the user is.

        Raises:
            UsageError: there is none (the hint names similar ones), or several ids begin so.
        """
        if record := self.find(text):
            return record
        wanted = text.strip()
        raise self._connection.read(lambda found: missing_session_with_nearest(found, wanted, list_command))

    def load(self, session_id: str) -> tuple[SessionRecord, Conversation]:
        """A session and its whole tree. An answer that was still streaming is marked as interrupted.

        Raises:
            UsageError: there is no session with this id.
            DataError: a value of it is not what this program writes.
        """

        def transaction(connection: sqlite3.Connection) -> tuple[SessionRecord, Conversation]:
            record = by_id(connection, session_id)
            rows = connection.execute(_SELECT_NODES, (session_id,)).fetchall()
            try:
                found = (connection.execute(_SELECT_PICTURE, (each,)).fetchone() for each in picture_hashes(rows))
                data = {row[0]: row[1] for row in found if row and isinstance(row[1], bytes)}  # else it counts as lost
                return record, conversation_of(record, rows, data)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise DataError(
                    f"the session {escape_line(str(record.label))} is damaged: a message of it cannot be read",
                    hint="the other sessions can be used; `mistral-chat sessions rm SESSION` removes it",
                ) from error

        with self._connection.lock:
            record, conversation = self._connection.read(transaction)
            self._cache.add(record, conversation)
        return record, conversation

    def search(self, query: str, *, limit: int = 20) -> tuple[Hit, ...]:
        """Where the words of `query` occur in messages, titles, names and system prompts; the best first."""
        return self._connection.read(lambda connection: find_hits(connection, whole_characters(query), limit))

    def questions(self, limit: int = 1000) -> tuple[str, ...]:
        """The user's messages of all sessions, newest first, without repetitions."""
        return self._connection.read(lambda connection: recent_questions(connection, limit))
