"""When the history cannot be written, the chat continues in memory after one notice."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chat.core.conversation import Conversation, Message
from chat.errors import FileError
from chat.history import schema
from chat.history.store import Store, open_history, open_store
from tests.folders import ROOT
from tests.program import run_command


def append_turns(store: Store, session_id: str, conversation: Conversation, turns: int) -> Conversation:
    for turn in range(turns):
        for message in (
            Message("user", f"question {turn} " * 200),
            Message("assistant", f"answer {turn}", (turn,), "stop"),
        ):
            conversation = conversation.add(message)
            assert conversation.leaf
            store.append(session_id, conversation.nodes[conversation.leaf])
    return conversation


def test_a_full_disk_gives_one_notice_and_loses_no_turn(tmp_path: Path) -> None:
    """Other sessions can still be read and searched."""
    path = tmp_path / "history.db"
    with open_store(path) as before:
        before.create(name="older", conversation=Conversation().add(Message("user", "pelican"), "p"))
    store = open_store(path)
    record = store.create(name="chat")
    conversation = append_turns(store, record.id, Conversation(), 2)
    acknowledged = conversation
    pages = store._connection.read(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    store._connection.read(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 3}").fetchall())

    conversation = append_turns(store, record.id, conversation, 30)

    assert [notice.text for notice in store.take_notices()] == [
        "the history cannot be used (the disk is full): this chat is kept in memory only"
    ]
    assert (store.path, store.failed) == (None, True)
    assert store.load(record.id)[1] == conversation
    assert {each.label for each in store.list()} == {"older", "chat"}
    assert [hit.node_id for hit in store.search("pelican")] == ["p"]
    with open_store(path) as other:  # what was acknowledged before is on the disk
        assert acknowledged.nodes.items() <= other.load(record.id)[1].nodes.items() <= conversation.nodes.items()
        assert other.take_notices() == ()


def test_a_limit_of_the_file_size_gives_one_notice_and_loses_no_turn(tmp_path: Path) -> None:
    """The operating system refuses the write in the middle of a commit, as a full disk or a quota does."""
    path = tmp_path / "history.db"
    code = """
import json, resource, sys
from pathlib import Path
from chat.core.conversation import Conversation, Message
from chat.history.store import open_store
store = open_store(Path(sys.argv[1]))
record = store.create(name="chat")
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
conversation = Conversation()
stored = []
for turn in range(60):
    conversation = conversation.add(Message("user", f"question {turn} " * 200), str(turn))
    store.append(record.id, conversation.nodes[str(turn)])
    if store.path:
        stored.append(str(turn))
print(json.dumps({
    "notices": [notice.text for notice in store.take_notices()],
    "whole": store.load(record.id)[1] == conversation,
    "stored": stored,
}))
"""
    run = run_command(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    report = json.loads(run.stdout)
    assert report["whole"] is True
    assert len(report["notices"]) == 1
    assert report["notices"][0].startswith("the history cannot be used (the disk is full")
    assert 3 < len(report["stored"]) < 60
    with open_store(path) as store:
        assert store.take_notices() == ()
        assert list(store.load(store.get("chat").id)[1].nodes) == report["stored"]


def test_an_answer_continues_in_memory_when_the_disk_fills_up(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    store = open_store(path)
    record = store.create()
    conversation = append_turns(store, record.id, Conversation(), 1).add(Message("assistant", ""), "a")
    store.begin_answer(record.id, conversation.nodes["a"])
    pages = store._connection.read(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    store._connection.read(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchall())
    asked = conversation.with_leaf(conversation.nodes["a"].parent)
    for length in (100, 10_000, 100_000):
        node = asked.add(Message("assistant", "word " * length, (1, 2)), "a").nodes["a"]
        store.update_answer(record.id, node)
    whole = asked.add(Message("assistant", "word " * 200_000, (1, 2), "stop"), "a").nodes["a"]
    store.finish_answer(record.id, whole)
    assert store.load(record.id)[1].nodes["a"] == whole
    assert len(store.take_notices()) == 1


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other users can read; pytest's own folders are for their owner only."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def as_nobody(code: str, *arguments: str) -> str:
    """Run Python as a user without write access: root ignores the modes of files."""
    # this user may not be able to read modules that are imported later
    drop = "import fcntl, os, sys, urllib.parse\nfrom pathlib import Path\n"
    drop += "from chat.core.conversation import *\nfrom chat.history.store import *\n"
    drop += "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = run_command(
        [sys.executable, "-c", drop + code, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


READ_ONLY = """
store = open_store(Path(sys.argv[1]))
print(store.path, store.failed, *[notice.text for notice in store.take_notices()], sep="|")
print(*[f"{r.label} {r.messages}" for r in store.list()])
record = store.create(name="mine")
store.append(record.id, Conversation().add(Message("user", "hello"), "x").nodes["x"])
print(len(store.load(record.id)[1].nodes), len(store.search("hello")), store.take_notices())
for writes in (False, True):
    try:
        store.check(writes=writes)
        print("fine")
    except FileError as error:
        print(error.message.partition(":")[0])
"""


def test_a_read_only_history_can_be_read_but_not_written(shared_folder: Path) -> None:
    path = shared_folder / "history.db"
    with open_store(path) as store:
        store.create(name="older", conversation=Conversation().add(Message("user", "hi")))
    path.chmod(0o444)
    shared_folder.chmod(0o555)
    before = path.read_bytes()
    try:
        first, second, *rest = as_nobody(READ_ONLY, str(path)).splitlines()
    finally:
        shared_folder.chmod(0o755)
    assert first.startswith("None|True|the history cannot be used (")
    assert first.count("|") == 2
    assert (second, rest) == ("older 1", ["1 1 ()", "fine", "the history cannot be written"])
    assert path.read_bytes() == before
    assert [file.name for file in shared_folder.iterdir()] == ["history.db"]


@pytest.mark.parametrize("file", ["missing/history.db", "not-mine/history.db", "a-file/history.db", "a-folder"])
def test_a_path_that_cannot_be_used_gives_one_notice(shared_folder: Path, file: str) -> None:
    (shared_folder / "not-mine").mkdir(mode=0o700)
    (shared_folder / "a-file").write_text("x")
    (shared_folder / "a-folder").mkdir()
    shared_folder.chmod(0o555)
    try:
        first, second, *rest = as_nobody(READ_ONLY, str(shared_folder / file)).splitlines()
    finally:
        shared_folder.chmod(0o755)
    assert first.startswith("None|True|the history cannot be used (")
    assert first.count("|") == 2
    assert (second, rest) == ("", ["1 1 ()", "the history cannot be read", "the history cannot be written"])


def test_a_pipe_in_place_of_the_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "history.db")
    with open_store(tmp_path / "history.db") as store:
        (notice,) = store.take_notices()
    assert notice.text == "the history cannot be used (history.db is not a file): this chat is kept in memory only"


def test_no_home_folder_gives_one_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise FileError("there is no home folder for the data of mistral-chat")

    monkeypatch.setattr("chat.system.paths.data_folder", no_home)
    with open_history() as store:
        store.create(name="x")
        (notice,) = store.take_notices()
    assert notice.text == (
        "the history cannot be used (there is no home folder for the data of mistral-chat):"
        " this chat is kept in memory only"
    )


def test_a_lock_that_another_program_keeps_gives_one_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.2)
    path = tmp_path / "history.db"
    store = open_store(path)
    record = store.create(name="chat")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        conversation = append_turns(store, record.id, Conversation(), 2)
        assert [notice.text for notice in store.take_notices()] == [
            "the history cannot be used (another program is using it): this chat is kept in memory only"
        ]
    assert store.load(record.id)[1] == conversation


def test_a_session_that_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    """A store that fell back to memory must not report that a session was deleted from the disk."""
    path = tmp_path / "history.db"
    with open_store(path) as store:
        record = store.create(name="stays")
    store = open_store(path)
    store.fail("the disk is full")
    words = "the history cannot be written, so the session stays in it: the disk is full"
    with pytest.raises(FileError, match=f"^{words}$"):
        store.remove(record.id)
    with open_store(path) as store:
        assert [each.label for each in store.list()] == ["stays"]


def test_threads_share_a_store(tmp_path: Path) -> None:
    """The user types while an answer is stored."""
    store = open_store(tmp_path / "history.db")
    sessions = [store.create(name=f"t{i}") for i in range(4)]
    stored: dict[str, Conversation] = {}

    def work(session_id: str) -> None:
        stored[session_id] = append_turns(store, session_id, Conversation(), 10)

    threads = [threading.Thread(target=work, args=(session.id,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {session.id: store.load(session.id)[1] for session in sessions} == stored
    assert store.take_notices() == ()
