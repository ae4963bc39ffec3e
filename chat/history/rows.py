"""Convert sessions and messages to rows of the tables, and rows back to a conversation."""

from __future__ import annotations

import json
import sys
from array import array
from contextlib import suppress
from dataclasses import replace
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, get_args

from chat.core.answer_details import AnswerDetails
from chat.core.conversation import Conversation, FinishReason, Message, Node, Picture, Role, ToolCall, stored_reason
from chat.history.records import SessionRecord
from chat.system.characters import whole_characters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SESSION_COLUMNS = (
    "id", "name", "title", "model", "model_path", "system", "settings", "created", "updated", "leaf",
)  # fmt: skip
NODE_COLUMNS = (
    "id", "parent", "role", "content", "calls", "answers", "ids", "finish_reason", "reasoning", "details", "pictures",
)  # fmt: skip
PICTURE_FIELDS = ("sha256", "media_type", "name", "place")  # of a node's picture
PICTURE_COLUMNS = ("sha256", "media_type", "data")
NodeValues = tuple[str, str | None, str, str, str, str, bytes, str | None, str, str, str]  # as `NODE_COLUMNS`


def session_values(record: SessionRecord) -> tuple[Any, ...]:
    """The record as a row, in the order of `SESSION_COLUMNS`."""
    values = {
        **{column: getattr(record, column) for column in SESSION_COLUMNS},
        "settings": settings_json(record.settings),
    }
    return tuple(whole_characters(value) if isinstance(value, str) else value for value in values.values())


def record_of(row: tuple[Any, ...]) -> SessionRecord:
    """The inverse of `session_values`; settings that cannot be read are empty, and so is what a torn file holds."""
    values: dict[str, Any] = {name: _value_of(name, value) for name, value in zip(SESSION_COLUMNS, row, strict=True)}
    try:
        settings = json.loads(values.pop("settings"))
    except (ValueError, TypeError, RecursionError):
        settings = {}
    return SessionRecord(**values, settings=settings if isinstance(settings, dict) else {})


def _value_of(column: str, value: Any) -> str | float | None:
    """The value of a session's column with the type that it should have."""
    if column in ("created", "updated"):
        return time_of(value)
    if value is None:
        return None if column in ("name", "system", "leaf") else ""
    return text_of(value)


def text_of(value: Any) -> str:
    """The value of a column as the text that it should be; a damaged row may hold bytes or a number."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def time_of(value: Any) -> float:
    """The value of a column as the time that it should be; 0 for another one of a damaged row."""
    return value if isinstance(value, float) and isfinite(value) else 0.0


def settings_json(settings: Mapping[str, Any]) -> str:
    """The settings as JSON text for their column."""
    return whole_characters(json.dumps(dict(settings), ensure_ascii=False, default=str))


def node_values(node: Node) -> NodeValues:
    """The node as a row, in the order of `NODE_COLUMNS`."""
    message = node.message
    calls = [{"name": call.name, "arguments": call.arguments, "id": call.id} for call in message.tool_calls]
    answers = {key: value for key in ("tool_call_id", "name") if (value := getattr(message, key))}
    return (
        node.id,
        node.parent,
        message.role,
        whole_characters(message.content),
        whole_characters(json.dumps(calls, ensure_ascii=False)) if calls else "",
        whole_characters(json.dumps(answers, ensure_ascii=False)) if answers else "",
        _pack(message.ids),
        stored_reason(message.finish_reason),
        whole_characters(message.reasoning),
        whole_characters(json.dumps(node.details.to_json(), ensure_ascii=False, default=str)) if node.details else "",
        _pictures_json(message.pictures),
    )


def _pictures_json(pictures: tuple[Picture, ...]) -> str:
    """The pictures without their bytes, which are in a table of their own; empty for none."""
    plain = [{name: getattr(each, name) for name in PICTURE_FIELDS} for each in pictures]
    return whole_characters(json.dumps(plain, ensure_ascii=False)) if plain else ""


def picture_values(nodes: Iterable[Node]) -> Iterator[tuple[str, str, bytes]]:
    """The pictures of nodes as rows, in the order of `PICTURE_COLUMNS`."""
    for picture in (picture for node in nodes for picture in node.message.pictures):
        if picture.data:
            yield picture.sha256, whole_characters(picture.media_type), picture.data


def picture_hashes(rows: Iterable[tuple[Any, ...]]) -> set[str]:
    """The hashes of the pictures in rows of nodes; what cannot be read is left out."""
    found: set[str] = set()
    for row in rows:
        with suppress(ValueError, TypeError, KeyError):
            found |= {picture.sha256 for picture in _pictures_of(row[NODE_COLUMNS.index("pictures")])}
    return found


def node_of(row: tuple[Any, ...], *, streaming: bool = False, data: Mapping[str, bytes] = MappingProxyType({})) -> Node:
    """The inverse of `node_values`.

    Args:
        row: values in the order of `NODE_COLUMNS`.
        streaming: the answer was not complete when it was stored last, so it is interrupted.
        data: the bytes of pictures, by their hashes.

    Raises:
        ValueError, TypeError, KeyError: the row is damaged.
    """
    node_id, parent, role, content, calls, answers, ids, finish_reason, reasoning, details, pictures = row
    texts = (content, node_id, reasoning)
    if role not in get_args(Role) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{role!r} is not a role, or the message is not a text")
    if finish_reason not in (*get_args(FinishReason), None):
        raise ValueError(f"{finish_reason!r} is not a finish reason")
    message = Message(
        role=cast("Role", role),
        content=content,
        ids=_unpack(ids),
        finish_reason=cast("FinishReason | None", "interrupted" if streaming else finish_reason),
        tool_calls=tuple(ToolCall(**call) for call in json.loads(calls)) if calls else (),
        reasoning=reasoning,
        pictures=tuple(replace(each, data=data.get(each.sha256, b"")) for each in _pictures_of(pictures)),
        **(json.loads(answers) if answers else {}),
    )
    return Node(node_id, parent, message, _details_of(details))


def _pictures_of(text: str) -> tuple[Picture, ...]:
    pictures = tuple(Picture(**plain) for plain in json.loads(text)) if text else ()
    if not all(
        isinstance(each.sha256, str) and isinstance(each.name, str) and type(each.place) is int for each in pictures
    ):
        raise TypeError("a picture has no hash, name and place")
    return pictures


def _details_of(text: str) -> AnswerDetails | None:
    """The details of an answer; None where there are none, or where they cannot be read: the answer counts more."""
    try:
        return AnswerDetails.from_json(json.loads(text)) if text else None
    except (ValueError, TypeError, RecursionError):
        return None


def conversation_of(
    record: SessionRecord, rows: list[tuple[Any, ...]], data: Mapping[str, bytes] = MappingProxyType({})
) -> Conversation:
    """The tree of a session.

    An answer that was interrupted before its first word is left out; what follows it then follows its question.

    Args:
        record: the session.
        rows: values in the order of `NODE_COLUMNS`, then `streaming`; in the order in which they were stored.
        data: the bytes of pictures, by their hashes.
    """
    nodes: dict[str, Node] = {}
    replaced: dict[str, str | None] = {}  # id of an empty answer -> id of its question
    for *values, streaming in rows:
        node = node_of(tuple(values), streaming=bool(streaming), data=data)
        parent = replaced.get(node.parent, node.parent) if node.parent else None
        node = replace(node, parent=parent if parent in nodes else None)
        message = node.message
        if streaming and not (message.content or message.reasoning or message.tool_calls):
            replaced[node.id] = node.parent
        else:
            nodes[node.id] = node
    leaf = replaced.get(record.leaf, record.leaf) if record.leaf else None
    if leaf is not None and leaf not in nodes:
        leaf = next(reversed(nodes), None)
    return Conversation(record.system, leaf, MappingProxyType(nodes))


def _pack(ids: tuple[int, ...]) -> bytes:
    """The ids as little-endian 32-bit integers."""
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
