"""Read the messages of one record, as OpenAI's clients write them, tool talk included. Knows no prompts."""

from __future__ import annotations

import json
from typing import Any

from chat.core.conversation import Conversation, Message, ToolCall
from chat.errors import DataError

ROLES = ("system", "user", "assistant", "tool")
KEYS = frozenset({"role", "content", "tool_calls", "tool_call_id", "name"})


def conversation_of(messages: Any, system: str | None, number: int) -> Conversation:
    """The conversation of a list of messages.

    Args:
        system: the system prompt where the list begins with none.
        number: of the line, for errors.

    Raises:
        DataError: a message is not what its role needs.
    """
    if not isinstance(messages, list) or not messages:
        raise DataError(f"line {number}: `messages` needs a list of messages")
    conversation = Conversation(system)
    for place, each in enumerate(messages, 1):
        message = _message(each, f"line {number}, message {place}")
        if message.role == "system" and not conversation.nodes:
            conversation = conversation.with_system(message.content)
        else:
            conversation = conversation.add(message)
    return conversation


def _message(plain: Any, where: str) -> Message:
    if not isinstance(plain, dict) or plain.get("role") not in ROLES:
        raise DataError(f"{where}: needs a `role` ({', '.join(ROLES)}) and a `content` text")
    if unknown := sorted(key for key in plain.keys() - KEYS if plain[key] not in (None, [], {})):
        raise DataError(f"{where}: unknown key `{unknown[0]}`")
    role = plain["role"]
    calls = tuple(_call(each, where) for each in _list(plain.get("tool_calls"), f"{where}: `tool_calls`"))
    if calls and role != "assistant":
        raise DataError(f"{where}: only an assistant calls tools")
    content = plain.get("content")
    if content is None and calls:
        content = ""
    if role == "tool" and not isinstance(content, str) and content is not None:
        content = json.dumps(content, ensure_ascii=False)
    if not isinstance(content, str):
        raise DataError(f"{where}: `content` needs a text")
    call_id, name = (_text(plain, key, where) for key in ("tool_call_id", "name"))
    return Message(role, content, tool_calls=calls, tool_call_id=call_id, name=name)


def _call(plain: Any, where: str) -> ToolCall:
    """A call, flat as `--json` reports it or with its `function` apart as OpenAI has it."""
    if not isinstance(plain, dict):
        raise DataError(f"{where}: a tool call needs an object")
    function = plain.get("function", plain)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"{where}: a tool call needs the `name` of a function")
    arguments = function.get("arguments", "{}")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(function["name"], arguments, _text(plain, "id", where))


def _text(plain: dict[str, Any], key: str, where: str) -> str:
    value = plain.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: `{key}` needs a text")
    return value or ""


def _list(value: Any, where: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise DataError(f"{where} needs a list")
    return value or []
