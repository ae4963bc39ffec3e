"""The conversation: a tree of messages that does not change; each method returns a new value."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chat.core.answer_details import AnswerDetails

Role = Literal["system", "user", "assistant", "tool"]
# the last three come from servers only, and are stored as "stop": earlier versions read no other word
FinishReason = Literal["stop", "length", "interrupted", "tool_calls", "content_filter", "refusal"]
MOST_PICTURE_BYTES = 32 << 20  # of a picture's file
_PAGE = re.compile(r", page \d+$")  # ends the name of a picture that is one
PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")  # media types that are read
STORED_REASONS: tuple[FinishReason, ...] = ("stop", "length", "interrupted")


def stored_reason(reason: FinishReason | None) -> FinishReason | None:
    """The finish reason in the words that are stored."""
    return reason if reason in (*STORED_REASONS, None) else "stop"


@dataclass(frozen=True)
class ToolCall:
    """A function that the model calls.

    Attributes:
        name: the function's name.
        arguments: JSON text as the model wrote it, which may not be valid.
        id: connects the call with its result; empty where the prompt format has no ids.
    """

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture in a message.

    Attributes:
        sha256: of its file's bytes, in hexadecimal digits.
        media_type: such as `image/png`.
        name: what the user knows it by.
        place: how many characters of the message's text stand before it.
        data: its file's bytes; empty where they are not at hand.
    """

    sha256: str
    media_type: str
    name: str = ""
    place: int = 0
    data: bytes = field(default=b"", compare=False, repr=False)

    @classmethod
    def of_file(cls, data: bytes, media_type: str, name: str, place: int = 0) -> Picture:
        """The picture of a file's bytes."""
        return cls(hashlib.sha256(data).hexdigest(), media_type, name, place, data)

    @classmethod
    def of_page(cls, data: bytes, document: str, number: int) -> Picture:
        """The picture of a page of a document without text, as a JPEG file."""
        return cls.of_file(data, "image/jpeg", f"{document}, page {number}")

    @property
    def is_page(self) -> bool:
        """Whether it is of a page, by its name."""
        return _PAGE.search(self.name) is not None

    @property
    def data_url(self) -> str:
        """The file as an address that holds it."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"

    def to_json(self) -> dict[str, Any]:
        """The picture as a JSON object, with its file as base64."""
        plain = {"name": self.name, "media_type": self.media_type, "sha256": self.sha256, "place": self.place}
        return plain | {"data": base64.b64encode(self.data).decode()}


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: who wrote it.
        content: its text.
        reasoning: what the model thought before an answer.
        ids: of an answer that this program generated, the token ids without the end token, those of the reasoning
            included; else empty. Prompts repeat an answer by these ids, because encoding its text again may give other
            ones.
        finish_reason: why an answer ended; None for other messages.
        tool_calls: the functions that an answer calls.
        tool_call_id: of a result, the id of its call.
        name: of a result, the name of the function.
        pictures: those of a question, in their order.
    """

    role: Role
    content: str
    ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    reasoning: str = ""
    pictures: tuple[Picture, ...] = ()

    @property
    def summary(self) -> str:
        """The text, or the names of the pictures where there is none."""
        return self.content or ", ".join(picture.name for picture in self.pictures)

    def parts(self) -> tuple[str | Picture, ...]:
        """The text and the pictures in their order, without empty texts."""
        parts: list[str | Picture] = []
        start = 0
        for picture in self.pictures:
            stop = max(picture.place, start)
            parts += [self.content[start:stop], picture]
            start = stop
        return tuple(part for part in (*parts, self.content[start:]) if part)

    @property
    def is_unfinished_reasoning(self) -> bool:
        """Whether the answer was cut off while the model still thought."""
        is_reasoning = self.reasoning and not self.content and not self.tool_calls
        return bool(is_reasoning) and self.finish_reason in ("length", "interrupted")

    def to_json(self) -> dict[str, Any]:
        """The message as a JSON object, without empty fields."""
        plain: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning:
            plain["reasoning"] = self.reasoning
        if self.ids:
            plain["ids"] = list(self.ids)
        if self.finish_reason:
            plain["finish_reason"] = stored_reason(self.finish_reason)
        if self.tool_calls:
            plain["tool_calls"] = [{"name": c.name, "arguments": c.arguments, "id": c.id} for c in self.tool_calls]
        if self.tool_call_id:
            plain["tool_call_id"] = self.tool_call_id
        if self.name:
            plain["name"] = self.name
        if self.pictures:
            plain["pictures"] = [picture.to_json() for picture in self.pictures]
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
            reasoning=plain.get("reasoning", ""),
            pictures=tuple(
                Picture(**{**each, "data": base64.b64decode(each["data"])}) for each in plain.get("pictures", ())
            ),
        )


@dataclass(frozen=True)
class Node:
    """A message in the tree.

    Attributes:
        id: unique in the tree.
        parent: the id of the node before it; None for a first message.
        message: the message.
        details: how an answer came about; None for other messages, and for answers of older versions.
    """

    id: str
    parent: str | None
    message: Message
    details: AnswerDetails | None = None


@dataclass(frozen=True)
class Conversation:
    """A tree of messages, of which the path to one leaf is the current conversation.

    Attributes:
        system: the system prompt; empty for none, None for the model's own. It is not in the tree, so a change does not
            copy the messages.
        leaf: the id of the current path's last node; None before the first message.
        nodes: all nodes by id, in the order in which they were added.
    """

    system: str | None = None
    leaf: str | None = None
    nodes: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))

    def add(self, message: Message, node_id: str | None = None, details: AnswerDetails | None = None) -> Conversation:
        """The conversation with `message` after the leaf; it becomes the leaf.

        Args:
            message: the message.
            node_id: the id of its node; None makes a new one.
            details: how it came about, if it is an answer.
        """
        node = Node(node_id or uuid.uuid4().hex, self.leaf, message, details)
        return replace(self, leaf=node.id, nodes=MappingProxyType({**self.nodes, node.id: node}))

    def with_leaf(self, leaf: str | None) -> Conversation:
        """The same tree with another current path.

        Args:
            leaf: the id of its last node; None is before the first message.

        Raises:
            KeyError: there is no such node.
        """
        if leaf is not None and leaf not in self.nodes:
            raise KeyError(leaf)
        return replace(self, leaf=leaf)

    def with_system(self, system: str | None) -> Conversation:
        """The same tree with another system prompt; an empty text is none, None is the model's own."""
        return replace(self, system=system)

    def path(self) -> tuple[Node, ...]:
        """The nodes from the first message to the leaf."""
        nodes: list[Node] = []
        node_id = self.leaf
        while node_id is not None:
            node = self.nodes[node_id]
            nodes.append(node)
            node_id = node.parent
        return tuple(reversed(nodes))

    def messages(self) -> tuple[Message, ...]:
        """The messages of a prompt: the system prompt, if the user gave one, and the path to the leaf."""
        system = (Message("system", self.system),) if self.system else ()
        return system + tuple(node.message for node in self.path())

    def pending_calls(self) -> tuple[ToolCall, ...]:
        """The function calls at the end of the path that have no result yet."""
        answered: set[str] = set()
        for node in reversed(self.path()):
            if node.message.role != "tool":
                return tuple(call for call in node.message.tool_calls if call.id not in answered)
            answered.add(node.message.tool_call_id)
        return ()

    def children(self, parent: str | None) -> tuple[Node, ...]:
        """The nodes directly after `parent`, in the order in which they were added."""
        return tuple(node for node in self.nodes.values() if node.parent == parent)

    def undo(self, turns: int = 1) -> Conversation:
        """The conversation before its last `turns` user messages; all messages stay in the tree."""
        leaf = self.leaf
        for _ in range(turns):
            while leaf is not None and self.nodes[leaf].message.role != "user":
                leaf = self.nodes[leaf].parent
            if leaf is None:
                break
            leaf = self.nodes[leaf].parent
        return self.with_leaf(leaf)
