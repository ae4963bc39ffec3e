"""Histories of each version with damaged rows, tables and bytes: what is whole is kept, and each command ends well.

Any number of them: `python -m tests.chat.history.try_hostile_histories COUNT [--seed N] [--first PLACE]`.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

from chat.core.conversation import Conversation, Message, Picture, ToolCall
from chat.errors import ChatError
from chat.history import schema
from chat.history.records import SessionRecord
from chat.history.rows import NODE_COLUMNS, SESSION_COLUMNS, node_values, picture_values, session_values
from chat.history.store import open_store
from chat.system.paths import data_folder
from tests import hostile_commands
from tests.convert.hostile_json import hostile_json
from tests.hostile_commands import Trial

ESCAPES = "\x1b[2J\x9b31m\u202e\r\n\x08"
CAT = Picture.of_file(b"\x89PNG\r\n\x1a\n\0cat" * 400, "image/png", "cat.png")
TREE = (
    Conversation("Be brief.")
    .add(Message("user", "Where to?", pictures=(CAT,)), "a")
    .add(Message("assistant", "Rome", (1, 2), "stop", (ToolCall("map", "{}", "x"),)), "b")
    .add(Message("tool", "here", tool_call_id="x", name="map"), "c")
)
SETTINGS = {"temperature": 0.2, "tools": "x"}
TARGET = SessionRecord("0" * 32, "trip", "Where to?", "v0.3", "/m.gguf", "Be brief.", SETTINGS, 1.7e9, 1.7e9, "c")
WITNESS = replace(TARGET, id="1" * 32, name="witness", settings={})
NEW = {"reasoning": 2, "details": 3, "pictures": 4}  # the version that a column of nodes came with
VALUES = (
    *(
        None,
        0,
        -1,
        1,
        2**63 - 1,
        1e308,
        float("inf"),
        float("-inf"),
        "",
        "x",
        "a",
        "b",
        "c",
        ESCAPES,
        "\0",
        "x" * 200_000,
    ),
    *("[]", "{}", "null", "[" * 5000, '{"a": 1}', "[1, null]", '[{"name": 1}]', "NaN", b"", b"\xff\xfe", b"\1\2\3"),
    *("user", "system", "robot", "stop", CAT.sha256, "a" * 64, "\ud7ff", "2026-01-01", "/etc/passwd", b"x" * 5000),
)


def write_history(path: Path, version: int) -> None:
    """Two sessions with the same messages, as a program of that version wrote them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for migration in schema.MIGRATIONS[:version]:
            for statement in migration:
                connection.execute(statement)
        columns = [name for name in NODE_COLUMNS if NEW.get(name, 1) <= version]
        for record in (TARGET, WITNESS):
            marks = ", ".join("?" * len(SESSION_COLUMNS))
            names = ", ".join(SESSION_COLUMNS)
            connection.execute(f"INSERT INTO sessions ({names}) VALUES ({marks})", session_values(record))
            for node in TREE.nodes.values():
                values = dict(zip(NODE_COLUMNS, node_values(node), strict=True))
                row = (record.id, *(values[name] for name in columns), 0, 1.0)
                marks = ", ".join("?" * len(row))
                names = ", ".join(("session", *columns, "streaming", "created"))
                connection.execute(f"INSERT INTO nodes ({names}) VALUES ({marks})", row)
        if version >= NEW["pictures"]:
            connection.executemany(schema.PUT_PICTURE, picture_values(TREE.nodes.values()))
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")


def _value(connection: sqlite3.Connection, random: Random) -> None:
    """Another value in a row of the target session, or of a picture."""
    tables = ["sessions", "nodes", "nodes", "pictures"]
    table = random.choice(tables)
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] not in ("number", "id")]
    if not columns:  # an older version has no pictures, or the table was dropped before
        return
    column = random.choice(columns)
    value = random.choice(VALUES)
    where = {"sessions": f"id = '{TARGET.id}'", "nodes": f"session = '{TARGET.id}'", "pictures": "1"}[table]
    if random.random() < 0.3:
        value = hostile_json(random.choice((SETTINGS, [{"name": "map", "arguments": "{}", "id": "x"}], [{}])), random)
    if table == "nodes" and column == "session":
        value = random.choice((value, "2" * 32))
    rows = [row[0] for row in connection.execute(f"SELECT number FROM {table} WHERE {where}")]
    if rows:
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE number = ?", (value, random.choice(rows)))


def _rows(connection: sqlite3.Connection, random: Random) -> None:
    """Rows of the target session removed, repeated or tied into a circle."""
    connection.execute(
        random.choice(
            (
                f"DELETE FROM nodes WHERE session = '{TARGET.id}' AND id = '{random.choice('abc')}'",
                f"DELETE FROM sessions WHERE id = '{TARGET.id}'",
                f"UPDATE nodes SET parent = '{random.choice('abcx')}' WHERE session = '{TARGET.id}'",
                f"UPDATE sessions SET leaf = '{random.choice('abx')}' WHERE id = '{TARGET.id}'",
                "DELETE FROM pictures",
                "UPDATE pictures SET data = x'00'",
                f"UPDATE pictures SET sha256 = '{'b' * 64}'",
                "INSERT INTO nodes (session, id, parent, role, content, calls, answers, ids, streaming, created)"
                f" VALUES ('{TARGET.id}', 'z', 'z', 'user', 'x', '', '', x'', 1, 0)",
            )
        )
    )


def _tables(connection: sqlite3.Connection, random: Random) -> None:
    """A table, an index or a trigger less, or another version."""
    kinds = connection.execute("SELECT type, name FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    kind, name = random.choice(kinds)
    statements = (
        f"DROP {kind} {name}",
        f"PRAGMA user_version = {random.choice((0, 1, 2, 3, 4))}",
        "DELETE FROM node_texts",
    )
    connection.execute(random.choice(statements))


def _bytes(path: Path, random: Random) -> None:
    raw = bytearray(path.read_bytes())
    for _ in range(random.choice((1, 4, 200))):
        raw[random.randrange(len(raw))] = random.randrange(256)
    path.write_bytes(raw[: random.choice((len(raw), len(raw), random.randrange(len(raw))))])


COMMANDS = (
    *(["list"], ["list", "--json"], ["show", "trip"], ["show", "witness"], ["search", "rome"], ["rm", "-y", "trip"]),
    *(["export", "trip", "--format", kind] for kind in ("json", "jsonl", "html", "markdown", "text")),
    *(["rename", "trip", "other"], ["show", "0" * 32], ["search", ESCAPES]),
)


def try_histories(home: Path, count: int, seed: int, first: int = 0) -> Trial:
    """Open hostile histories, `count` times from the `first` of a seed on."""
    trial = Trial()
    path = data_folder() / "history.db"
    originals = {}
    for version in range(1, schema.SCHEMA + 1):
        originals[version] = home / f"version-{version}.db"
        write_history(originals[version], version)
    for place in range(first, first + count):
        random = Random(f"{seed}/{place}")
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir(parents=True)
        version = random.choice(list(originals))
        shutil.copy(originals[version], path)
        is_torn = random.random() < 0.2
        done = random.choices((_value, _rows, _tables), (6, 2, 1), k=random.choice((1, 2, 4)))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for change in done:
                with suppress(sqlite3.Error, OverflowError, UnicodeError):
                    change(connection, random)
        if is_torn:
            _bytes(path, random)
        label = f"version {version}/{place} {' '.join(each.__name__ for each in done)}{' torn' * is_torn}"
        for command in random.sample(COMMANDS, 2):
            trial.command(label, ["sessions", *command], at_terminal=random.random() < 0.5)
        trial.call(label, lambda: _continue(path))
        if not is_torn and _tables not in done:
            found = trial.call(label, lambda: _witness(path))
            if found is not None and found != [node.message.content for node in TREE.path()] + ["go on", "done"]:
                trial.faults.append(f"{label}: the other session has {found}")
        trial.call(label, lambda: _check(path))
    return trial


def _check(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        verdict = connection.execute("PRAGMA integrity_check").fetchone()
    assert verdict == ("ok",), verdict


def _continue(path: Path) -> None:
    """Load all sessions, and continue the witness, or a new one."""
    with open_store(path) as store:
        for record in store.list(None):
            with suppress(ChatError):  # it is damaged, and the others are not
                store.load(record.id)
        found = next((record for record in store.list(None) if record.name == WITNESS.name), None)
        record = found or store.create(name="new", conversation=TREE)
        conversation = store.load(record.id)[1]
        for role, text in (("user", "go on"), ("assistant", "done")):
            conversation = conversation.add(Message(role, text, finish_reason=None if role == "user" else "stop"))
            assert conversation.leaf is not None
            store.append(record.id, conversation.nodes[conversation.leaf])
        store.take_notices()


def _witness(path: Path) -> list[str]:
    with open_store(path) as store:
        found = next((record for record in store.list(None) if record.name == WITNESS.name), None)
        return [] if found is None else [node.message.content for node in store.load(found.id)[1].path()]


if __name__ == "__main__":
    sys.exit(hostile_commands.main(__doc__, try_histories))
