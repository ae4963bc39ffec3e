"""Open and change the stored history: sessions and their messages."""

from __future__ import annotations

import sqlite3
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chat.core.conversation import Conversation, Node
from chat.errors import FileError, UsageError
from chat.history.history_file import make_private
from chat.history.reader import HistoryReader
from chat.history.records import SESSION_ID, SessionRecord, checked_name, title_of
from chat.history.rows import node_values, picture_values, session_values, settings_json
from chat.history.schema import INSERT_SESSION, PUT_NODE, PUT_PICTURE, REMOVE_UNUSED_PICTURES
from chat.history.session_lookup import by_id, missing_session
from chat.system.characters import whole_characters
from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

FILE_NAME = "history.db"
LATEST_TIME = 1e12  # seconds since 1970; what is later is damaged
CLOCK_STEP = 0.001  # seconds between two changes, at least


def open_history(*, enabled: bool = True) -> Store:
    """Open the user's history in the data folder.

    Args:
        enabled: False gives an empty history in memory, and no file is read or written.
    """
    if not enabled:
        return open_store(None)
    from chat.system.paths import FOLDER_MODE, data_folder, state_folder

    try:
        folder, states = data_folder(), state_folder()
    except FileError as error:
        store = open_store(None)
        store.fail(error.message)
        return store
    make_private(folder, FOLDER_MODE)
    return open_store(folder / FILE_NAME, states=states)


def open_store(path: Path | None, *, states: Path | None = None) -> Store:
    """Open the history at `path`.

    If the file cannot be used, the history is in memory and has a notice that says so.

    Args:
        path: the file, created if it is missing; None for memory.
        states: the folder of saved states, where those of a removed session are deleted.
    """
    return Store(path, states=states)


class Store(HistoryReader):
    """The stored sessions, to read and to change.

    Each change is one transaction, committed with a full sync before the method returns. When the file fails, the
    sessions of this program continue in memory.
    """

    def __init__(self, path: Path | None, *, states: Path | None = None) -> None:
        """See `open_store`."""
        super().__init__(path)
        self._states = states

    def create(
        self,
        *,
        name: str | None = None,
        title: str = "",
        model: str = "",
        model_path: str = "",
        settings: Mapping[str, Any] | None = None,
        conversation: Conversation | None = None,
        times: tuple[float, float] | None = None,
    ) -> SessionRecord:
        """Store a new session.

        Args:
            name: a name that no other session has.
            title: if empty, the first question makes it.
            model: the model as the user named it.
            model_path: the model's file.
            settings: options that belong to the session.
            conversation: its system prompt and first messages.
            times: when it was created and changed last, in seconds since 1970; None for now.

        Raises:
            UsageError: another session has the name, or it is not allowed.
        """
        tree = conversation or Conversation()
        now = time.time()
        record = SessionRecord(
            id=uuid.uuid4().hex,
            name=None if name is None else checked_name(name),
            title=title or _title_of(tree.nodes.values()),
            model=model,
            model_path=model_path,
            system=tree.system,
            settings=dict(settings or {}),
            created=times[0] if times else now,
            updated=times[1] if times else now,
            leaf=tree.leaf,
        )

        def transaction(connection: sqlite3.Connection) -> SessionRecord:
            new = record if times else replace(record, updated=_time_of_change(connection))
            if connection.execute(INSERT_SESSION, session_values(new)).rowcount < 1:
                raise _name_taken(record.name or "")
            for node in tree.nodes.values():
                connection.execute(PUT_NODE, (record.id, *node_values(node), 0, now))
            connection.executemany(PUT_PICTURE, picture_values(tree.nodes.values()))
            return by_id(connection, record.id)

        with self._connection.lock:
            created = self._connection.write(transaction)
            self._cache.add(created, tree)
        return created

    def rename(self, session_id: str, name: str | None) -> SessionRecord:
        """Give the session a name; None removes it.

        Raises:
            UsageError: another session has the name, it is not allowed, or there is no session with this id.
        """
        name = None if name is None else checked_name(name)
        try:
            return self._change(session_id, {"name": name})
        except sqlite3.IntegrityError as error:
            raise _name_taken(name or "") from error

    def remove(self, session_id: str) -> None:
        """Delete a session with its messages, search entries and saved states, and the pictures that no other has.

        Raises:
            FileError: the history or a saved state cannot be changed.
        """

        def transaction(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM nodes WHERE session = ?", (session_id,))
            connection.execute(REMOVE_UNUSED_PICTURES)
            connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
            for index in ("node_texts", "session_texts"):  # words of deleted rows stay in the index until it is merged
                connection.execute(f"INSERT INTO {index}({index}) VALUES ('optimize')")

        with self._connection.lock:
            if not self.failed:
                self._remove_states(session_id)
                self._connection.write(transaction)
            if self.failed:
                reason = self._connection.failure
                raise FileError(f"the history cannot be written, so the session stays in it: {reason}")
            self._cache.remove(session_id)
            self._connection.truncate_log()

    def set_leaf(self, session_id: str, leaf: str | None) -> SessionRecord:
        """Change the leaf; None is before the first message.

        Raises:
            UsageError: there is no session with this id.
        """
        return self._change(session_id, {"leaf": leaf})

    def set_system(self, session_id: str, system: str | None) -> SessionRecord:
        """Change the system prompt; an empty text removes it, and None leaves it to the model.

        Raises:
            UsageError: there is no session with this id.
        """
        return self._change(session_id, {"system": None if system is None else whole_characters(system)})

    def set_model(self, session_id: str, model: str, model_path: str = "") -> SessionRecord:
        """Change the model and its file.

        Raises:
            UsageError: there is no session with this id.
        """
        return self._change(session_id, _model_columns(model, model_path))

    def set_settings(self, session_id: str, settings: Mapping[str, Any]) -> SessionRecord:
        """Replace the options that belong to the session.

        Raises:
            UsageError: there is no session with this id.
        """
        return self._change(session_id, {"settings": settings_json(settings)})

    def append(
        self, session_id: str, *nodes: Node, title: str = "", model: tuple[str, str] | None = None
    ) -> SessionRecord:
        """Store complete messages; the last one becomes the leaf.

        Args:
            session_id: the session.
            nodes: the messages, at least one.
            title: the title of a session that has none; if empty, the first question makes it.
            model: the model and its file, if the session's are to be changed too.

        Raises:
            UsageError: there is no session with this id.
        """
        columns = {"leaf": nodes[-1].id, **(_model_columns(*model) if model else {})}
        return self._change(session_id, columns, nodes, title=whole_characters(title) or _title_of(nodes))

    def begin_answer(self, session_id: str, node: Node) -> SessionRecord:
        """Store an answer that is still being streamed; it becomes the leaf.

        Raises:
            UsageError: there is no session with this id.
        """
        return self._change(session_id, {"leaf": node.id}, (node,), streaming=True)

    def update_answer(self, session_id: str, node: Node) -> SessionRecord:
        """Store an answer as far as it is streamed.

        Raises:
            UsageError: there is no session with this id.
        """
        return self._change(session_id, {}, (node,), streaming=True)

    def finish_answer(self, session_id: str, node: Node) -> SessionRecord:
        """Store an answer as it ended.

        Raises:
            UsageError: there is no session with this id.
        """
        return self._change(session_id, {}, (node,))

    def _change(
        self,
        session_id: str,
        columns: Mapping[str, str | None],
        nodes: tuple[Node, ...] = (),
        *,
        streaming: bool = False,
        title: str = "",
    ) -> SessionRecord:
        """Change a session in one transaction.

        A session that another program removed while this one works on it is restored first.

        Args:
            session_id: the session.
            columns: new values of its row.
            nodes: messages to add or replace.
            streaming: whether they are still being streamed.
            title: the title of a session that has none.

        Raises:
            UsageError: there is no session with this id.
        """
        rows = [node_values(node) for node in nodes]

        def transaction(connection: sqlite3.Connection) -> SessionRecord:
            now = _time_of_change(connection)  # in the transaction: times are then in the order of the commits
            values = {**columns, "updated": now} if rows else columns
            if not _update_session(connection, session_id, values):
                if session_id not in self._cache:
                    raise missing_session(session_id)
                self._cache.restore(connection, session_id)
                _update_session(connection, session_id, values)
            for row in rows:
                connection.execute(PUT_NODE, (session_id, *row, int(streaming), now))
            connection.executemany(PUT_PICTURE, picture_values(nodes))
            if title:
                connection.execute("UPDATE sessions SET title = ? WHERE id = ? AND title = ''", (title, session_id))
            return by_id(connection, session_id)

        with self._connection.lock:
            record = self._connection.write(transaction)
            self._cache.update(record, nodes, streaming=streaming)
        return record

    def _remove_states(self, session_id: str) -> None:
        if self._states is None or not SESSION_ID.fullmatch(session_id):
            return
        for state in self._states.glob(f"{session_id}*"):
            try:
                state.unlink(missing_ok=True)
            except OSError as error:
                raise FileError(f"the saved state {state} cannot be deleted: {error.strerror}") from error


def _time_of_change(connection: sqlite3.Connection) -> float:
    """The present time; where the clock was set back, a time just after the last change, so that the order stays."""
    latest = connection.execute("SELECT max(updated) FROM sessions WHERE updated < ?", (LATEST_TIME,)).fetchone()[0]
    return max(time.time(), (latest or 0.0) + CLOCK_STEP)


def _update_session(connection: sqlite3.Connection, session_id: str, values: Mapping[str, str | float | None]) -> bool:
    """Change columns of a session's row; False if there is no such row."""
    assignments = ", ".join(f"{column} = ?" for column in values)
    statement = f"UPDATE sessions SET {assignments} WHERE id = ?"
    return connection.execute(statement, (*values.values(), session_id)).rowcount > 0


def _model_columns(model: str, path: str) -> dict[str, str]:
    return {"model": whole_characters(model), "model_path": whole_characters(path)}


def _title_of(nodes: Iterable[Node]) -> str:
    """The title that the first question makes, by the names of its pictures if it has no text; empty without one."""
    question = next((node.message for node in nodes if node.message.role == "user"), None)
    if question is None:
        return ""
    return title_of(whole_characters(question.summary))


def _name_taken(name: str) -> UsageError:
    return UsageError(f"there is already a session called `{escape_line(name)}`", hint="choose another name")
