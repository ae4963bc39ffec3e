"""Convert a session with its whole tree to JSON text and back."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, cast, get_args

from chat.core.answer_details import AnswerDetails
from chat.core.conversation import (
    PICTURE_TYPES,
    STORED_REASONS,
    Conversation,
    FinishReason,
    Message,
    Node,
    Picture,
    Role,
    ToolCall,
)
from chat.core.token_ids import MAX_TOKEN_ID
from chat.errors import DataError
from chat.history.records import SessionRecord
from chat.system.characters import whole_characters
from chat.system.terminal_text import escape_line

FORMAT = "mistral-chat session"
VERSION = 1
EXPORT_HINT = "`mistral-chat sessions export SESSION -o FILE.json` writes one"
_SHA256 = re.compile("[0-9a-f]{64}")
# JSON allows these line ends in strings, but programs that read line by line split there.
_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


def to_json(record: SessionRecord, conversation: Conversation) -> str:
    """The session as JSON text; `from_json` is the inverse, but drops the id and the model's file."""
    return json.dumps(_plain(record, conversation), ensure_ascii=False, indent=1, default=str) + "\n"


def to_json_line(record: SessionRecord, conversation: Conversation) -> str:
    """Like `to_json`, on one line of JSON Lines."""
    return one_line(_plain(record, conversation))


def one_line(plain: object) -> str:
    """A value as a line of JSON Lines, in which no program that reads line by line finds another line's end."""
    return json.dumps(plain, ensure_ascii=False, default=str).translate(_LINE_ENDS) + "\n"


def _plain(record: SessionRecord, conversation: Conversation) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "id": record.id,
        "name": record.name,
        "title": record.title,
        "model": record.model,
        **({"model_path": record.model_path} if record.model_path else {}),
        "system": conversation.system,
        "settings": dict(record.settings),
        "created": iso_time(record.created),
        "updated": iso_time(record.updated),
        "leaf": conversation.leaf,
        "nodes": [
            {
                "id": node.id,
                "parent": node.parent,
                **node.message.to_json(),
                **({"details": node.details.to_json()} if node.details else {}),
            }
            for node in conversation.nodes.values()
        ],
    }


def from_json(text: str) -> tuple[SessionRecord, Conversation]:
    """Read what `to_json` wrote.

    Returns:
        The record, without an id and the model's file, and the conversation. The record's name may be another
        session's now; a time that cannot be read is 0.

    Raises:
        DataError: the text is not an exported session; the message says where and why.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is not JSON: {error}") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise DataError("this is JSON, but not an exported session", hint=EXPORT_HINT)
    if plain.get("version") != VERSION:
        raise DataError(
            f"version {plain.get('version')!r} of the session format is not known; this program reads {VERSION}"
        )
    nodes: dict[str, Node] = {}
    for number, item in enumerate(_typed(plain, "nodes", list, "")):
        node = _node(item, nodes, f"nodes[{number}]")
        nodes[node.id] = node
    leaf = _text(plain, "leaf", "") or None
    if leaf is not None and leaf not in nodes:
        raise DataError(f"leaf: there is no node `{escape_line(leaf)}`")
    record = SessionRecord(
        id="",
        name=_text(plain, "name", "") or None,
        title=_text(plain, "title", ""),
        model=_text(plain, "model", ""),
        system=None if plain.get("system") is None else _text(plain, "system", ""),
        settings=_typed(plain, "settings", dict, ""),
        created=_seconds(plain.get("created")),
        updated=_seconds(plain.get("updated")),
        leaf=leaf,
    )
    return record, Conversation(record.system, leaf, MappingProxyType(nodes))


def is_json_lines(text: str) -> bool:
    """Whether a text has several lines of which one holds a whole session, as `to_json_line` writes them."""
    lines = [line for line in text.split("\n") if line.strip()]
    return len(lines) > 1 and any(_is_session(line) for line in lines)


def _is_session(line: str) -> bool:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(plain, dict) and plain.get("format") == FORMAT


def iso_time(seconds: float) -> str:
    """A time in seconds since 1970 as ISO 8601 in UTC; empty if a damaged history has an impossible value."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError, TypeError):
        return ""


def _seconds(text: object) -> float:
    """The inverse of `iso_time`; 0 for anything else."""
    try:
        return max(0.0, datetime.fromisoformat(str(text)).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0.0


def _node(item: object, nodes: dict[str, Node], where: str) -> Node:
    if not isinstance(item, dict):
        raise DataError(f"{where}: not an object")
    node_id, parent = _text(item, "id", where), _text(item, "parent", where) or None
    if not node_id or node_id in nodes:
        raise DataError(f"{where}.id: `{escape_line(node_id)}` is empty or used twice")
    if parent is not None and parent not in nodes:
        raise DataError(f"{where}.parent: no earlier node is `{escape_line(parent)}`")
    return Node(node_id, parent, _message(item, where), _details(item, where))


def _details(item: dict[str, Any], where: str) -> AnswerDetails | None:
    try:
        return AnswerDetails.from_json(item["details"]) if item.get("details") is not None else None
    except ValueError as error:
        raise DataError(f"{where}.details: {error}") from error


def _message(item: dict[str, Any], where: str) -> Message:
    role, finish_reason = item.get("role"), item.get("finish_reason")
    if role not in get_args(Role):
        raise DataError(f"{where}.role: {role!r} is not one of {', '.join(get_args(Role))}")
    if finish_reason not in (*STORED_REASONS, None):
        raise DataError(f"{where}.finish_reason: {finish_reason!r} is not one of {', '.join(STORED_REASONS)}")
    if not isinstance(item.get("content"), str):
        raise DataError(f"{where}.content: not a text")
    ids = tuple(_typed(item, "ids", list, where))
    if not all(type(token_id) is int and 0 <= token_id <= MAX_TOKEN_ID for token_id in ids):
        raise DataError(f"{where}.ids: not a list of token ids")
    return Message(
        role=cast("Role", role),
        content=_text(item, "content", where),
        ids=ids,
        finish_reason=cast("FinishReason | None", finish_reason),
        tool_calls=tuple(_call(call, f"{where}.tool_calls") for call in _typed(item, "tool_calls", list, where)),
        tool_call_id=_text(item, "tool_call_id", where),
        name=_text(item, "name", where),
        reasoning=_text(item, "reasoning", where),
        pictures=tuple(
            _picture(each, f"{where}.pictures[{number}]")
            for number, each in enumerate(_typed(item, "pictures", list, where))
        ),
    )


def _picture(item: object, where: str) -> Picture:
    """A picture whose file is in the export, or was lost before."""
    if not isinstance(item, dict):
        raise DataError(f"{where}: not an object")
    media_type, place = _text(item, "media_type", where), item.get("place", 0)
    if media_type not in PICTURE_TYPES:
        raise DataError(f"{where}.media_type: `{escape_line(media_type)}` is not one of {', '.join(PICTURE_TYPES)}")
    if type(place) is not int or place < 0:
        raise DataError(f"{where}.place: not a number of characters")
    try:
        data = base64.b64decode(_text(item, "data", where), validate=True)
    except ValueError as error:
        raise DataError(f"{where}.data: not base64") from error
    sha256 = _text(item, "sha256", where)
    if not _SHA256.fullmatch(sha256) or (data and hashlib.sha256(data).hexdigest() != sha256):
        raise DataError(f"{where}.sha256: is not the hash of its data")
    return Picture(sha256, media_type, _text(item, "name", where), place, data)


def _call(call: object, where: str) -> ToolCall:
    if not isinstance(call, dict):
        raise DataError(f"{where}: not a list of objects")
    return ToolCall(_text(call, "name", where), _text(call, "arguments", where), _text(call, "id", where))


def _text(item: dict[str, Any], key: str, where: str) -> str:
    """The text under `key`; empty where there is none."""
    value = item.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{_field(where, key)}: not a text")
    return whole_characters(value)


def _typed(item: dict[str, Any], key: str, kind: type, where: str) -> Any:
    """The list or object under `key`; empty where there is none."""
    value = item.get(key)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise DataError(f"{_field(where, key)}: not {'a list' if kind is list else 'an object'}")
    return value


def _field(where: str, key: str) -> str:
    """The name of a field in an error."""
    return f"{where}.{key}" if where else key
