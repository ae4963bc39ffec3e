"""Name the branches of a conversation by where they leave the one that is open. Pure: a tree in, a list out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat.core.conversation import Conversation, Node


@dataclass(frozen=True)
class ConversationBranch:
    """One end of the tree; `fork` is its first message that the open path lacks, None on the open path itself.

    `turn` is, from 1, the turn of the fork, `question` what was asked in it; `ending` the last message if it is an
    answer.
    """

    leaf: str
    turns: int
    is_open: bool
    fork: Node | None
    turn: int
    question: str
    ending: str


def branches(conversation: Conversation) -> list[ConversationBranch]:
    """Every end of the tree in the order it was begun; and the open place, where that is no end."""
    parents = {node.parent for node in conversation.nodes.values()}
    ends = [node_id for node_id in conversation.nodes if node_id not in parents]
    if conversation.leaf is not None and conversation.leaf not in ends:
        ends.append(conversation.leaf)
    here = {node.id for node in conversation.path()}
    return [_branch(conversation, end, here) for end in ends]


def question_at(conversation: Conversation, turns: int) -> Node | None:
    """The user message of the last turn but `turns` - 1; None if there are not so many turns."""
    asked = [node for node in conversation.path() if node.message.role == "user"]
    return asked[-turns] if 1 <= turns <= len(asked) else None


def turns_of(path: tuple[Node, ...]) -> int:
    """How many questions there are on a path."""
    return sum(node.message.role == "user" for node in path)


def _branch(conversation: Conversation, end: str, here: set[str]) -> ConversationBranch:
    path = conversation.with_leaf(end).path()
    fork_at = next((at for at, node in enumerate(path) if node.id not in here), None)
    until = path if fork_at is None else path[: fork_at + 1]
    questions = [node.message.content for node in until if node.message.role == "user"]
    return ConversationBranch(
        leaf=end,
        turns=turns_of(path),
        is_open=end == conversation.leaf,
        fork=None if fork_at is None else path[fork_at],
        turn=turns_of(until),
        question=questions[-1] if questions else "",
        ending=path[-1].message.content if path[-1].message.role == "assistant" else "",
    )
