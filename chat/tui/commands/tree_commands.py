"""`/undo`, `/edit`, `/regen`, `/continue` and `/branches`: move in the tree of messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.documents.pictures import attached_again
from chat.errors import UsageError
from chat.rendering.styled_text import Span, cut
from chat.system.terminal_text import counted, escape_control_characters, escape_line
from chat.tui import exchange
from chat.tui.commands.attach_command import show_attachments
from chat.tui.commands.lookup import is_command
from chat.tui.transcript import show_end

if TYPE_CHECKING:
    from chat.core.conversation import Conversation, Node
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState

QUOTE_CELLS = 40  # of a question that a confirmation quotes
LEAST_QUOTE_CELLS = 6  # of texts in a list of branches


@dataclass(frozen=True)
class ConversationBranch:
    """One path through the tree of messages, from its root to a leaf.

    Attributes:
        leaf: the id of its last message.
        turns: how many questions it has.
        is_open: whether it is the one that the session shows.
        fork: its first message that the open branch lacks; None if there is none.
        turn: the number, from 1, of the turn in which it leaves the open branch.
        question: the question of that turn.
        ending: its last message, if that is an answer.
    """

    leaf: str
    turns: int
    is_open: bool
    fork: Node | None
    turn: int
    question: str
    ending: str


def branches(conversation: Conversation) -> list[ConversationBranch]:
    """One branch for each leaf of the tree, the oldest first; then the open one, if it ends before a leaf."""
    parents = {node.parent for node in conversation.nodes.values()}
    leaves = [node_id for node_id in conversation.nodes if node_id not in parents]
    if conversation.leaf is not None and conversation.leaf not in leaves:
        leaves.append(conversation.leaf)
    open_ids = {node.id for node in conversation.path()}
    return [_branch(conversation, leaf, open_ids) for leaf in leaves]


def question_before(conversation: Conversation, turns: int) -> Node | None:
    """The question of the last turn for 1, of the turn before for 2, and so on; None if there are fewer turns."""
    questions = [node for node in conversation.path() if node.message.role == "user"]
    return questions[-turns] if 1 <= turns <= len(questions) else None


def _branch(conversation: Conversation, leaf: str, open_ids: set[str]) -> ConversationBranch:
    path = conversation.with_leaf(leaf).path()
    fork_index = next((index for index, node in enumerate(path) if node.id not in open_ids), None)
    until_fork = path if fork_index is None else path[: fork_index + 1]
    questions = [node.message.summary for node in until_fork if node.message.role == "user"]
    return ConversationBranch(
        leaf=leaf,
        turns=sum(node.message.role == "user" for node in path),
        is_open=leaf == conversation.leaf,
        fork=None if fork_index is None else path[fork_index],
        turn=len(questions),
        question=questions[-1] if questions else "",
        ending=(path[-1].message.content or path[-1].message.reasoning) if path[-1].message.role == "assistant" else "",
    )


def undo(state: SessionState, argument: str) -> None:
    """`/undo [N]`

    Raises:
        UsageError: the argument is no number.
    """
    turns = _parse_number(argument, "undo")
    question = question_before(state.session.conversation, turns)
    if question is None:
        return state.report(_few_turns(sum(each.role == "user" for each in state.session.conversation.messages())))
    state.session.set_leaf(question.parent)
    state.branch_point = None
    exchange.update_used_tokens(state)
    quoted = cut(escape_control_characters(question.message.summary), QUOTE_CELLS)
    if turns == 1:
        return state.report(f"Removed “{quoted}”. /branches brings it back.")
    return state.report(f"Removed {turns} turns, from “{quoted}” on. /branches brings them back.")


def _few_turns(turns: int) -> str:
    """How many turns can be undone, if more were to be."""
    if turns == 0:
        return "There is nothing to undo."
    return f"There {'is' if turns == 1 else 'are'} only {counted(turns, 'turn')} to undo."


def edit(state: SessionState, argument: str) -> str:
    """`/edit [N]`

    Returns:
        The message to edit, as it has to be typed.

    Raises:
        UsageError: there are fewer turns, or the argument is no number.
    """
    question = question_before(state.session.conversation, _parse_number(argument, "edit"))
    if question is None:
        raise UsageError("there is no message to edit")
    state.branch_point = (question.parent,)
    state.attachments += map(attached_again, question.message.pictures)
    if question.message.pictures:
        show_attachments(state, state.attachments)
    state.show(*state.wrapped("Edit and send. An empty message changes nothing.", "dim"))
    text = question.message.content
    return f"/{text}" if text.startswith("//") or is_command(text.strip()) else text


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
        number = _parse_number(argument, "branches")
        if number > len(found):
            raise UsageError(f"there is no branch {number}", hint="`/branches` lists them")
        state.session.set_leaf(found[number - 1].leaf)
        exchange.update_used_tokens(state)
        state.report(f"Now on branch {number}.")
        show_end(state)
    elif not found:
        state.report("Nothing has been said yet.")
    else:
        state.show(*(_branch_line(state, number, branch) for number, branch in enumerate(found, 1)))
        alone = "There is only one branch. /regen and /edit make others."
        state.report("/branches NUMBER switches." if len(found) > 1 else alone)


def _parse_number(argument: str, command: str) -> int:
    """A number from 1 on; 1 if the argument is empty.

    Args:
        argument: what the user typed.
        command: the command that takes it.

    Raises:
        UsageError: it is no such number.
    """
    if not argument:
        return 1
    if not (argument.isascii() and argument.isdecimal() and len(argument) < 10 and int(argument) >= 1):
        raise UsageError(f"`/{command}` takes a number from 1 on, not `{escape_line(argument)}`")
    return int(argument)


def _branch_line(state: SessionState, number: int, branch: ConversationBranch) -> Line:
    """A branch: the turn in which it leaves the open one, the question there, and its end."""
    before = f"{number:>3} {'▸' if branch.is_open else ' '} "
    is_long = branch.turns > branch.turn
    turns = f"turns {branch.turn} to {branch.turns}" if is_long else f"turn {branch.turn}"
    text = turns if branch.fork is not None else f"here to turn {branch.turns}" if is_long else "here"
    quotes = [escape_control_characters(quote) for quote in (branch.question, branch.ending) if quote]
    cells = (state.screen.width - len(before) - len(text) - 1 - 5 * len(quotes)) // max(1, len(quotes))
    if quotes and cells >= LEAST_QUOTE_CELLS:
        text += ": " + " → ".join(f"“{cut(quote, cells)}”" for quote in quotes)
    return (Span(before, "bold" if branch.is_open else "dim"), Span(text))
