"""Keep the open sessions in memory, so that they can be stored again in another file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from chat.history.rows import node_values, session_values
from chat.history.schema import INSERT_SESSION, PUT_NODE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from chat.core.conversation import Conversation, Node
    from chat.history.records import SessionRecord


@dataclass
class _CachedSession:
    record: SessionRecord
    nodes: dict[str, tuple[Node, bool]] = field(default_factory=dict)  # id -> (node, whether it is still streaming)


class SessionCache:
    """The sessions that this program created, loaded or changed."""

    def __init__(self) -> None:
        self._sessions: dict[str, _CachedSession] = {}

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions

    def add(self, record: SessionRecord, conversation: Conversation) -> None:
        """Add a session with its whole tree."""
        nodes = {node.id: (node, False) for node in conversation.nodes.values()}
        self._sessions[record.id] = _CachedSession(record, nodes)

    def update(self, record: SessionRecord, nodes: Iterable[Node] = (), *, streaming: bool = False) -> None:
        """Replace the record of a session, and add or replace some of its messages.

        Args:
            record: the session.
            nodes: the messages.
            streaming: whether they are still being streamed.
        """
        session = self._sessions.setdefault(record.id, _CachedSession(record))
        session.record = record
        session.nodes.update({node.id: (node, streaming) for node in nodes})

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

    def restore_all(self, connection: sqlite3.Connection) -> None:
        """Store every session again."""
        for session_id in self._sessions:
            self.restore(connection, session_id)
