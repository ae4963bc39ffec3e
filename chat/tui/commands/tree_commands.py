"""Commands that move in the conversation's tree: undo, edit, answer again, go on, branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import UsageError
from chat.rendering.styled_text import Span, cut, plain
from chat.system.terminal_text import escape_control_characters, escape_line
from chat.tui import exchange
from chat.tui.commands.branches import branches, question_at

if TYPE_CHECKING:
    from chat.core.conversation import Node
    from chat.rendering.styled_text import Line
    from chat.tui.commands.branches import ConversationBranch
    from chat.tui.state import SessionState

SHOWN_LINES = 4  # of the beginning and of the end of a long question


def number_of(argument: str, what: str = "a number of turns") -> int:
    """A number, 1 where none is given.

    Raises:
        UsageError: it is none.
    """
    if not argument:
        return 1
    if not (argument.isascii() and argument.isdecimal() and len(argument) < 10 and int(argument) >= 1):
        raise UsageError(f"needs {what}, not `{escape_line(argument)}`")
    return int(argument)


def undo(desk: SessionState, argument: str) -> None:
    """`/undo [n]`"""
    turns = number_of(argument)
    question = question_at(desk.session.conversation, turns)
    if question is None:
        raise UsageError("there are not so many turns to undo" if turns > 1 else "there is nothing to undo")
    desk.session.set_leaf(question.parent)
    desk.edited = None
    exchange.recount(desk)
    words = f"undone: {turns} turns" if turns > 1 else "undone"
    desk.tell(f"{words}, back before “{_short(desk, question.message.content)}” · /branches finds it again")


def edit(desk: SessionState, argument: str) -> str:
    """`/edit [n]`"""
    question = question_at(desk.session.conversation, number_of(argument))
    if question is None:
        raise UsageError("there is no message to edit")
    desk.edited = (question.parent,)
    desk.say(*desk.wrapped("edit and send; an empty message leaves all as it is", "dim"))
    return question.message.content


def regenerate(desk: SessionState, argument: str) -> None:
    """`/regen`"""
    exchange.answer_again(desk)


def go_on(desk: SessionState, argument: str) -> None:
    """`/continue`"""
    exchange.go_on(desk)


def show_branches(desk: SessionState, argument: str) -> None:
    """`/branches [number]`"""
    found = branches(desk.session.conversation)
    if argument:
        number = number_of(argument, "the number of a branch")
        if number > len(found):
            raise UsageError(f"there is no branch {number}", hint="`/branches` lists them")
        desk.session.set_leaf(found[number - 1].leaf)
        exchange.recount(desk)
        desk.tell(f"on branch {number}")
        show_end(desk)
    elif not found:
        desk.tell("nothing was said yet")
    else:
        for number, branch in enumerate(found, 1):
            desk.say(_branch_line(desk, number, branch))
        desk.tell("/branches NUMBER switches" if len(found) > 1 else "one branch; /regen and /edit make others")


def show_end(desk: SessionState, messages: int = 2) -> None:
    """Show the last messages of the conversation, so that a person knows where they are."""
    path = desk.session.conversation.path()
    _show_part(desk, path, max(0, len(path) - messages), len(path))


def show_turn(desk: SessionState, node_id: str) -> None:
    """Show the turn of a message: its question, and what came of it."""
    path = desk.session.conversation.path()
    at = next(number for number, node in enumerate(path) if node.id == node_id)
    questions = [number for number, node in enumerate(path) if node.message.role == "user"]
    begin = max((each for each in questions if each <= at), default=0)
    _show_part(desk, path, begin, min((each for each in questions if each > at), default=len(path)))


def _show_part(desk: SessionState, path: tuple[Node, ...], begin: int, end: int) -> None:
    if begin:
        desk.say(plain(f"… {begin} earlier message{'s' if begin > 1 else ''}", "dim"), ())
    for node in path[begin:end]:
        if node.message.role == "user":
            desk.say(*_quoted(desk, node.message.content), ())
        else:
            exchange.show_message(desk, node.message)
    later = len(path) - end
    if later:
        words = f"… {later} later message{'s' if later > 1 else ''}; what you say goes after the last one"
        desk.say(*desk.wrapped(words, "dim"), ())


def _quoted(desk: SessionState, text: str) -> list[Line]:
    """A question as it stood behind the prompt, without the middle of a long one."""
    lines = desk.wrapped(text, indent="  ")
    left_out = len(lines) - 2 * SHOWN_LINES
    if left_out > 1:
        lines[SHOWN_LINES:-SHOWN_LINES] = [plain(f"  … {left_out:,} more lines", "dim")]
    return [(Span("> ", "bold"), *lines[0][1:]), *lines[1:]]


def _branch_line(desk: SessionState, number: int, branch: ConversationBranch) -> Line:
    """Where a branch leaves the open one, with what question, and how it ends."""
    mark = "▸" if branch.is_open else " "
    before = f"{number:>3} {mark} "
    words = f"turn {branch.turn}" if branch.fork is not None else "here"
    if branch.turns > branch.turn:
        words += f" to {branch.turns}"
    texts = [escape_control_characters(text) for text in (branch.question, branch.ending) if text]
    room = (desk.screen.width - len(before) - len(words) - 1 - 5 * len(texts)) // max(1, len(texts))
    if texts and room >= 6:
        words += ": " + " → ".join(f"“{cut(text, room)}”" for text in texts)
    return (Span(before, "bold" if branch.is_open else "dim"), Span(words))


def _short(desk: SessionState, text: str) -> str:
    return cut(escape_control_characters(text), 40)
