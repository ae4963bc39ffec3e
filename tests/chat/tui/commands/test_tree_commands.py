"""`/undo`, `/edit`, `/regen`, `/continue` and `/branches` in a session."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chat.core.conversation import Conversation, Message
from chat.tui.commands.tree_commands import branches, question_before
from tests.chat.tui.pseudo_terminal import CTRL_C, ENTER


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


@pytest.mark.slow
def test_undo_edit_and_regen_keep_what_they_replace_as_branches(start: Any) -> None:
    terminal = start([["text", "A1"]], [["text", "B1"]], [["text", "B2"]], [["text", "C1"]])
    terminal.run("first", "A1")
    terminal.run("second", "B1")
    terminal.run("/regen", "B2")
    terminal.run("/undo 2", "Removed 2 turns, from “first” on.")
    terminal.run("/undo", "There is nothing to undo.")
    terminal.run("/branches 1", "B1")
    terminal.send("/edit", ENTER)
    terminal.wait(lambda: terminal.cursor_line() == "> second")
    terminal.send(" again", ENTER)
    terminal.wait("C1")
    terminal.run("/branches", "/branches NUMBER switches.")
    shown = [line for line in terminal.lines() if re.match(r" +\d", line)]
    assert shown == [
        "  1   turn 2: “second” → “B1”",
        "  2   turn 2: “second” → “B2”",
        "  3 ▸ here: “second again” → “C1”",
    ]
    terminal.run("/branches 2", "Now on branch 2.")
    assert "B2" in terminal.text().split("Now on branch 2.")[1]
    terminal.run("/branches 9", "there is no branch 9")
    terminal.run("/branches x", "`/branches` takes a number from 1 on, not `x`")


@pytest.mark.slow
def test_edit_shows_a_long_message_unfolded(start: Any) -> None:
    terminal = start([["text", "ok"]], lines=60)
    terminal.wait("/ 32,768")
    terminal.paste("\n".join(f"row {number}" for number in range(20)))
    terminal.send(ENTER)
    terminal.wait("ok")
    terminal.wait_for_prompt()
    terminal.send("/edit", ENTER)
    terminal.wait("row 19")
    terminal.send("!", ENTER)
    terminal.wait("You said: row 0")
    terminal.wait(lambda: terminal.text().count("row 19!") == 2)


@pytest.mark.parametrize(("typed", "sent"), [("//undo it", "/undo it"), ("///x", "//x"), ("/a/b c", "/a/b c")])
def test_a_message_that_begins_with_a_slash_can_be_edited(start: Any, typed: str, sent: str) -> None:
    """It came back without the second slash, and was taken for a command when it was sent."""
    terminal = start()
    terminal.run(typed, f"You said: {sent}")
    terminal.send("/edit", ENTER)
    terminal.wait(lambda: terminal.cursor_line() == f"> {typed}")
    terminal.send("!", ENTER)
    terminal.wait(f"You said: {sent}!")


def test_an_abandoned_edit_changes_nothing(start: Any) -> None:
    terminal = start()
    terminal.run("first", "You said: first")
    terminal.send("/edit", ENTER)
    terminal.wait(lambda: terminal.cursor_line() == "> first")
    terminal.send(CTRL_C)
    terminal.run("", "Nothing was changed.")
    terminal.run("second", "You said: second")
    terminal.say("/context")
    terminal.wait(lambda: "You said: first" in "".join(terminal.text().split("/context")[1:]))


def test_continue_extends_a_cut_answer_as_one_message(start: Any) -> None:
    terminal = start([["text", "Half a sen"], ["length"]], [["text", "tence."]])
    terminal.run("go", "The answer reached its limit. /continue resumes it.")
    terminal.run("/continue", "…tence.")
    terminal.run("/continue", "there is no answer that was cut off")
    terminal.run("/context", "/ 32,768, including")
    context = terminal.text().rsplit("/context", 1)[1]
    assert context.count("assistant") == 1 and "Half a sentence." in context
