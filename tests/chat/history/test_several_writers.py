"""Several programs write one history, some are killed: what was acknowledged is stored, in order of time."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from chat.core.conversation import Conversation, Message, Node
from chat.history import reader
from chat.history.store import open_store
from tests.folders import ROOT
from tests.grids import FULL
from tests.program import Popen

RUNS = 50 if FULL else 6
WRITERS = 3
TURNS = 40
WRITER = Path(__file__).with_name("writer.py")


def start(path: Path, session: str, writer: str, turns: int, out: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(WRITER), str(path), session, writer, str(turns)]
    with out.open("wb") as file:
        return Popen(command, stdout=file, env=environment)


def lines_of(out: Path) -> dict[str, list[str]]:
    """The lines that a writer printed, by their first character: + begun, = acknowledged, ! notice."""
    lines: dict[str, list[str]] = {"+": [], "=": [], "!": []}
    for line in out.read_text().splitlines():
        lines[line[0]].append(line[2:])
    return lines


@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.slow
def test_acknowledged_messages_are_stored_when_writers_are_killed(run: int, tmp_path: Path) -> None:
    """Each writer acknowledges a message once it is stored; a SIGKILL may lose only the one after it."""
    seeded = random.Random(run)
    path = tmp_path / "history.db"
    with open_store(path) as store:
        session = store.create(name="shared").id

    outs = {f"w{i}": tmp_path / f"w{i}.txt" for i in range(WRITERS)}
    programs = {name: start(path, session, name, TURNS, out) for name, out in outs.items()}
    killed = seeded.sample(sorted(programs), WRITERS - 1)
    for name in killed:
        deadline = time.monotonic() + 60
        goal = seeded.randint(1, TURNS)
        while len(lines_of(outs[name])["="]) < goal and programs[name].poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(seeded.random() / 200)
        programs[name].kill()
    codes = {name: program.wait(60) for name, program in programs.items()}
    assert {code for name, code in codes.items() if name not in killed} == {0}

    with open_store(path) as store:
        assert store.take_notices() == ()
        (listed,) = store.list()
        conversation = store.load(session)[1]
    assert listed.messages == len(conversation.path())
    for name, out in outs.items():
        lines = lines_of(out)
        assert lines["!"] == []
        stored = [node for node in conversation.nodes.values() if node.id.startswith(f"{name}-")]
        finished = [node.id for node in stored if node.message.role == "user" or node.message.finish_reason == "stop"]
        assert finished in (lines["="], lines["+"])  # in order, and at most one more that was not acknowledged yet
        for node in stored:
            assert node.message in (expected(node, "stop"), expected(node, "interrupted"), expected(node, "begun"))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.execute("INSERT INTO node_texts(node_texts, rank) VALUES ('integrity-check', 1)")
        times = [row[0] for row in connection.execute("SELECT created FROM nodes ORDER BY number")]
    assert times == sorted(times)


def expected(node: Node, state: str) -> Message:
    writer, number, kind = node.id.split("-")
    if kind == "q":
        return Message("user", f"question {number} of {writer} " * 20)
    return {
        "stop": Message("assistant", "all of it", (int(number),), "stop"),
        "interrupted": Message("assistant", "part of it", (int(number), 1), "interrupted"),
        "begun": Message("assistant", "part", (int(number),), "interrupted"),
    }[state]


@pytest.mark.slow
def test_programs_that_start_together_make_one_history(tmp_path: Path) -> None:
    """Five programs create the file, its tables and its log at the same time, each with its own session."""
    path = tmp_path / "new" / "history.db"
    code = (
        "import sys; from pathlib import Path; from chat.history.store import open_store\n"
        "store = open_store(Path(sys.argv[1])); store.create(name=sys.argv[2])\n"
        "print(*store.take_notices())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    programs = [
        Popen([sys.executable, "-c", code, str(path), f"s{i}"], stdout=subprocess.PIPE, env=environment)
        for i in range(5)
    ]
    assert [program.communicate(timeout=60)[0].strip() for program in programs] == [b""] * 5
    with open_store(path) as store:
        assert sorted(record.label for record in store.list()) == [f"s{i}" for i in range(5)]


def test_a_session_removed_by_another_program_is_stored_again_with_the_next_turn(tmp_path: Path) -> None:
    """The user continues it here: to lose what is on the screen would be worse than to remove it once more."""
    path = tmp_path / "history.db"
    here, there = open_store(path), open_store(path)
    record = here.create(name="chat")
    conversation = Conversation().add(Message("user", "first"), "a").add(Message("assistant", "second"), "b")
    for node in conversation.nodes.values():
        here.append(record.id, node)

    there.remove(record.id)
    there.create(name="chat")
    conversation = conversation.add(Message("user", "third"), "c")
    here.append(record.id, conversation.nodes["c"])

    again, tree = there.load(record.id)
    assert (again.name, again.title, tree) == (None, "first", conversation)


def test_a_history_that_was_deleted_is_created_again(tmp_path: Path) -> None:
    """SQLite itself would write to a file without a name, and every turn would be lost."""
    path = tmp_path / "history.db"
    store = open_store(path)
    record = store.create(name="chat")
    conversation = Conversation().add(Message("user", "first"), "a")
    store.append(record.id, conversation.nodes["a"])

    for file in tmp_path.glob("history.db*"):
        file.unlink()
    conversation = conversation.add(Message("assistant", "second"), "b")
    store.append(record.id, conversation.nodes["b"])

    with open_store(path) as other:
        assert other.load(record.id)[1] == conversation
    assert store.take_notices() == ()


def test_earlier_sessions_do_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each session that a program opened stayed, about 2 kB for each message: a chat of many days only grew."""
    monkeypatch.setattr(reader, "EARLIER_BYTES", 4 * reader.NODE_BYTES)
    path = tmp_path / "history.db"
    store = open_store(path)
    tree = Conversation().add(Message("user", "first"), "a").add(Message("assistant", "second"), "b")
    large, small, empty = (store.create(name=name, conversation=tree) for name in ("large", "small", "empty"))
    store.load(large.id)
    added = tree.add(Message("user", "third"), "c")
    store.append(large.id, added.nodes["c"])
    store.load(empty.id)  # after it, three messages of `large` are kept, and not two more of `small`
    for file in tmp_path.glob("history.db*"):
        file.unlink()
    store.set_leaf(empty.id, "a")
    with open_store(path) as other:
        assert {each.label for each in other.list()} == {"large", "empty"}
        assert other.load(large.id)[1] == added
        assert other.load(empty.id)[1] == tree.with_leaf("a")
    assert small.id not in store._cache
