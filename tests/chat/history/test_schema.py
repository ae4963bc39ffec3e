"""A history of the first version opens, and becomes what a new one is."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from chat.core.answer_details import AnswerDetails
from chat.core.conversation import Conversation, Message, Node, ToolCall
from chat.core.events import Seconds, TokenCounts
from chat.history import schema
from chat.history.records import SessionRecord
from chat.history.sqlite_pages import PAGE_BYTES
from chat.history.store import open_store

# As version 0.1.0 wrote them, but for spaces.
VERSION_1 = """
CREATE TABLE sessions (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT UNIQUE, title TEXT NOT NULL,
    model TEXT NOT NULL, model_path TEXT NOT NULL, system TEXT, settings TEXT NOT NULL,
    created REAL NOT NULL, updated REAL NOT NULL, leaf TEXT);
CREATE TABLE nodes (number INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions(id), id TEXT NOT NULL,
    parent TEXT, role TEXT NOT NULL, content TEXT NOT NULL, calls TEXT NOT NULL, answers TEXT NOT NULL,
    ids BLOB NOT NULL, finish_reason TEXT, streaming INTEGER NOT NULL, created REAL NOT NULL, UNIQUE (session, id));
CREATE INDEX sessions_by_time ON sessions(updated);
CREATE VIRTUAL TABLE node_texts USING fts5(content, calls, content='nodes', content_rowid='number',
    tokenize='unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE session_texts USING fts5(name, title, system, content='sessions', content_rowid='number',
    tokenize='unicode61 remove_diacritics 2');
CREATE TRIGGER nodes_inserted AFTER INSERT ON nodes BEGIN
    INSERT INTO node_texts(rowid, content, calls) VALUES (new.number, new.content, new.calls); END;
CREATE TRIGGER nodes_deleted AFTER DELETE ON nodes BEGIN
    INSERT INTO node_texts(node_texts, rowid, content, calls)
    VALUES ('delete', old.number, old.content, old.calls); END;
CREATE TRIGGER nodes_updated AFTER UPDATE OF content, calls ON nodes BEGIN
    INSERT INTO node_texts(node_texts, rowid, content, calls) VALUES ('delete', old.number, old.content, old.calls);
    INSERT INTO node_texts(rowid, content, calls) VALUES (new.number, new.content, new.calls); END;
CREATE TRIGGER sessions_inserted AFTER INSERT ON sessions BEGIN
    INSERT INTO session_texts(rowid, name, title, system) VALUES (new.number, new.name, new.title, new.system); END;
CREATE TRIGGER sessions_deleted AFTER DELETE ON sessions BEGIN
    INSERT INTO session_texts(session_texts, rowid, name, title, system)
    VALUES ('delete', old.number, old.name, old.title, old.system); END;
CREATE TRIGGER sessions_updated AFTER UPDATE OF name, title, system ON sessions BEGIN
    INSERT INTO session_texts(session_texts, rowid, name, title, system)
    VALUES ('delete', old.number, old.name, old.title, old.system);
    INSERT INTO session_texts(rowid, name, title, system) VALUES (new.number, new.name, new.title, new.system); END;
PRAGMA application_id = 1296263265;
PRAGMA user_version = 1;
"""
ROWS = """
INSERT INTO sessions VALUES (1, '0123456789abcdef0123456789abcdef', 'trip', 'Where to?', 'v0.3', '/v0.3.gguf',
    'Be brief.', '{"temperature": 0.2}', 1700000000.0, 1700000060.0, 'b');
INSERT INTO nodes VALUES (1, '0123456789abcdef0123456789abcdef', 'a', NULL, 'user', 'Where to?', '', '', x'', NULL, 0,
    1700000000.0);
INSERT INTO nodes VALUES (2, '0123456789abcdef0123456789abcdef', 'b', 'a', 'assistant', 'Rome',
    '[{"name": "map", "arguments": "{}", "id": "x"}]', '', x'0100000002000000', 'stop', 0, 1700000060.0);
"""
RECORD = SessionRecord(
    id="0123456789abcdef0123456789abcdef",
    name="trip",
    title="Where to?",
    model="v0.3",
    model_path="/v0.3.gguf",
    system="Be brief.",
    settings={"temperature": 0.2},
    created=1_700_000_000.0,
    updated=1_700_000_060.0,
    leaf="b",
)
CONVERSATION = (
    Conversation("Be brief.")
    .add(Message("user", "Where to?"), "a")
    .add(Message("assistant", "Rome", (1, 2), "stop", (ToolCall("map", "{}", "x"),)), "b")
)


def definitions(path: Path) -> tuple[dict[str, str], int, int]:
    """The tables, indexes and triggers by name, the application's id and the version."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        tables = {name: re.sub(r"\s+", "", sql) for name, sql in rows}
        numbers = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    return tables, numbers[0], numbers[1]


def write_version_1(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
        connection.executescript(ROWS)


def test_a_history_of_the_first_version_opens_and_continues(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    write_version_1(path)
    with open_store(path) as store:
        assert store.take_notices() == ()
        assert store.load(RECORD.id) == (RECORD, CONVERSATION)
        assert [listed.messages for listed in store.list()] == [2]
        assert [hit.node_id for hit in store.search("rome")] == ["b"]
        store.append(RECORD.id, CONVERSATION.add(Message("tool", "here", tool_call_id="x"), "c").nodes["c"])
        assert list(store.load(RECORD.id)[1].nodes) == ["a", "b", "c"]


def test_an_old_history_gets_the_tables_of_a_new_one(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    write_version_1(old)
    for path in (old, new):
        with open_store(path) as store:
            store.create(name="x", conversation=CONVERSATION)
    assert definitions(new) == definitions(old)
    assert definitions(new)[2] == schema.SCHEMA == 4


def test_reasoning_is_stored_with_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    write_version_1(path)
    thought = Message("assistant", "", reasoning="Rome? No: Paris", finish_reason="length")
    conversation = CONVERSATION.add(thought, "c")
    with open_store(path) as store:
        store.append(RECORD.id, conversation.nodes["c"])
    with open_store(path) as store:
        assert store.load(RECORD.id)[1].nodes == conversation.nodes


@pytest.mark.parametrize("damaged", [False, True])
def test_a_history_of_the_second_version_opens_and_keeps_details(tmp_path: Path, damaged: bool) -> None:
    """Rows of all three versions lie side by side, also when they are recovered page by page."""
    path = tmp_path / "history.db"
    write_version_1(path)
    with closing(sqlite3.connect(path)) as connection:
        for statement in schema.MIGRATIONS[1]:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 2")
        row = ("c", "b", "assistant", "Paris", "", "", b"", "stop", 0, 1.0, "Rome? No")
        connection.execute(f"INSERT INTO nodes VALUES (3, '{RECORD.id}', {', '.join('?' * len(row))})", row)
        connection.commit()
    conversation = CONVERSATION.add(Message("assistant", "Paris", (), "stop", reasoning="Rome? No"), "c")
    details = AnswerDetails("7B", "", "Q4_K_M", {"seed": 7}, TokenCounts(5, 0, 3), Seconds(0.0, 0.5, 1.0), 9.0)
    last = Node("d", "c", Message("assistant", "Oslo", (1,), "stop"), details)
    with open_store(path) as store:
        assert store.load(RECORD.id)[1].nodes == conversation.nodes
        store.append(RECORD.id, last)
    if damaged:
        with path.open("r+b") as file:
            file.write(bytes(PAGE_BYTES))
    with open_store(path) as store:
        assert bool(store.take_notices()) is damaged
        assert store.load(RECORD.id)[1].nodes == {**conversation.nodes, "d": last}


def test_details_that_cannot_be_read_lose_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    details = AnswerDetails("7B")
    with open_store(path) as store:
        record = store.create(conversation=CONVERSATION)
        for number, text in enumerate(('{"model": 1}', "[", "3", '{"tokens": {"prompt": -1}}')):
            store.append(record.id, Node(str(number), "b", Message("assistant", text), details))
            store._connection.write(
                lambda connection, n=str(number), text=text: connection.execute(  # type: ignore[misc]
                    "UPDATE nodes SET details = ? WHERE id = ?", (text, n)
                )
            )
        nodes = store.load(record.id)[1].nodes
    assert [(node.message.content, node.details) for node in nodes.values()][2:] == [
        ('{"model": 1}', None), ("[", None), ("3", None), ('{"tokens": {"prompt": -1}}', None),
    ]  # fmt: skip


def test_an_old_history_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    """Only a file of this version was copied to memory, so an older one seemed empty."""
    path = tmp_path / "history.db"
    write_version_1(path)
    before = path.read_bytes()
    with closing(schema.copy_to_memory(path)) as memory:
        assert memory.execute("SELECT content, reasoning FROM nodes").fetchall() == [("Where to?", ""), ("Rome", "")]
    assert path.read_bytes() == before
