"""Refuse conversations that a prompt format cannot render; for Mistral's formats by mistral-common's rules."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from chat.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.conversation import Message, ToolCall
    from chat.prompts.mistral_versions import MistralVersion

_FOLLOWERS = {
    "system": {"user", "assistant", "system"},
    "user": {"user", "assistant", "system"},
    "assistant": {"assistant", "user", "tool"},
    "tool": {"assistant", "tool", "user"},
}
# As in mistral-common: `$` lets one line break at the end through
NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
_CALL_ID = re.compile(r"^[a-zA-Z0-9]{9}$")


def check(messages: Sequence[Message], version: MistralVersion, continues: bool) -> None:
    """Refuse a conversation that mistral-common refuses.

    Raises:
        DataError: names the message, counted from 1, and the rule.
    """
    check_values(messages)
    _check_ends(messages, continues)
    for number, (previous, message) in enumerate(pairwise(messages), 2):
        if message.role not in _FOLLOWERS[previous.role]:
            raise DataError(f"message {number}: a {message.role} message cannot follow one of the role {previous.role}")
    (_check_pairs if version.pairs_results else _check_counts)(messages)
    for number, message in enumerate(messages, 1):
        if message.role == "assistant":
            _check_answer(number, message, version)
        elif message.role == "tool":
            _check_result(number, message, version)


def check_values(messages: Sequence[Message]) -> None:
    """Refuse messages of an unknown role, or whose texts are not Unicode text.

    Raises:
        DataError: names the message, counted from 1.
    """
    if not messages:
        raise DataError("a conversation needs at least one message")
    for number, message in enumerate(messages, 1):
        if message.role not in _FOLLOWERS:
            raise DataError(f"message {number}: unknown role {message.role!r}", hint="system, user, assistant, tool")
        texts = [message.content, message.reasoning, message.tool_call_id, message.name]
        for call in message.tool_calls:
            texts += [call.name, call.arguments, call.id]
        for text in texts:
            check_text(text, f"message {number}")


def check_text(text: str, where: str) -> None:
    """Refuse what is not Unicode text.

    Args:
        text: to be checked.
        where: names it in the error.

    Raises:
        DataError: it is not a string, or has lone surrogates, which have no UTF-8.
    """
    if not isinstance(text, str):
        raise DataError(f"{where}: text expected, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: lone surrogate U+{ord(text[error.start]):04X} at character {error.start + 1}",
            hint="the text was decoded from something that is not UTF-8",
        ) from error


def check_ending(messages: Sequence[Message], continues: bool) -> None:
    """Refuse a conversation whose end asks for no answer.

    Raises:
        DataError: there is nothing to answer, or nothing to continue.
    """
    last = messages[-1].role
    if continues and last != "assistant":
        raise DataError(f"only an answer can be continued, and the last message has the role {last}")
    if last == "assistant" and not continues:
        raise DataError("the last message is an answer already", hint="add a user message, or continue the answer")


def check_plain(messages: Sequence[Message]) -> None:
    """Refuse what formats without tools cannot render, and empty answers.

    Raises:
        DataError: names the message, counted from 1.
    """
    for number, message in enumerate(messages, 1):
        if message.role == "tool" or message.tool_calls:
            raise DataError(f"message {number}: this prompt format has no tool calls or results")
        if message.role == "assistant" and not (message.content or message.reasoning or message.ids):
            raise DataError(f"message {number}: an empty answer", hint="leave the message out")


def _check_ends(messages: Sequence[Message], continues: bool) -> None:
    if len(messages) == 1 and messages[0].role not in ("user", "system"):
        raise DataError(f"a conversation cannot start with a message of the role {messages[0].role}")
    check_ending(messages, continues)


def _check_counts(messages: Sequence[Message]) -> None:
    """Refuse an answer after more or fewer results than calls; like mistral-common's, from the second message on."""
    pending = 0
    for number, message in enumerate(messages[1:], 2):
        if message.role == "tool":
            pending -= 1
        elif message.role == "assistant":
            if pending:
                raise DataError(f"message {number}: the tool results before it are not as many as the calls")
            pending = len(message.tool_calls)


def _check_pairs(messages: Sequence[Message]) -> None:
    """Refuse a result for no waiting call; like mistral-common's check, from the second message on."""
    pending: set[str] = set()
    seen: set[str] = set()
    for number, message in enumerate(messages[1:], 2):
        if message.role == "tool":
            if message.tool_call_id in seen:
                raise DataError(f"message {number}: a second result for the call {message.tool_call_id!r}")
            if message.tool_call_id not in pending:
                raise DataError(f"message {number}: no call {message.tool_call_id!r} is waiting for this result")
            seen.add(message.tool_call_id)
        elif message.role == "assistant":
            if len(pending) != len(seen):
                raise DataError(f"message {number}: the tool results before it are not as many as the calls")
            pending, seen = set(), set()
            for call in message.tool_calls:
                if call.id in pending:
                    raise DataError(f"message {number}: two calls with the id {call.id!r}")
                pending.add(call.id)


def _check_answer(number: int, message: Message, version: MistralVersion) -> None:
    has_text = bool(message.content or message.ids)
    if not version.answer_and_calls and has_text == bool(message.tool_calls) and not _is_calls_with_ids(message):
        fault = "an answer cannot hold both text and tool calls" if has_text else "an empty answer"
        raise DataError(f"message {number}: {fault}", hint="leave the message out" if not has_text else None)
    if message.tool_calls and version.calls == "none":
        raise DataError(f"message {number}: the prompt format {version.name} has no tool calls")
    for call in message.tool_calls:
        _check_call(number, call, version)


def _is_calls_with_ids(message: Message) -> bool:
    """Whether a generated answer holds calls alone: its ids are the calls."""
    return bool(message.tool_calls and message.ids and not message.content)


def _check_call(number: int, call: ToolCall, version: MistralVersion) -> None:
    _check_call_id(number, call.id, version)
    _check_name(number, call.name)


def _check_result(number: int, message: Message, version: MistralVersion) -> None:
    if version.results == "none":
        raise DataError(f"message {number}: the prompt format {version.name} has no tool results")
    if message.name:
        _check_name(number, message.name)
    _check_call_id(number, message.tool_call_id, version)


def _check_name(number: int, name: str) -> None:
    if not NAME.match(name):
        raise DataError(f"message {number}: function name {name!r} is not 1 to 64 letters, digits, `_` or `-`")


def _check_call_id(number: int, call_id: str, version: MistralVersion) -> None:
    if is_call_id(call_id, version):
        return
    if version.call_ids == "nine":
        raise DataError(f"message {number}: tool call id {call_id!r} is not nine letters or digits")
    raise DataError(f"message {number}: tool call without an id")


def is_call_id(call_id: str, version: MistralVersion) -> bool:
    """Whether a format allows a tool call to have this id."""
    if version.call_ids == "nine":
        return _CALL_ID.match(call_id) is not None
    return version.call_ids == "unchecked" or call_id not in ("", "null")
