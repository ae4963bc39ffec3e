"""Remember the sessions this program works on, to store them again where they got lost. Knows no files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from chat.history.rows import node_values, session_values
from chat.history.schema import INSERT_SESSION, PUT_NODE

if TYPE_CHECKING:
    import sqlite3

    from chat.core.conversation import Conversation, Node
    from chat.history.records import SessionRecord


@dataclass
class _Session:
    record: SessionRecord
    nodes: dict[str, tuple[Node, bool]] = field(default_factory=dict)  # with: is it still being streamed


class SessionCache:
    """The sessions that were made or loaded here, as far as this program knows them."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions

    def hold(self, record: SessionRecord, conversation: Conversation) -> None:
        """Begin to remember a session."""
        nodes = {node.id: (node, False) for node in conversation.nodes.values()}
        self._sessions[record.id] = _Session(record, nodes)

    def note_record(self, record: SessionRecord) -> None:
        """Remember a changed record."""
        self._sessions.setdefault(record.id, _Session(record)).record = record

    def note_node(self, session_id: str, node: Node, *, streaming: bool) -> None:
        """Remember a new or changed message."""
        self._sessions[session_id].nodes[node.id] = (node, streaming)

    def forget(self, session_id: str) -> None:
        """Stop remembering a session."""
        self._sessions.pop(session_id, None)

    def restore(self, connection: sqlite3.Connection, session_id: str) -> None:
        """Store what is remembered of a session, beside what is there; its name stays with whoever has it now."""
        session = self._sessions[session_id]
        record = session.record
        if connection.execute("SELECT 1 FROM sessions WHERE name = ? AND id <> ?", (record.name, record.id)).fetchone():
            record = replace(record, name=None)
        connection.execute(INSERT_SESSION, session_values(record))
        for node, streaming in session.nodes.values():
            connection.execute(PUT_NODE, (session_id, *node_values(node), int(streaming), record.updated))

    def put_all_back(self, connection: sqlite3.Connection) -> None:
        """`put_back` for all."""
        for session_id in self._sessions:
            self.restore(connection, session_id)
