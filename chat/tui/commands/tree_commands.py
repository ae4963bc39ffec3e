"""`/undo`, `/edit`, `/regen`, `/continue` and `/branches`: move in the tree of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import UsageError
from chat.rendering.styled_text import Span, cut
from chat.system.terminal_text import escape_control_characters, escape_line
from chat.tui import exchange
from chat.tui.commands.branches import branches, question_before
from chat.tui.transcript import show_end

if TYPE_CHECKING:
    from chat.rendering.styled_text import Line
    from chat.tui.commands.branches import ConversationBranch
    from chat.tui.state import SessionState

QUOTE_CELLS = 40  # of a question that a confirmation quotes
LEAST_QUOTE_CELLS = 6  # of texts in a list of branches


def undo(state: SessionState, argument: str) -> None:
    """`/undo [N]`

    Raises:
        UsageError: there are fewer turns, or the argument is no number.
    """
    turns = _parse_number(argument, "a number of turns")
    question = question_before(state.session.conversation, turns)
    if question is None:
        raise UsageError("there are fewer turns than that" if turns > 1 else "there is nothing to undo")
    state.session.set_leaf(question.parent)
    state.branch_point = None
    exchange.update_used_tokens(state)
    undone = f"undone: {turns} turns" if turns > 1 else "undone"
    quoted = cut(escape_control_characters(question.message.content), QUOTE_CELLS)
    state.report(f"{undone}, back before “{quoted}” · /branches finds it again")


def edit(state: SessionState, argument: str) -> str:
    """`/edit [N]`

    Returns:
        The message to edit.

    Raises:
        UsageError: there are fewer turns, or the argument is no number.
    """
    question = question_before(state.session.conversation, _parse_number(argument, "a number of turns"))
    if question is None:
        raise UsageError("there is no message to edit")
    state.branch_point = (question.parent,)
    state.show(*state.wrapped("edit and send; an empty message changes nothing", "dim"))
    return question.message.content


def regenerate(state: SessionState, argument: str) -> None:
    """`/regen`

    Raises:
        UsageError: there is no question.
        ChatError: the model cannot be used.
        Terminated: the program ends; what was generated is stored.
    """
    exchange.answer_again(state)


def continue_answer(state: SessionState, argument: str) -> None:
    """`/continue`

    Raises:
        UsageError: the last answer is complete, or a function call is pending.
        ChatError: the model cannot be used.
        Terminated: the program ends; what was generated is stored.
    """
    exchange.continue_answer(state)


def show_branches(state: SessionState, argument: str) -> None:
    """`/branches [NUMBER]`: list the branches, or switch to one.

    Raises:
        UsageError: there is no branch with this number.
    """
    found = branches(state.session.conversation)
    if argument:
        number = _parse_number(argument, "the number of a branch")
        if number > len(found):
            raise UsageError(f"there is no branch {number}", hint="`/branches` lists them")
        state.session.set_leaf(found[number - 1].leaf)
        exchange.update_used_tokens(state)
        state.report(f"on branch {number}")
        show_end(state)
    elif not found:
        state.report("nothing was said yet")
    else:
        state.show(*(_branch_line(state, number, branch) for number, branch in enumerate(found, 1)))
        state.report("/branches NUMBER switches" if len(found) > 1 else "one branch; /regen and /edit make others")


def _parse_number(argument: str, meaning: str) -> int:
    """A number from 1 on; 1 if the argument is empty.

    Args:
        argument: what the user typed.
        meaning: what it should be, for the message.

    Raises:
        UsageError: it is no such number.
    """
    if not argument:
        return 1
    if not (argument.isascii() and argument.isdecimal() and len(argument) < 10 and int(argument) >= 1):
        raise UsageError(f"needs {meaning}, not `{escape_line(argument)}`")
    return int(argument)


def _branch_line(state: SessionState, number: int, branch: ConversationBranch) -> Line:
    """A branch: the turn in which it leaves the open one, the question there, and its end."""
    before = f"{number:>3} {'▸' if branch.is_open else ' '} "
    text = f"turn {branch.turn}" if branch.fork is not None else "here"
    if branch.turns > branch.turn:
        text += f" to {branch.turns}"
    quotes = [escape_control_characters(quote) for quote in (branch.question, branch.ending) if quote]
    cells = (state.screen.width - len(before) - len(text) - 1 - 5 * len(quotes)) // max(1, len(quotes))
    if quotes and cells >= LEAST_QUOTE_CELLS:
        text += ": " + " → ".join(f"“{cut(quote, cells)}”" for quote in quotes)
    return (Span(before, "bold" if branch.is_open else "dim"), Span(text))
