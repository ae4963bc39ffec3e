"""Keep sessions: what it is told is on the disk when it returns, or in memory after one warning. Knows no terminal."""

from __future__ import annotations

import sqlite3
import time
import uuid
from typing import TYPE_CHECKING, Any

from chat.core.conversation import Conversation, Node
from chat.errors import FileError, UsageError
from chat.history.connection import ResilientConnection
from chat.history.history_file import make_private
from chat.history.records import SESSION_ID, SHOWN_OF_ID, SessionRecord, checked_name, storable, title_of
from chat.history.rows import NODE_COLUMNS, conversation_of, node_values, session_values, settings_json
from chat.history.schema import INSERT_SESSION, PUT_NODE
from chat.history.search import Hit, find_hits
from chat.history.session_cache import SessionCache
from chat.history.session_lookup import by_id, find_by_name_or_id, listed, nearest_missing, recent_questions
from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from chat.core.events import Notice

FILE_NAME = "history.db"

_SELECT_NODES = f"SELECT {', '.join(NODE_COLUMNS)}, streaming FROM nodes WHERE session = ? ORDER BY number"


def open_history(*, enabled: bool = True) -> Store:
    """The person's own history, in the data folder; one that touches no file if not `enabled`."""
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
    """Open the history at `path`; without one, or if it cannot be used, one in memory that has a notice to give.

    Args:
        states: the folder of the engine's saved states, whose files a removed session takes with it.
    """
    return Store(path, states=states)


class Store:
    """Sessions and their messages, safe to use from several threads and beside other programs.

    Every change is committed with a full sync before the method returns. When the file fails, the sessions of this
    program go on in memory, and `take_notices` says so once.
    """

    def __init__(self, path: Path | None, *, states: Path | None = None) -> None:
        self._states = states
        self._working = SessionCache()
        self._keeper = ResilientConnection(path, self._working.put_all_back)

    @property
    def path(self) -> Path | None:
        """The file, or None for memory."""
        return self._keeper.path

    @property
    def failed(self) -> bool:
        """Whether it should be on the disk, but is not."""
        return bool(self._keeper.failure)

    def check(self, *, writes: bool) -> None:
        """Make sure that this is the history on the disk, rather than a chat that goes on without one.

        Args:
            writes: what will be done to it has to stay.

        Raises:
            FileError: it cannot be read, or not written.
        """
        if self.failed and (writes or self._keeper.is_unread):
            what, hint = ("written", "nothing was changed") if writes else ("read", None)
            raise FileError(f"the history cannot be {what}: {self._keeper.failure}", hint=hint)

    def fail(self, reason: str) -> None:
        """Note that there is no place for a file."""
        self._keeper.is_unread = True
        self._keeper.fail(reason)

    def take_notices(self) -> tuple[Notice, ...]:
        """What the person should know and was not told yet; ask after opening and after each change."""
        return self._keeper.take_notices()

    def close(self) -> None:
        """Let go of the file; harmless when already closed."""
        self._keeper.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Sessions

    def create(
        self,
        *,
        name: str | None = None,
        title: str = "",
        model: str = "",
        model_path: str = "",
        settings: Mapping[str, Any] | None = None,
        conversation: Conversation | None = None,
    ) -> SessionRecord:
        """Begin a session, with the messages and the system prompt of `conversation` if given.

        Raises:
            UsageError: the name is taken or impossible.
        """
        talk = conversation or Conversation()
        now = time.time()
        record = SessionRecord(
            id=uuid.uuid4().hex,
            name=None if name is None else checked_name(name),
            title=title or _first_title(talk),
            model=model,
            model_path=model_path,
            system=talk.system,
            settings=dict(settings or {}),
            created=now,
            updated=now,
            leaf=talk.leaf,
        )

        def work(connection: sqlite3.Connection) -> SessionRecord:
            if connection.execute(INSERT_SESSION, session_values(record)).rowcount < 1:
                raise _taken(record.name or "")
            for node in talk.nodes.values():
                connection.execute(PUT_NODE, (record.id, *node_values(node), 0, now))
            return by_id(connection, record.id)

        with self._keeper.lock:
            made = self._keeper.write(work)
            self._working.hold(made, talk)
        return made

    def list(self, limit: int | None = None) -> tuple[SessionRecord, ...]:
        """Sessions with a name or a message, the last used first."""
        return self._keeper.read(lambda connection: listed(connection, limit))

    def latest(self) -> SessionRecord | None:
        """The session that was used last."""
        return next(iter(self.list(1)), None)

    def find(self, text: str) -> SessionRecord | None:
        """The session with this name, this id, or the only one whose id begins so; None if there is none.

        Raises:
            UsageError: several ids begin so.
        """
        return self._keeper.read(lambda connection: find_by_name_or_id(connection, storable(text.strip())))

    def find_named(self, text: str) -> SessionRecord | None:
        """`find` for what may be the name of a session to come: `cafe` is none of an id that begins so."""
        return self._keeper.read(
            lambda connection: find_by_name_or_id(connection, storable(text.strip()), shortest=SHOWN_OF_ID)
        )

    def get(self, text: str) -> SessionRecord:
        """`find`, where there has to be one.

        Raises:
            UsageError: there is none, with the nearest names as the hint.
        """
        if record := self.find(text):
            return record
        raise self._keeper.read(lambda connection: nearest_missing(connection, text.strip()))

    def load(self, session_id: str) -> tuple[SessionRecord, Conversation]:
        """The session and its whole tree; an answer that a crash cut off is marked as interrupted.

        Raises:
            UsageError: there is no session with this id.
        """

        def work(connection: sqlite3.Connection) -> tuple[SessionRecord, Conversation]:
            record = by_id(connection, session_id)
            return record, conversation_of(record, connection.execute(_SELECT_NODES, (session_id,)).fetchall())

        with self._keeper.lock:
            record, conversation = self._keeper.read(work)
            self._working.hold(record, conversation)
        return record, conversation

    def rename(self, session_id: str, name: str | None) -> SessionRecord:
        """Give the session a name, or take it away.

        Raises:
            UsageError: the name is taken or impossible.
        """
        name = None if name is None else checked_name(name)
        try:
            return self._set(session_id, "name", name)
        except sqlite3.IntegrityError as error:
            raise _taken(name or "") from error

    def remove(self, session_id: str) -> None:
        """Delete the session, its messages, search entries and saved states.

        Raises:
            FileError: the history or a saved state cannot be changed.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM nodes WHERE session = ?", (session_id,))
            connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
            for index in ("node_texts", "session_texts"):  # words of deleted rows stay in it until it is merged
                connection.execute(f"INSERT INTO {index}({index}) VALUES ('optimize')")

        with self._keeper.lock:
            if not self.failed:
                self._remove_states(session_id)
                self._keeper.write(work)
            if self.failed:
                reason = self._keeper.failure
                raise FileError(f"the history cannot be written, so the session stays in it: {reason}")
            self._working.forget(session_id)
            self._keeper.truncate_log()

    def set_leaf(self, session_id: str, leaf: str | None) -> SessionRecord:
        """Look at another place of the tree; None is before the first message."""
        return self._set(session_id, "leaf", leaf)

    def set_system(self, session_id: str, system: str | None) -> SessionRecord:
        """Change the system prompt; empty text is none."""
        return self._set(session_id, "system", storable(system) if system else None)

    def set_title(self, session_id: str, title: str) -> SessionRecord:
        """Change the title."""
        return self._set(session_id, "title", storable(title))

    def set_model(self, session_id: str, model: str, model_path: str = "") -> SessionRecord:
        """Remember which model the session uses now."""
        self._set(session_id, "model", storable(model))
        return self._set(session_id, "model_path", storable(model_path))

    def set_settings(self, session_id: str, settings: Mapping[str, Any]) -> SessionRecord:
        """Remember the settings that the session was given."""
        return self._set(session_id, "settings", settings_json(settings))

    # Messages

    def append(self, session_id: str, node: Node) -> None:
        """Store a message, which becomes the leaf; the first question makes the title.

        Raises:
            UsageError: there is no session with this id.
        """
        self._put(session_id, node, streaming=False, becomes_leaf=True)

    def begin_answer(self, session_id: str, node: Node) -> None:
        """Store an answer that is still being made; it becomes the leaf."""
        self._put(session_id, node, streaming=True, becomes_leaf=True)

    def update_answer(self, session_id: str, node: Node) -> None:
        """Store the answer as far as it is made: call it every second or so."""
        self._put(session_id, node, streaming=True, becomes_leaf=False)

    def finish_answer(self, session_id: str, node: Node) -> None:
        """Store the answer as it ended."""
        self._put(session_id, node, streaming=False, becomes_leaf=False)

    def search(self, query: str, *, limit: int = 20) -> tuple[Hit, ...]:
        """Where the words of `query` are, in messages, titles, names and system prompts; the best first."""
        return self._keeper.read(lambda connection: find_hits(connection, storable(query), limit))

    def questions(self, limit: int = 1000) -> tuple[str, ...]:
        """What was asked last, in any session, newest first and each once."""
        return self._keeper.read(lambda connection: recent_questions(connection, limit))

    def _put(self, session_id: str, node: Node, *, streaming: bool, becomes_leaf: bool) -> None:
        values = node_values(node)

        def work(connection: sqlite3.Connection) -> None:
            now = time.time()  # under the lock of the transaction: in the order of the commits
            connection.execute(PUT_NODE, (session_id, *values, int(streaming), now))
            connection.execute("UPDATE sessions SET updated = ? WHERE id = ?", (now, session_id))
            if becomes_leaf:
                connection.execute("UPDATE sessions SET leaf = ? WHERE id = ?", (node.id, session_id))
            if node.message.role == "user" and (title := title_of(storable(node.message.content))):
                connection.execute("UPDATE sessions SET title = ? WHERE id = ? AND title = ''", (title, session_id))

        with self._keeper.lock:
            self._change(session_id, work)
            self._working.note_node(session_id, node, streaming=streaming)

    def _set(self, session_id: str, column: str, value: str | None) -> SessionRecord:
        statement = f"UPDATE sessions SET {column} = ? WHERE id = ?"
        return self._change(session_id, lambda connection: connection.execute(statement, (value, session_id)))

    def _change(self, session_id: str, work: Callable[[sqlite3.Connection], object]) -> SessionRecord:
        """Change a session, put back first if another program removed it while we work on it."""

        def whole(connection: sqlite3.Connection) -> SessionRecord:
            is_there = connection.execute("SELECT 1 FROM sessions WHERE id = ?", (session_id,)).fetchone()
            if not is_there and session_id in self._working:
                self._working.restore(connection, session_id)
            by_id(connection, session_id)
            work(connection)
            return by_id(connection, session_id)

        with self._keeper.lock:
            record = self._keeper.write(whole)
            self._working.note_record(record)
        return record

    def _remove_states(self, session_id: str) -> None:
        if self._states is None or not SESSION_ID.fullmatch(session_id):
            return
        for state in self._states.glob(f"{session_id}*"):
            try:
                state.unlink(missing_ok=True)
            except OSError as error:
                raise FileError(f"the saved state {state} cannot be deleted: {error.strerror}") from error


def _first_title(conversation: Conversation) -> str:
    questions = (node.message.content for node in conversation.nodes.values() if node.message.role == "user")
    return title_of(storable(next(questions, "")))


def _taken(name: str) -> UsageError:
    return UsageError(f"a session is called `{escape_line(name)}` already", hint="choose another name")
