"""How sessions and messages become rows, and rows become a conversation again. Knows values, not SQL."""

from __future__ import annotations

import json
import sys
from array import array
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, get_args

from chat.core.conversation import Conversation, FinishReason, Message, Node, Role, ToolCall
from chat.history.records import SessionRecord, storable

if TYPE_CHECKING:
    from collections.abc import Mapping

SESSION_COLUMNS = (
    "id", "name", "title", "model", "model_path", "system", "settings", "created", "updated", "leaf",
)  # fmt: skip
NODE_COLUMNS = ("id", "parent", "role", "content", "calls", "answers", "ids", "finish_reason")
NodeValues = tuple[str, str | None, str, str, str, str, bytes, str | None]  # in the order of NODE_COLUMNS


def session_values(record: SessionRecord) -> tuple[Any, ...]:
    values = {
        **{column: getattr(record, column) for column in SESSION_COLUMNS},
        "settings": settings_json(record.settings),
    }
    return tuple(storable(value) if isinstance(value, str) else value for value in values.values())


def record_of(row: tuple[Any, ...]) -> SessionRecord:
    values = dict(zip((*SESSION_COLUMNS, "messages"), row, strict=True))
    try:
        settings = json.loads(values.pop("settings"))
    except ValueError:
        settings = {}
    return SessionRecord(**values, settings=settings if isinstance(settings, dict) else {})


def settings_json(settings: Mapping[str, Any]) -> str:
    return storable(json.dumps(dict(settings), ensure_ascii=False, default=str))


def node_values(node: Node) -> NodeValues:
    """The node as a row of the table of nodes, without its session."""
    message = node.message
    calls = [{"name": call.name, "arguments": call.arguments, "id": call.id} for call in message.tool_calls]
    answers = {key: value for key in ("tool_call_id", "name") if (value := getattr(message, key))}
    return (
        node.id,
        node.parent,
        message.role,
        storable(message.content),
        storable(json.dumps(calls, ensure_ascii=False)) if calls else "",
        storable(json.dumps(answers, ensure_ascii=False)) if answers else "",
        _pack(message.ids),
        message.finish_reason,
    )


def node_of(values: tuple[Any, ...], *, streaming: bool = False) -> Node:
    """The inverse of `node_values`; an answer that was being streamed when it was stored last is interrupted.

    Raises:
        ValueError, TypeError, KeyError: the row is damaged.
    """
    node_id, parent, role, content, calls, answers, ids, finish_reason = values
    if role not in get_args(Role) or not isinstance(content, str) or not isinstance(node_id, str):
        raise ValueError(f"{role!r} is no role, or the message is no text")
    if finish_reason not in (*get_args(FinishReason), None):
        raise ValueError(f"{finish_reason!r} is no way to finish")
    message = Message(
        role=cast("Role", role),
        content=content,
        ids=_unpack(ids),
        finish_reason=cast("FinishReason | None", "interrupted" if streaming else finish_reason),
        tool_calls=tuple(ToolCall(**call) for call in json.loads(calls)) if calls else (),
        **(json.loads(answers) if answers else {}),
    )
    return Node(node_id, parent, message)


def _pack(ids: tuple[int, ...]) -> bytes:
    packed = array("i", ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpack(blob: bytes) -> tuple[int, ...]:
    packed = array("i")
    packed.frombytes(blob)
    if sys.byteorder == "big":
        packed.byteswap()
    return tuple(packed)


def conversation_of(record: SessionRecord, rows: list[tuple[Any, ...]]) -> Conversation:
    """The tree of a session's rows; answers that were cut off before their first word are left out."""
    nodes: dict[str, Node] = {}
    instead: dict[str, str | None] = {}  # what follows an empty answer follows its question
    for *values, streaming in rows:
        node = node_of(tuple(values), streaming=bool(streaming))
        parent = instead.get(node.parent, node.parent) if node.parent else None
        node = replace(node, parent=parent if parent in nodes else None)
        if streaming and not node.message.content and not node.message.tool_calls:
            instead[node.id] = node.parent
        else:
            nodes[node.id] = node
    leaf = instead.get(record.leaf, record.leaf) if record.leaf else None
    if leaf is not None and leaf not in nodes:
        leaf = next(reversed(nodes), None)
    return Conversation(record.system, leaf, MappingProxyType(nodes))
