"""A damaged history is replaced by what can be read of it; one of another program or version is not changed."""

from __future__ import annotations

import os
import random
import re
import sqlite3
from contextlib import closing
from math import isfinite
from typing import TYPE_CHECKING

import pytest

from chat.core.conversation import Conversation, Message, Node
from chat.errors import DataError
from chat.history import schema
from chat.history.sqlite_pages import PAGE_BYTES
from chat.history.store import Store, open_store
from tests.grids import FULL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Fill = Callable[..., dict[str, Conversation]]

MUTANTS = 200 if FULL else 20
NOTICE = re.compile(
    r"the history was damaged: recovered (\d+) messages? of (\d+) sessions?; the damaged file is kept as "
    r"(history\.db\.corrupt-\d{8}T\d{6}(-\d+)?)"
)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def root_page(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        return int(connection.execute(query, (table,)).fetchone()[0])


def recovery_notice(store: Store) -> re.Match[str]:
    (notice,) = store.take_notices()
    found = NOTICE.fullmatch(notice.text)
    assert found, notice.text
    return found


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO node_texts(node_texts, rank) VALUES ('integrity-check', 1)")
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def test_a_lost_first_page_loses_nothing(tmp_path: Path, filled_history: Fill) -> None:
    """The first page has the definitions of the tables, which are the same in every history."""
    path = tmp_path / "history.db"
    written = filled_history(path)
    overwrite(path, 0, bytes(PAGE_BYTES))
    damaged = path.read_bytes()

    with open_store(path) as store:
        found = recovery_notice(store)
        assert (found[1], found[2]) == ("360", "6")
        assert (tmp_path / found[3]).read_bytes() == damaged
        assert {record.label: store.load(record.id)[1] for record in store.list()} == written
        assert len(store.search("question 7")) == 6
    assert is_sound(path)
    assert sorted(file.name for file in tmp_path.glob("history*")) == ["history.db", found[3]]


def test_a_damaged_page_loses_its_own_messages_only(tmp_path: Path, filled_history: Fill) -> None:
    """The tree stays connected: what followed a lost message follows the message before it."""
    path = tmp_path / "history.db"
    written = filled_history(path)
    with closing(sqlite3.connect(path)) as connection:
        leaves = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'nodes' AND pagetype = 'leaf' ORDER BY path"
        ).fetchall() if has_dbstat(connection) else []  # fmt: skip
    page = leaves[len(leaves) // 2][0] if leaves else leaf_in_the_middle(path)
    overwrite(path, (page - 1) * PAGE_BYTES, b"\xff" * PAGE_BYTES)

    with open_store(path) as store:
        found = recovery_notice(store)
        lost = 360 - int(found[1])
        assert 1 <= lost <= 14
        texts = {node.message.content for conversation in written.values() for node in conversation.nodes.values()}
        trees = {record.label: store.load(record.id)[1] for record in store.list()}
    assert trees.keys() == written.keys()
    for name, tree in trees.items():
        before = [node for node in written[name].path() if node.id in tree.nodes]
        assert [(node.id, node.message) for node in tree.path()] == [(node.id, node.message) for node in before]
        assert {message.content for message in tree.messages()[1:]} <= texts
    assert sum(len(tree.path()) for tree in trees.values()) == 360 - lost


def has_dbstat(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1 FROM dbstat LIMIT 1")
    except sqlite3.OperationalError:
        return False
    return True


def leaf_in_the_middle(path: Path) -> int:
    """A page of the table of nodes, found by its text."""
    return path.read_bytes().index(b"question 15 of session 3") // PAGE_BYTES + 1


def test_half_a_file_gives_half_of_its_messages(tmp_path: Path, filled_history: Fill) -> None:
    path = tmp_path / "history.db"
    written = filled_history(path)
    os.truncate(path, path.stat().st_size // PAGE_BYTES // 2 * PAGE_BYTES)
    with open_store(path) as store:
        found = recovery_notice(store)
        assert 50 < int(found[1]) < 300
        contents = {node.message.content for conversation in written.values() for node in conversation.nodes.values()}
        for record in store.list():
            assert {node.message.content for node in store.load(record.id)[1].path()} <= contents
    assert is_sound(path)


@pytest.mark.parametrize("junk", [b"this is a letter, not a database\n" * 300, b"\0" * 9000, b"SQLite format 3\0"])
def test_a_file_that_is_not_a_database_is_replaced(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "history.db"
    path.write_bytes(junk)
    with open_store(path) as store:
        found = recovery_notice(store)
        assert (found[1], found[2], store.list()) == ("0", "0", ())
        assert (tmp_path / found[3]).read_bytes() == junk
        store.create(name="works")
    with open_store(path) as store:
        assert [record.label for record in store.list()] == ["works"]
        assert store.take_notices() == ()


CHANGES = (
    *(
        "DROP TABLE nodes",
        "ALTER TABLE nodes DROP COLUMN details",
        "DROP TABLE node_texts",
        "DROP TABLE node_texts_data",
    ),
    *("DROP TRIGGER nodes_inserted", "PRAGMA user_version = 1"),
)


@pytest.mark.parametrize("change", CHANGES)
def test_tables_that_another_program_changed_are_made_again(tmp_path: Path, change: str) -> None:
    """Once each message was an unexpected error, later what was open went on in memory only."""
    path = tmp_path / "history.db"
    store = open_store(path)
    record = store.create(name="chat")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(change)
    store.append(record.id, Node("a", None, Message("user", "first")))
    assert [node.message.content for node in store.load(record.id)[1].path()] == ["first"]
    notices = store.take_notices()
    store.close()
    with open_store(path) as store:
        (notice,) = (*notices, *store.take_notices())
        found = NOTICE.fullmatch(notice.text)
        assert found and found[2] == "1"
        assert [node.message.content for node in store.load(record.id)[1].path()] == ["first"]
        store.append(record.id, Node("b", "a", Message("user", "again")))
        assert [hit.node_id for hit in store.search("again")] == ["b"]
    assert is_sound(path)


def test_an_unknown_format_number_is_damage(tmp_path: Path, filled_history: Fill) -> None:
    """SQLite refuses it without saying that the file is damaged, and each chat was in memory only."""
    path = tmp_path / "history.db"
    filled_history(path, sessions=1, turns=3)
    overwrite(path, 47, b"\x09")  # of the schema format number (sqlite.org/fileformat.html, section 1.3)
    with open_store(path) as store:
        assert recovery_notice(store).groups()[:2] == ("6", "1")


def test_a_row_that_an_index_lacks_is_found(tmp_path: Path, filled_history: Fill) -> None:
    """A message was missing, without a word, where a byte of the index was wrong."""
    path = tmp_path / "history.db"
    (written,) = filled_history(path, sessions=1, turns=3).values()
    page = PAGE_BYTES * (root_page(path, "sqlite_autoindex_nodes_1") - 1)
    overwrite(path, path.read_bytes().index(b"0-1-q", page), b"0-1-p")
    with open_store(path) as store:
        assert recovery_notice(store).groups()[:2] == ("6", "1")
        assert store.load(store.get("s0").id)[1].nodes.keys() == written.nodes.keys()
    assert is_sound(path)


def test_an_empty_file_is_a_new_history(tmp_path: Path) -> None:
    (tmp_path / "history.db").touch()
    with open_store(tmp_path / "history.db") as store:
        store.create(name="works")
        assert store.take_notices() == ()


@pytest.mark.parametrize("seed", range(MUTANTS))
def test_no_damage_is_fatal_or_loses_more_than_the_damaged_pages(
    seed: int, tmp_path: Path, filled_history: Fill
) -> None:
    """Random bytes at random offsets: the store opens with all other pages, and new turns are stored."""
    seeded = random.Random(seed)
    path = tmp_path / "history.db"
    written = filled_history(path, sessions=3, turns=10)
    size = path.stat().st_size
    pieces = seeded.choice((1, 4, 40))
    for _ in range(pieces):
        length = seeded.choice((1, 8, 200, PAGE_BYTES))
        overwrite(path, seeded.randrange(size), seeded.choice((bytes(length), seeded.randbytes(length))))
    cut = seeded.random() < 0.2
    if cut:
        os.truncate(path, seeded.randrange(size))

    with open_store(path) as store:
        trees = [store.load(record.id)[1] for record in store.list()]
        store.search("answer")
        fresh = store.create(name="fresh", conversation=Conversation().add(Message("user", "after"), "new"))
        store.append(fresh.id, Node("newer", "new", Message("assistant", "still here")))
        assert not store.failed
        notices = store.take_notices()
    assert all(NOTICE.fullmatch(notice.text) for notice in notices)
    with open_store(path) as store:
        tree = store.load(fresh.id)[1]
        assert [node.message.content for node in tree.path()] == ["after", "still here"]
    if notices:  # a changed byte inside a text cannot be noticed
        assert is_sound(path)
    messages = {node.message for conversation in written.values() for node in conversation.nodes.values()}
    kept = {node.message for tree in trees for node in tree.path()} & messages
    lost_at_most = 2 * (PAGE_BYTES // 300)  # the messages of two pages: a piece as long as a page touches two
    assert len(kept) >= len(messages) - lost_at_most * pieces or cut


def test_damage_that_is_found_later_is_repaired_then(tmp_path: Path, filled_history: Fill) -> None:
    """A large history is not checked when it is opened; the turn that finds the damage is stored nevertheless."""
    path = tmp_path / "history.db"
    filled_history(path)
    store = open_store(path)
    record, conversation = store.load(store.get("s5").id)
    store._connection.read(lambda connection: connection.execute("PRAGMA shrink_memory"))
    overwrite(path, (root_page(path, "nodes") - 1) * PAGE_BYTES, b"\xff" * PAGE_BYTES)

    conversation = conversation.add(Message("user", "one more"), "more")
    store.append(record.id, conversation.nodes["more"])

    recovery_notice(store)
    assert store.load(record.id)[1] == conversation  # all of it: the open session is restored from memory
    with open_store(path) as other:
        assert other.load(record.id)[1] == conversation
    assert is_sound(path)


def test_turns_in_the_write_ahead_log_are_read_too(tmp_path: Path, filled_history: Fill) -> None:
    """A crash left the log, which alone has the newest turns."""
    path, copy = tmp_path / "a" / "history.db", tmp_path / "b" / "history.db"
    written = filled_history(path)
    store = open_store(path)
    record, conversation = store.load(store.get("s0").id)
    conversation = conversation.add(Message("user", "only in the log"), "log")
    store.append(record.id, conversation.nodes["log"])
    copy.parent.mkdir()
    for suffix in ("", "-wal"):  # as a killed program leaves the files
        copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    log = copy.with_name("history.db-wal").read_bytes()[32:]  # frames of 24 bytes and a page, whose number comes first
    in_log = {int.from_bytes(log[at : at + 4]) for at in range(0, len(log), 24 + PAGE_BYTES)}
    damaged = next(page for page in range(6, 20) if page not in in_log)
    overwrite(copy, (damaged - 1) * PAGE_BYTES, b"\xff" * PAGE_BYTES)

    with open_store(copy) as other:
        found = recovery_notice(other)
        tree = other.load(record.id)[1]
    assert tree.nodes["log"].message == Message("user", "only in the log")
    assert (copy.parent / found[3]).exists()
    assert written.keys() == {f"s{i}" for i in range(6)}


def test_a_newer_history_is_refused_and_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled_history: Fill
) -> None:
    path = tmp_path / "history.db"
    filled_history(path, sessions=1, turns=1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")
    before = {file.name: file.read_bytes() for file in tmp_path.glob("history*")}

    with open_store(path) as store:
        store.create(name="x")
        (notice,) = store.take_notices()
        assert (store.path, store.failed) == (None, True)
    assert notice.text == (
        "the history cannot be used (its version, 9, is newer than 4, which this program knows):"
        " this chat is kept in memory only"
    )
    assert {file.name: file.read_bytes() for file in tmp_path.glob("history*")} == before


def test_a_newer_history_in_use_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newer program is running, and its version is in the write-ahead log only."""
    path = tmp_path / "history.db"
    monkeypatch.setattr(schema, "SCHEMA", schema.SCHEMA + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE later (x)",)))
    newer = open_store(path)
    record = newer.create(name="later")
    monkeypatch.undo()

    with open_store(path) as store:
        assert store.failed
        (notice,) = store.take_notices()
        assert f"its version, {schema.SCHEMA + 1}, is newer" in notice.text
    newer.append(record.id, Node("a", None, Message("user", "still fine")))
    assert newer.load(record.id)[1].leaf == "a"
    assert newer.take_notices() == ()


def test_a_database_of_another_program_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    with open_store(path) as store:
        (notice,) = store.take_notices()
    assert notice.text == (
        "the history cannot be used (it is a database of another program): this chat is kept in memory only"
    )
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.glob("history*")] == ["history.db"]


def test_a_table_whose_damaged_name_is_no_text_is_damage(tmp_path: Path) -> None:
    """SQLite's error names the table, and Python cannot decode it: the program ended with an error of its own."""
    path = tmp_path / "history.db"
    with open_store(path) as store:
        store.create(title="t", conversation=Conversation().add(Message("user", "hello")))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET name = CAST(x'fb6e' AS TEXT), sql = 'CREATE TABLE' WHERE name = 'node_texts'"
        )
    with open_store(path) as store:
        assert [record.title for record in store.list()] == ["t"]
        assert "the history was damaged: recovered 1 message of 1 session" in store.take_notices()[0].text


@pytest.mark.parametrize(
    "change", ["finish_reason = 'x'", "role = 'robot'", "ids = 7", "calls = '[1]'", f"calls = '{'[' * 5000}'"]
)
def test_a_session_with_a_damaged_value_is_named_and_the_others_are_read(change: str, tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    conversation = Conversation().add(Message("user", "hello")).add(Message("assistant", "hi", finish_reason="stop"))
    with open_store(path) as store:
        bad, good = (store.create(name=name, conversation=conversation) for name in ("bad", "good"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE nodes SET {change} WHERE session = ? AND role = 'assistant'", (bad.id,))
    with open_store(path) as store:
        with pytest.raises(DataError) as caught:
            store.load(bad.id)
        assert caught.value.message == "the session bad is damaged: a message of it cannot be read"
        assert len(store.load(good.id)[1].nodes) == 2


@pytest.mark.parametrize("change", ["title = x'ff00'", "model = x'4142'", "created = 'soon'", "updated = 9e999"])
def test_a_session_with_damaged_values_of_its_own_is_listed(change: str, tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with open_store(path) as store:
        store.create(name="bad", conversation=Conversation().add(Message("user", "hello")))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE sessions SET {change}")
    with open_store(path) as store:
        (record,) = store.list()
        assert (type(record.title), type(record.model), record.name) == (str, str, "bad")
        assert isfinite(record.created) and isfinite(record.updated)


def test_an_sqlite_without_a_module_is_no_damage_of_the_file() -> None:
    """Where Python's SQLite lacks FTS5, a whole history was to be set aside as damaged."""
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError) as lacking:
        connection.execute("CREATE VIRTUAL TABLE texts USING gone(content)")
    with pytest.raises(sqlite3.OperationalError) as missing:
        connection.execute("SELECT content FROM nodes")
    assert [schema.is_refused(each.value) for each in (lacking, missing)] == [False, True]
