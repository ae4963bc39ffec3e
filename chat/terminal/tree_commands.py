"""Commands that move in the conversation's tree: undo, edit, answer again, go on, branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.ground.errors import UsageError
from chat.ground.visible import visible, visible_line
from chat.terminal import talk
from chat.terminal.branches import branches, question_at
from chat.terminal.render import Span, cut, plain

if TYPE_CHECKING:
    from chat.terminal.branches import Branch
    from chat.terminal.desk import Desk
    from chat.terminal.render import Line

SHOWN_LINES = 4  # of the beginning and of the end of a long question


def number_of(argument: str, what: str = "a number of turns") -> int:
    """A number, 1 where none is given.

    Raises:
        UsageError: it is none.
    """
    if not argument:
        return 1
    if not (argument.isascii() and argument.isdecimal() and len(argument) < 10 and int(argument) >= 1):
        raise UsageError(f"needs {what}, not `{visible_line(argument)}`")
    return int(argument)


def undo(desk: Desk, argument: str) -> None:
    """`/undo [n]`"""
    turns = number_of(argument)
    question = question_at(desk.book.conversation, turns)
    if question is None:
        raise UsageError("there are not so many turns to undo" if turns > 1 else "there is nothing to undo")
    desk.book.move(question.parent)
    desk.edited = None
    talk.recount(desk)
    words = f"undone: {turns} turns" if turns > 1 else "undone"
    desk.tell(f"{words}, back before “{_short(desk, question.message.content)}” · /branches finds it again")


def edit(desk: Desk, argument: str) -> str:
    """`/edit [n]`"""
    question = question_at(desk.book.conversation, number_of(argument))
    if question is None:
        raise UsageError("there is no message to edit")
    desk.edited = (question.parent,)
    desk.say(plain("edit and send; an empty message leaves all as it is", "dim"))
    return question.message.content


def regenerate(desk: Desk, argument: str) -> None:
    """`/regen`"""
    talk.answer_again(desk)


def go_on(desk: Desk, argument: str) -> None:
    """`/continue`"""
    talk.go_on(desk)


def show_branches(desk: Desk, argument: str) -> None:
    """`/branches [number]`"""
    found = branches(desk.book.conversation)
    if argument:
        number = number_of(argument, "the number of a branch")
        if number > len(found):
            raise UsageError(f"there is no branch {number}", hint="`/branches` lists them")
        desk.book.move(found[number - 1].leaf)
        talk.recount(desk)
        desk.tell(f"on branch {number}")
        show_end(desk)
    elif not found:
        desk.tell("nothing was said yet")
    else:
        for number, branch in enumerate(found, 1):
            desk.say(_branch_line(desk, number, branch))
        desk.tell("/branches NUMBER switches" if len(found) > 1 else "one branch; /regen and /edit make others")


def show_end(desk: Desk, messages: int = 2) -> None:
    """Show the last messages of the conversation, so that a person knows where they are."""
    path = desk.book.conversation.path()
    left_out = len(path) - messages
    if left_out > 0:
        desk.say(plain(f"… {left_out} earlier message{'s' if left_out > 1 else ''}", "dim"), ())
    for node in path[-messages:]:
        if node.message.role == "user":
            desk.say(*_quoted(desk, node.message.content), ())
        else:
            talk.show_text(desk, node.message.content)
            if node.message.finish_reason in talk.ENDS:
                desk.say((), plain(talk.ENDS[node.message.finish_reason], "dim"))
            desk.say(())


def _quoted(desk: Desk, text: str) -> list[Line]:
    """A question as it stood behind the prompt, without the middle of a long one."""
    lines = desk.wrapped(text, indent="  ")
    left_out = len(lines) - 2 * SHOWN_LINES
    if left_out > 1:
        lines[SHOWN_LINES:-SHOWN_LINES] = [plain(f"  … {left_out:,} more lines", "dim")]
    return [(Span("> ", "bold"), *lines[0][1:]), *lines[1:]]


def _branch_line(desk: Desk, number: int, branch: Branch) -> Line:
    """Where a branch leaves the open one, with what question, and how it ends."""
    mark = "▸" if branch.is_open else " "
    before = f"{number:>3} {mark} "
    words = f"turn {branch.turn}" if branch.fork is not None else "here"
    if branch.turns > branch.turn:
        words += f" to {branch.turns}"
    texts = [visible(text) for text in (branch.question, branch.ending) if text]
    room = (desk.screen.width - len(before) - len(words) - 1 - 5 * len(texts)) // max(1, len(texts))
    if texts and room >= 6:
        words += ": " + " → ".join(f"“{cut(text, room)}”" for text in texts)
    return (Span(before, "bold" if branch.is_open else "dim"), Span(words))


def _short(desk: Desk, text: str) -> str:
    return cut(visible(text), 40)
