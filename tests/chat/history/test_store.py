"""Sessions come back equal from the file and from memory, and are found by name and id."""

from __future__ import annotations

import sqlite3
import stat
import time
from array import array
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from chat.core.conversation import Conversation, Message, Node, ToolCall
from chat.errors import UsageError
from chat.history import session_lookup
from chat.history.records import SessionRecord, branch_title
from chat.history.store import Store, open_history, open_store
from chat.inference.kv_state_files import KvStateStore
from chat.llama.kv_snapshots import Snapshot

EVERYTHING = (
    Message("user", "What is a rolling buffer?\nAnswer with code, NUL \0 and \U0001f469\u200d\U0001f467."),
    Message("assistant", "", (7, 2**31 - 1), "stop", (ToolCall("look_up", '{"word": "buffer"}', "abc123xyz"),)),
    Message("tool", '{"found": true}', tool_call_id="abc123xyz", name="look_up"),
    Message("assistant", "It keeps the last W tokens.", (1, 2, 3), "length"),
)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(tmp_path / "data" / "history.db" if request.param == "file" else None)


def test_a_list_shows_the_branch_that_is_open(store: Store) -> None:
    """It counted all branches, and had the title of a question that was edited long ago."""
    tree = conversation_with(Message("user", "one"), Message("assistant", "x", (), "stop"), Message("user", "more"))
    edited = tree.with_leaf(None).add(Message("user", "two\nwords"), "d")
    for conversation in (edited, tree, tree.with_leaf(None)):
        record = store.create(title="" if conversation is edited else "given", conversation=conversation)
        shown = store.load(record.id)[1]
        assert branch_title(record, shown) == store.list(1)[0].title
    store.begin_answer(record.id, Node("e", None, Message("assistant", "")))  # cut off before its first word
    assert [(each.title, each.messages) for each in store.list()] == [("given", 0), ("given", 3), ("two", 1)]
    assert store._connection.write(  # a circle in a damaged history
        lambda connection: connection.execute("UPDATE nodes SET parent = 'd' WHERE id = 'd'").rowcount
    )
    assert [each.messages for each in store.list()] == [0, 3, 1]


def conversation_with(*messages: Message, system: str | None = None) -> Conversation:
    conversation = Conversation(system)
    for message in messages:
        conversation = conversation.add(message)
    return conversation


def append(store: Store, record: SessionRecord, conversation: Conversation, message: Message) -> Conversation:
    conversation = conversation.add(message)
    assert conversation.leaf
    store.append(record.id, conversation.nodes[conversation.leaf])
    return conversation


def test_a_conversation_comes_back_equal(store: Store) -> None:
    record = store.create(model="v0.3", model_path="/models/v0.3.gguf", settings={"temperature": 0.2, "stop": ["x"]})
    conversation = Conversation()
    for message in EVERYTHING:
        conversation = append(store, record, conversation, message)
    store.set_system(record.id, "Be brief.")

    loaded, tree = store.load(record.id)

    assert tree == conversation.with_system("Be brief.")
    assert loaded == SessionRecord(
        id=record.id,
        title="What is a rolling buffer?",
        model="v0.3",
        model_path="/models/v0.3.gguf",
        system="Be brief.",
        settings={"temperature": 0.2, "stop": ["x"]},
        created=record.created,
        updated=loaded.updated,
        leaf=conversation.leaf,
    )
    assert loaded.updated >= loaded.created
    assert store.take_notices() == ()


def test_another_program_reads_a_message_at_once(tmp_path: Path) -> None:
    """A committed message can be read before the first program closes the file."""
    path = tmp_path / "history.db"
    store = open_store(path)
    record = store.create()
    conversation = append(store, record, Conversation(), EVERYTHING[0])
    assert open_store(path).load(record.id)[1] == conversation


def test_branches_and_the_leaf_are_stored(store: Store) -> None:
    record = store.create()
    first = append(store, record, Conversation(), Message("user", "one"))
    left = append(store, record, first, Message("assistant", "left"))
    both = replace(left, leaf=first.leaf)
    right = append(store, record, both, Message("assistant", "right"))
    assert store.load(record.id)[1] == right

    store.set_leaf(record.id, left.leaf)
    assert store.load(record.id)[1] == right.with_leaf(left.leaf)
    store.set_leaf(record.id, None)
    assert store.load(record.id)[1] == right.with_leaf(None)


def test_a_session_can_begin_with_a_whole_conversation(store: Store) -> None:
    conversation = conversation_with(*EVERYTHING, system="Be kind.")
    record = store.create(name="copy", conversation=conversation)
    assert store.load(record.id) == (record, conversation)
    assert (record.title, record.leaf) == ("What is a rolling buffer?", conversation.leaf)
    assert [listed.messages for listed in store.list()] == [4]


def test_an_answer_is_stored_as_far_as_it_was_streamed(store: Store) -> None:
    """After a crash the last stored part is there, marked as interrupted; an empty answer is not."""
    record = store.create()
    asked = append(store, record, Conversation(), Message("user", "Count."))
    node = Node("answer", asked.leaf, Message("assistant", ""))

    store.begin_answer(record.id, node)
    assert store.load(record.id)[1] == asked

    part = Message("assistant", "1, 2,", (5, 6))
    store.update_answer(record.id, replace(node, message=part))
    assert store.load(record.id)[1] == asked.add(replace(part, finish_reason="interrupted"), "answer")

    whole = Message("assistant", "1, 2, 3", (5, 6, 7), "stop")
    store.finish_answer(record.id, replace(node, message=whole))
    assert store.load(record.id)[1] == asked.add(whole, "answer")


def test_what_follows_an_empty_answer_follows_its_question(store: Store) -> None:
    """A crash before the first word, then another question: no dead end in the tree, no empty answer in a prompt."""
    record = store.create()
    asked = append(store, record, Conversation(), Message("user", "Hello?"))
    store.begin_answer(record.id, Node("never", asked.leaf, Message("assistant", "")))
    store.append(record.id, Node("again", "never", Message("user", "Are you there?")))
    assert store.load(record.id)[1] == asked.add(Message("user", "Are you there?"), "again")


def test_lone_surrogates_are_replaced_and_pairs_joined(store: Store) -> None:
    record = store.create(model="\ud800")
    append(store, record, Conversation(), Message("user", "a\ud800b \ud83d\ude00 \udfff"))
    store.set_system(record.id, "\udc80")
    loaded, tree = store.load(record.id)
    assert [m.content for m in tree.messages()] == ["\ufffd", "a\ufffdb \U0001f600 \ufffd"]
    assert (loaded.model, loaded.title) == ("\ufffd", "a\ufffdb \U0001f600 \ufffd")


def test_the_last_used_session_comes_first_and_empty_ones_are_not_listed(store: Store) -> None:
    old, new, named = store.create(), store.create(), store.create(name="plan")
    store.create()
    assert store.latest() == named
    for record in (new, old):
        append(store, record, Conversation(), Message("user", "hi"))
    assert [record.id for record in store.list()] == [old.id, new.id, named.id]
    assert [record.id for record in store.list(1)] == [old.id]
    latest = store.latest()
    assert latest and latest.id == old.id


def test_the_order_is_kept_when_the_clock_is_set_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once `-c` continued the session before."""
    names = ("first", "second")
    first, second = (store.create(name=name) for name in names)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    for record in (second, first, second, first, first, second):
        store.append(record.id, Node("a", None, Message("user", "x")))
        assert store.latest().id == record.id  # type: ignore[union-attr]
    third = store.create(name="third", conversation=Conversation().add(Message("user", "x")))
    assert store.latest() == third
    monkeypatch.undo()
    assert abs(third.updated - time.time()) < 3600


def test_an_empty_history_has_no_latest(store: Store) -> None:
    assert (store.latest(), store.list(), store.search("anything")) == (None, (), ())


def test_a_session_is_found_by_name_id_and_beginning_of_id(store: Store) -> None:
    record = store.create(name="trip to Rome")
    for text in ("trip to Rome", " trip to Rome ", record.id, record.id[:4], record.id[:12]):
        assert store.find(text) == record
    for text in ("trip", record.id[:3], "", "%", record.id + "0"):
        assert store.find(text) is None


def test_a_name_wins_over_an_id(store: Store) -> None:
    other = store.create(name="other")
    named = store.create(name=other.id[:8])
    assert store.find(other.id[:8]) == named


def test_an_ambiguous_beginning_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter(("abcd1" + "0" * 27, "abcd2" + "0" * 27))
    monkeypatch.setattr("chat.history.store.uuid.uuid4", lambda: type("Fixed", (), {"hex": next(ids)}))
    store = open_store(None)
    store.create()
    store.create()
    with pytest.raises(UsageError, match=r"^several sessions begin with `abcd`$") as caught:
        store.find("abcd")
    assert caught.value.hint == "type more of the id, as in `abcd100000` and `abcd200000`"


def test_a_new_name_is_not_taken_for_the_beginning_of_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--session cafe` continued any session whose id happened to begin so."""
    monkeypatch.setattr("chat.history.store.uuid.uuid4", lambda: type("Fixed", (), {"hex": "cafe1234" + "0" * 24}))
    store = open_store(None)
    created = store.create()
    assert store.find("cafe") == store.find_named("cafe1234") == store.find_named(created.id) == created
    assert store.find_named("cafe") is store.find_named("cafe123") is None


def test_the_error_for_a_missing_session_names_similar_ones(store: Store) -> None:
    store.create(name="holiday")
    with pytest.raises(UsageError, match=r"^there is no session `holidy`$") as caught:
        store.get("holidy")
    assert caught.value.hint == "did you mean `holiday`?"
    # a session without a name is known by its title
    untitled = store.create(title="How do I\tconvert?", conversation=conversation_with(Message("user", "x")))
    with pytest.raises(UsageError, match=r"^there is no session `how do I convert`$") as caught:
        store.get("how do I convert")
    assert caught.value.hint == f"did you mean `{untitled.id[:8]}` (How do I convert?)?"
    with pytest.raises(UsageError, match=r"^there is no session `␛zzz`$") as caught:
        store.get("\x1bzzz")
    assert caught.value.hint == "`mistral-chat sessions list` shows them"
    with pytest.raises(UsageError) as caught:
        store.get("zzz", list_command="/sessions")
    assert caught.value.hint == "`/sessions` shows them"
    for attempt in (store.load, lambda session_id: store.set_leaf(session_id, None)):
        with pytest.raises(UsageError, match=r"^there is no session `nowhere`$"):
            attempt("nowhere")
    with pytest.raises(UsageError, match=r"^there is no session `nowhere`$"):
        store.append("nowhere", Node("a", None, Message("user", "x")))


def test_names_are_unique_and_one_line(store: Store) -> None:
    first, second = store.create(name="plan"), store.create()
    with pytest.raises(UsageError, match=r"^there is already a session called `plan`$"):
        store.create(name="plan")
    with pytest.raises(UsageError, match=r"^there is already a session called `plan`$"):
        store.rename(second.id, "plan")
    for name, shown in (("", ""), ("a\nb", "a b"), ("\x1b[31m", "␛\\[31m"), ("x" * 101, "x" * 100)):
        with pytest.raises(UsageError, match=rf"^`{shown}` cannot be a session's name$"):
            store.rename(second.id, name)
    assert store.rename(first.id, "  idea ").name == "idea"
    assert store.rename(first.id, "idea").name == "idea"
    assert store.rename(second.id, "plan").name == "plan"
    assert store.rename(second.id, None).name is None


def test_model_title_and_settings_follow_the_session(store: Store) -> None:
    record = store.create()
    store.set_model(record.id, "nemo", "/nemo.gguf")
    store.set_settings(record.id, {"seed": 1})
    store.append(record.id, Node("q", None, Message("user", "a question")), title="Mine")
    loaded = store.load(record.id)[0]
    assert (loaded.model, loaded.model_path, loaded.title, loaded.settings) == (
        "nemo",
        "/nemo.gguf",
        "Mine",
        {"seed": 1},
    )


def test_a_removed_session_leaves_nothing_behind(tmp_path: Path) -> None:
    """No message, search entry or saved state; not even its bytes in the file or the write-ahead log.

    The engine gave its states other names than were deleted here, so they stayed on the disk with every token of the
    session.
    """
    states, path = tmp_path / "cache" / "states", tmp_path / "data" / "history.db"
    engine = KvStateStore(states, {"model": "tiny"}, 1 << 30)
    store = open_store(path, states=states)
    kept, gone = store.create(name="kept"), store.create(name="secretname", model="secretmodel")
    append(store, kept, Conversation(), Message("user", "harmless"))
    append(store, gone, Conversation(), Message("user", "The secretword is xyzzyplugh " * 500))
    snapshot = Snapshot(array("i", [1, 2, 3]), 0, b"state")
    assert engine.save(gone.id, snapshot) and KvStateStore(states, {"model": "other"}, 1 << 30).save(gone.id, snapshot)
    theirs = {engine.save(kept.id, snapshot), engine.save("prompt 12", snapshot)}

    store.remove(gone.id)

    assert [record.name for record in store.list()] == ["kept"]
    assert store.search("xyzzyplugh") == store.search("secretname") == ()
    assert set(states.iterdir()) == theirs
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (states.parent, states, path.parent)} == {0o700}
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"harmless" in left
    for secret in (b"secret", b"xyzzy", b"plugh"):
        assert secret not in left
    with pytest.raises(UsageError, match="there is no session"):
        store.load(gone.id)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    """This includes the folder, the write-ahead log, the shared memory, and files that others could read before."""
    path = tmp_path / "new" / "data" / "history.db"
    store = open_store(path)
    store.create(name="x")
    modes = {
        file.name: stat.S_IMODE(file.stat().st_mode)
        for file in (path.parent.parent, path.parent, *path.parent.iterdir())
    }
    assert modes == {"new": 0o700, "data": 0o700} | dict.fromkeys(
        ("history.db", "history.db-wal", "history.db-shm"), 0o600
    )
    store.close()
    path.chmod(0o644)
    with open_store(path) as again:
        again.create(name="y")
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_what_a_link_names_keeps_its_permissions_unless_it_is_a_history(tmp_path: Path) -> None:
    path, named = tmp_path / "history.db", tmp_path / "named"
    path.symlink_to(named)
    named.write_text("a letter")
    named.chmod(0o644)
    open_store(path).close()
    assert (named.read_text(), stat.S_IMODE(named.stat().st_mode)) == ("a letter", 0o644)
    path.rename(named)
    named.chmod(0o644)
    path.symlink_to(named)
    open_store(path).close()
    assert stat.S_IMODE(named.stat().st_mode) == 0o600


def test_the_home_history_is_private_even_in_a_folder_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_CHAT_HOME", str(tmp_path))
    (tmp_path / "data").mkdir(mode=0o755)
    with open_history() as store:
        assert store.path == tmp_path / "data" / "history.db"
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_without_history_no_file_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setenv("MISTRAL_CHAT_HOME", str(folder / "home"))
    monkeypatch.chdir(folder)
    with open_history(enabled=False) as store:
        record = store.create(name="x")
        conversation = append(store, record, Conversation(), EVERYTHING[0])
        assert store.load(record.id)[1] == conversation
        assert [hit.session_id for hit in store.search("rolling")] == [record.id]
        store.remove(record.id)
        assert (store.list(), store.path, store.failed, store.take_notices()) == ((), None, False, ())
    assert list(folder.iterdir()) == []


def test_the_file_is_a_write_ahead_log_with_full_sync(tmp_path: Path) -> None:
    """`synchronous` is a setting of the connection and not stored in the file."""
    store = open_store(tmp_path / "history.db")
    pragmas = ("journal_mode", "synchronous", "busy_timeout", "user_version", "secure_delete", "foreign_keys")
    values = store._connection.read(lambda c: [c.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas])
    assert values == ["wal", 2, 15_000, 4, 1, 1]
    with closing(sqlite3.connect(tmp_path / "history.db")) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_earlier_questions_come_newest_first_without_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(None) as store:
        record = store.create()
        for number, text in enumerate(["one", "two", "one", "three"]):
            store.append(record.id, Node(str(number), None, Message("user", text)))
        store.append(record.id, Node("a", None, Message("assistant", "no question")))
        assert store.questions() == ("three", "one", "two")
        assert store.questions(2) == ("three", "one")
        monkeypatch.setattr(session_lookup, "MOST_CHARACTERS", 2)
        assert store.questions() == ("three",)  # whatever its length
