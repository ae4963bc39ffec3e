"""Branches are named by where they leave the open one."""

from __future__ import annotations

from chat.core.conversation import Conversation, Message
from chat.tui.commands.branches import branches, question_before


def conversation() -> Conversation:
    """Two turns; the second was answered twice, the first asked in two ways."""
    tree = Conversation().add(Message("user", "one"), "q1").add(Message("assistant", "first"), "a1")
    tree = tree.add(Message("user", "two"), "q2").add(Message("assistant", "second"), "a2")
    tree = tree.with_leaf("q2").add(Message("assistant", "another"), "a2b")
    return tree.with_leaf(None).add(Message("user", "uno"), "q1b").add(Message("assistant", "primo"), "a1b")


def seen(tree: Conversation) -> list[tuple[str, bool, int, int, str, str]]:
    return [
        (branch.leaf, branch.is_open, branch.turn, branch.turns, branch.question, branch.ending)
        for branch in branches(tree)
    ]


def test_every_leaf_is_a_branch_named_by_its_fork() -> None:
    assert seen(conversation()) == [
        ("a2", False, 1, 2, "one", "second"),
        ("a2b", False, 1, 2, "one", "another"),
        ("a1b", True, 1, 1, "uno", "primo"),
    ]
    assert seen(conversation().with_leaf("a2")) == [
        ("a2", True, 2, 2, "two", "second"),
        ("a2b", False, 2, 2, "two", "another"),
        ("a1b", False, 1, 1, "uno", "primo"),
    ]


def test_an_open_branch_that_ends_before_a_leaf_is_listed_last() -> None:
    assert seen(conversation().with_leaf("a1"))[-1] == ("a1", True, 1, 1, "one", "first")


def test_an_empty_conversation_has_no_branches() -> None:
    assert branches(Conversation()) == []


def test_questions_are_counted_from_the_end() -> None:
    tree = conversation().with_leaf("a2")
    found = [question_before(tree, turns) for turns in (0, 1, 2, 3)]
    assert [node.id if node else None for node in found] == [None, "q2", "q1", None]
