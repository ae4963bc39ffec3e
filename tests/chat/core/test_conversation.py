"""The conversation is a tree: a change makes a new value, and no message is lost."""

from __future__ import annotations

import pytest

from chat.core.answer_details import AnswerDetails
from chat.core.conversation import Conversation, Message, ToolCall
from chat.core.request import Prompt

QUESTION, ANSWER = Message("user", "one"), Message("assistant", "two", (1, 2), "stop")


def test_a_message_goes_after_the_leaf_and_the_old_value_stays() -> None:
    before = Conversation("Be brief.")
    first = before.add(QUESTION, "q")
    second = first.add(ANSWER, "a", AnswerDetails("7B"))
    assert [node.details for node in second.path()] == [None, AnswerDetails("7B")]
    assert [node.parent for node in second.path()] == [None, "q"]
    assert second.messages() == (Message("system", "Be brief."), QUESTION, ANSWER)
    assert (before.messages(), first.messages()) == (second.messages()[:1], second.messages()[:2])
    assert Conversation().add(QUESTION).leaf != Conversation().add(QUESTION).leaf


def test_branches_share_what_came_before() -> None:
    conversation = Conversation().add(QUESTION, "q").add(ANSWER, "a").with_leaf("q").add(Message("assistant", "2"), "b")
    assert [node.id for node in conversation.path()] == ["q", "b"]
    assert [node.id for node in conversation.with_leaf("a").path()] == ["q", "a"]
    assert [node.id for node in conversation.children("q")] == ["a", "b"]
    assert [node.id for node in conversation.children(None)] == ["q"]
    assert conversation.with_leaf(None).messages() == ()
    with pytest.raises(KeyError):
        conversation.with_leaf("nowhere")


@pytest.mark.parametrize(("turns", "leaf"), [(1, "a1"), (2, None), (9, None)])
def test_undo_leaves_the_tree_whole(turns: int, leaf: str | None) -> None:
    conversation = Conversation()
    for number in (1, 2):
        conversation = conversation.add(QUESTION, f"q{number}").add(ANSWER, f"a{number}")
    undone = conversation.undo(turns)
    assert undone.leaf == leaf
    assert undone.nodes == conversation.nodes


def test_an_empty_system_prompt_is_none_at_all_and_no_decision_is_the_models_own() -> None:
    assert Conversation("x").with_system("").messages() == Conversation("x").with_system(None).messages() == ()
    assert Prompt.of_conversation(Conversation("")) == Prompt(messages=(), default_system=False)
    assert Prompt.of_conversation(Conversation()) == Prompt(messages=(), default_system=True)
    assert Conversation("x").with_system("y").messages() == (Message("system", "y"),)


@pytest.mark.parametrize(
    "message",
    [
        QUESTION,
        ANSWER,
        Message("assistant", "", tool_calls=(ToolCall("now", "{}", "abc"), ToolCall("f", "broken"))),
        Message("tool", "noon", tool_call_id="abc", name="now"),
        Message("assistant", "", (1,), "length", reasoning="Noon?"),
    ],
)
def test_a_message_comes_back_from_json(message: Message) -> None:
    plain = message.to_json()
    assert Message.from_json(plain) == message
    assert all(plain[key] for key in plain.keys() - {"content"})
