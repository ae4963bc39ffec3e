"""Branches are named by where they leave the open path."""

from __future__ import annotations

from chat.core.conversation import Conversation, Message
from chat.tui.commands.branches import branches, question_before


def grown() -> Conversation:
    """Two turns; the second was answered twice, the first asked in two ways."""
    talk = Conversation().add(Message("user", "one"), "q1").add(Message("assistant", "first"), "a1")
    talk = talk.add(Message("user", "two"), "q2").add(Message("assistant", "second"), "a2")
    talk = talk.with_leaf("q2").add(Message("assistant", "another"), "a2b")
    return talk.with_leaf(None).add(Message("user", "uno"), "q1b").add(Message("assistant", "primo"), "a1b")


def seen(talk: Conversation) -> list[tuple[str, bool, int, int, str, str]]:
    return [(each.leaf, each.is_open, each.turn, each.turns, each.question, each.ending) for each in branches(talk)]


def test_every_end_is_a_branch_named_from_the_open_path() -> None:
    assert seen(grown()) == [
        ("a2", False, 1, 2, "one", "second"),
        ("a2b", False, 1, 2, "one", "another"),
        ("a1b", True, 1, 1, "uno", "primo"),
    ]
    assert seen(grown().with_leaf("a2")) == [
        ("a2", True, 2, 2, "two", "second"),
        ("a2b", False, 2, 2, "two", "another"),
        ("a1b", False, 1, 1, "uno", "primo"),
    ]


def test_an_open_place_inside_the_tree_is_listed_last() -> None:
    assert seen(grown().with_leaf("a1"))[-1] == ("a1", True, 1, 1, "one", "first")


def test_nothing_said_has_no_branches() -> None:
    assert branches(Conversation()) == []


def test_questions_are_counted_from_the_end() -> None:
    talk = grown().with_leaf("a2")
    found = [question_before(talk, turns) for turns in (0, 1, 2, 3)]
    assert [node.id if node else None for node in found] == [None, "q2", "q1", None]
