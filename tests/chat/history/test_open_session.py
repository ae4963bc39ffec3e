"""The open session and its history stay equal, with few transactions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chat.core.answer_details import AnswerDetails
from chat.core.backend import ModelInfo
from chat.core.conversation import Conversation, Message, ToolCall
from chat.core.events import Completion, Seconds, TokenCounts
from chat.history.open_session import AnswerWriter, OpenSession
from chat.history.store import Store, open_store

QUESTION = Message("user", "What is a rolling buffer?")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "history.db")


@pytest.fixture
def statements(store: Store) -> list[str]:
    """The SQL statements of the store's connection, as SQLite runs them."""
    statements: list[str] = []
    store._connection.read(lambda connection: connection.set_trace_callback(statements.append))
    statements.clear()  # the end of the transaction that set it
    return statements


def commits(statements: list[str]) -> int:
    """How many write transactions were committed: each syncs the write-ahead log once."""
    begun = [statement for statement in statements if statement.startswith(("BEGIN", "COMMIT", "ROLLBACK"))]
    kinds = begun[::2]
    assert set(kinds) <= {"BEGIN IMMEDIATE", "BEGIN DEFERRED"}
    assert begun[1::2] == ["COMMIT"] * len(kinds)
    return kinds.count("BEGIN IMMEDIATE")


def completion(text: str = "It keeps the last W tokens.", *calls: ToolCall) -> Completion:
    return Completion(text, "stop", (1, 2, 3), "", TokenCounts(10, 0, 3), Seconds(), tool_calls=calls)


def stored(store: Store, session: OpenSession) -> Conversation:
    """The session as another program reads it."""
    assert store.path and session.record
    with open_store(store.path) as other:
        return other.load(session.record.id)[1]


def test_a_first_turn_takes_one_transaction_for_each_side(store: Store, statements: list[str]) -> None:
    """It took four: the empty session, the question, an answer without an end, the answer."""
    session = OpenSession(store, Conversation("Be brief."))
    session.set_model("v0.3", "/models/v0.3.gguf")
    session.ask(QUESTION)
    assert commits(statements) == 1
    assert stored(store, session).path()[-1].message == QUESTION
    AnswerWriter(session).finish(completion())
    assert commits(statements) == 2
    assert stored(store, session) == session.conversation
    record = session.record
    assert record and record == store.get(record.id)
    assert (record.title, record.model, record.model_path) == (QUESTION.content, "v0.3", "/models/v0.3.gguf")


def test_a_first_turn_of_a_named_session_takes_three(store: Store, statements: list[str]) -> None:
    """It took six: the model's name and its path had one each."""
    record = store.create(name="trip")
    session = OpenSession(store, Conversation(), record)
    session.note_model("v0.3", "/models/v0.3.gguf")
    session.ask(QUESTION)
    AnswerWriter(session).finish(completion())
    assert commits(statements) == 3
    assert stored(store, session) == session.conversation
    record = store.get("trip")
    assert (record.model, record.model_path) == ("v0.3", "/models/v0.3.gguf")


def test_a_long_answer_takes_one_transaction_for_each_piece(store: Store, statements: list[str]) -> None:
    session = OpenSession(store, Conversation())
    session.ask(QUESTION)
    answer = AnswerWriter(session)
    for pieces, text in enumerate(("It", "It keeps", "It keeps the last"), 1):
        answer.update(text)
        assert commits(statements) == 1 + pieces
        assert stored(store, session).messages()[-1] == Message("assistant", text, finish_reason="interrupted")
    answer.finish(completion())
    assert commits(statements) == 5
    assert stored(store, session) == session.conversation
    assert session.conversation.messages()[-1] == Message("assistant", completion().text, (1, 2, 3), "stop")


def test_no_write_counts_the_messages_of_its_session(store: Store, statements: list[str]) -> None:
    """Each write counted them all twice, which takes long in a long session."""
    session = OpenSession(store, Conversation())
    session.ask(QUESTION)
    answer = AnswerWriter(session)
    answer.update("It")
    answer.finish(completion())
    session.set_system("Be kind.")
    session.rename("buffers")
    assert store.find("buffers") == store.latest() == session.record
    assert store.load(store.get("buffers").id)[1] == session.conversation
    assert [statement for statement in statements if "RECURSIVE" in statement or "count(" in statement] == []
    assert [listed.messages for listed in store.list()] == [2]
    assert len([statement for statement in statements if "RECURSIVE" in statement]) == 1


def test_results_of_several_calls_are_stored_together(store: Store, statements: list[str]) -> None:
    session = OpenSession(store, Conversation())
    session.ask(QUESTION)
    calls = (ToolCall("now", "{}", "one"), ToolCall("now", "{}", "two"))
    AnswerWriter(session).finish(completion("", *calls))
    statements.clear()
    session.ask(*(Message("tool", "noon", tool_call_id=call.id, name=call.name) for call in calls))
    assert commits(statements) == 1
    assert stored(store, session) == session.conversation
    assert [message.role for message in session.conversation.messages()] == ["user", "assistant", "tool", "tool"]


@pytest.mark.parametrize("is_new", [True, False])
def test_a_given_title_wins_over_the_question_and_loses_to_an_older_one(store: Store, is_new: bool) -> None:
    session = OpenSession(store, Conversation(), None if is_new else store.create(name="x"))
    session.ask(Message("user", "contents of a file"), title="Summarise this")
    session.ask(Message("user", "contents of another file"), title="And this")
    assert session.record and session.record.title == "Summarise this"


def test_a_model_is_stored_once_and_only_if_it_changed(store: Store, statements: list[str]) -> None:
    session = OpenSession(store, Conversation())
    session.set_model("one", "/one.gguf")
    assert commits(statements) == 0
    session.ask(QUESTION)
    statements.clear()
    session.set_model("one", "/one.gguf")
    assert commits(statements) == 0
    session.set_model("two", "/two.gguf")
    assert commits(statements) == 1
    session.note_model("three", "")
    assert commits(statements) == 1
    session.ask(QUESTION)
    assert commits(statements) == 2
    assert session.record and (session.record.model, session.record.model_path) == ("three", "")


def test_a_continued_answer_replaces_the_one_that_was_cut_off(store: Store, statements: list[str]) -> None:
    session = OpenSession(store, Conversation())
    session.ask(QUESTION)
    first = AnswerWriter(session)
    first.interrupt("It keeps ")
    leaf = session.conversation.leaf
    assert leaf and stored(store, session).nodes[leaf].message == Message(
        "assistant", "It keeps ", finish_reason="interrupted"
    )
    statements.clear()
    second = AnswerWriter(session, leaf)
    second.update("the last")
    second.finish(completion("the last W tokens."))
    assert commits(statements) == 2
    assert session.conversation.leaf == leaf
    # the ids of the first part are not known, so those of the second alone would be another text
    assert stored(store, session).nodes[leaf].message == Message("assistant", "It keeps the last W tokens.", (), "stop")


INFO = ModelInfo("/models/7B-Q4_K_M.gguf", 0, "Q4_K_M", "llama", None, 4096, 4096, "v3", name="Mistral 7B")
SERVER = ModelInfo("https://api.example.org:443/v1", 0, "", "", None, 0, 0, "", name="small", server="api.example.org")


def test_every_answer_keeps_its_model_sampling_times_and_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    session = OpenSession(store, Conversation())
    session.ask(QUESTION)
    writer = AnswerWriter(session, model=lambda: INFO)
    writer.update("It keeps ")
    leaf = session.conversation.leaf or ""
    assert stored(store, session).nodes[leaf].details == AnswerDetails("7B-Q4_K_M", "", "Q4_K_M", finished=1.7e9)
    writer.finish(replace(completion(), sampling={"seed": 7}, seconds=Seconds(1.0, 0.5, 2.0)))
    assert stored(store, session).nodes[leaf].details == AnswerDetails(
        "7B-Q4_K_M", "", "Q4_K_M", {"seed": 7}, TokenCounts(10, 0, 3), Seconds(1.0, 0.5, 2.0), 1.7e9
    )
    rest = AnswerWriter(session, leaf, model=lambda: SERVER)
    rest.finish(replace(completion(" and"), tokens=TokenCounts(14, 4, 2), seconds=Seconds(0.0, 0.25, 1.0)))
    assert stored(store, session).nodes[leaf].details == AnswerDetails(  # what was generated is added up
        "small", "api.example.org", "", {"seed": 7}, TokenCounts(14, 4, 5), Seconds(1.0, 0.75, 3.0), 1.7e9
    )
    AnswerWriter(session, leaf).interrupt(" so")  # a fault before the model is known
    details = stored(store, session).nodes[leaf].details
    assert details and (details.tokens, details.sampling) == (TokenCounts(14, 4, 5), {"seed": 7})


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session.set_leaf(None),
        lambda session: session.set_system("Be kind."),
        lambda session: session.set_options({"temperature": 0.2}),
        lambda session: session.rename("buffers"),
    ],
)
def test_a_change_of_the_session_is_one_transaction(
    store: Store, statements: list[str], change: Callable[[OpenSession], None]
) -> None:
    session = OpenSession(store, Conversation())
    session.ask(QUESTION)
    statements.clear()
    change(session)
    assert commits(statements) == 1
    assert session.record and stored(store, session) == session.conversation
    assert store.get(session.record.id) == session.record
