"""The branches of a conversation, named by where they leave the one that is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat.core.conversation import Conversation, Node


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
    questions = [node.message.content for node in until_fork if node.message.role == "user"]
    return ConversationBranch(
        leaf=leaf,
        turns=sum(node.message.role == "user" for node in path),
        is_open=leaf == conversation.leaf,
        fork=None if fork_index is None else path[fork_index],
        turn=len(questions),
        question=questions[-1] if questions else "",
        ending=path[-1].message.content if path[-1].message.role == "assistant" else "",
    )
