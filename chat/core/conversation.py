"""The frozen tree of messages: the only truth about what was said. Knows roles and text, not tokens."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "interrupted"]


@dataclass(frozen=True)
class ToolCall:
    """A function the model asked for; `arguments` is JSON text as the model wrote it."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    `ids` are the generated ids of our own answer, without the end token, and () for everything else: an answer goes
    back into the prompt as the ids it was generated as, since decoding and encoding again need not return them.
    """

    role: Role
    content: str
    ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""  # of the tool that answered

    def to_json(self) -> dict[str, Any]:
        """The message as plain values, empty ones left out."""
        plain: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.ids:
            plain["ids"] = list(self.ids)
        if self.finish_reason:
            plain["finish_reason"] = self.finish_reason
        if self.tool_calls:
            plain["tool_calls"] = [{"name": c.name, "arguments": c.arguments, "id": c.id} for c in self.tool_calls]
        if self.tool_call_id:
            plain["tool_call_id"] = self.tool_call_id
        if self.name:
            plain["name"] = self.name
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Message:
        """The inverse of `to_json`."""
        return cls(
            role=plain["role"],
            content=plain["content"],
            ids=tuple(plain.get("ids", ())),
            finish_reason=plain.get("finish_reason"),
            tool_calls=tuple(ToolCall(**call) for call in plain.get("tool_calls", ())),
            tool_call_id=plain.get("tool_call_id", ""),
            name=plain.get("name", ""),
        )


@dataclass(frozen=True)
class Node:
    """A message at its place in the tree; `parent` is None for a first message."""

    id: str
    parent: str | None
    message: Message


@dataclass(frozen=True)
class Conversation:
    """A tree of messages and the leaf that is being looked at. Changing it makes a new value.

    `system` stands above the tree, so that it can change without copying the messages below it.
    """

    system: str | None = None
    leaf: str | None = None
    nodes: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))

    def add(self, message: Message, node_id: str | None = None) -> Conversation:
        """The conversation with `message` after the leaf, which becomes the leaf."""
        node = Node(node_id or uuid.uuid4().hex, self.leaf, message)
        return replace(self, leaf=node.id, nodes=MappingProxyType({**self.nodes, node.id: node}))

    def at(self, leaf: str | None) -> Conversation:
        """The same tree seen from another leaf; None is before the first message."""
        if leaf is not None and leaf not in self.nodes:
            raise KeyError(leaf)
        return replace(self, leaf=leaf)

    def with_system(self, system: str | None) -> Conversation:
        """The same tree under another system prompt; empty text is none."""
        return replace(self, system=system or None)

    def path(self) -> tuple[Node, ...]:
        """The nodes from the first message to the leaf."""
        nodes: list[Node] = []
        at = self.leaf
        while at is not None:
            node = self.nodes[at]
            nodes.append(node)
            at = node.parent
        return tuple(reversed(nodes))

    def messages(self) -> tuple[Message, ...]:
        """What a prompt is made of: the system message, if any, and the path to the leaf."""
        system = (Message("system", self.system),) if self.system else ()
        return system + tuple(node.message for node in self.path())

    def waiting_calls(self) -> tuple[ToolCall, ...]:
        """The function calls that the conversation ends with and that have no result yet."""
        answered: set[str] = set()
        for node in reversed(self.path()):
            if node.message.role != "tool":
                return tuple(call for call in node.message.tool_calls if call.id not in answered)
            answered.add(node.message.tool_call_id)
        return ()

    def children(self, parent: str | None) -> tuple[Node, ...]:
        """The nodes directly after `parent`, in the order they were added."""
        return tuple(node for node in self.nodes.values() if node.parent == parent)

    def undo(self, turns: int = 1) -> Conversation:
        """The conversation before its last `turns` user messages; what is left behind stays in the tree."""
        leaf = self.leaf
        for _ in range(turns):
            while leaf is not None and self.nodes[leaf].message.role != "user":
                leaf = self.nodes[leaf].parent
            if leaf is None:
                break
            leaf = self.nodes[leaf].parent
        return self.at(leaf)
