"""Which conversations a Mistral format refuses: the rules of mistral-common's validators. Knows no rendering."""

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


def check(messages: Sequence[Message], dialect: MistralVersion, continues: bool) -> None:
    """Refuse what mistral-common refuses of a conversation, before it is put in turns.

    Raises:
        DataError: names the message, counted from 1, and the rule.
    """
    check_values(messages)
    _check_ends(messages, continues)
    for number, (previous, message) in enumerate(pairwise(messages), 2):
        if message.role not in _FOLLOWERS[previous.role]:
            raise DataError(f"message {number}: a {message.role} message cannot follow one of the role {previous.role}")
    (_check_pairs if dialect.pairs_results else _check_counts)(messages)
    for number, message in enumerate(messages, 1):
        if message.role == "assistant":
            _check_answer(number, message, dialect)
        elif message.role == "tool":
            _check_result(number, message, dialect)


def check_values(messages: Sequence[Message]) -> None:
    """Refuse values that are no messages: unknown roles, texts that are no text, lone surrogates.

    Raises:
        DataError: names the message, counted from 1.
    """
    if not messages:
        raise DataError("a conversation needs at least one message")
    for number, message in enumerate(messages, 1):
        if message.role not in _FOLLOWERS:
            raise DataError(f"message {number}: unknown role {message.role!r}", hint="system, user, assistant, tool")
        texts = [message.content, message.tool_call_id, message.name]
        for call in message.tool_calls:
            texts += [call.name, call.arguments, call.id]
        for text in texts:
            check_text(text, f"message {number}")


def check_text(text: str, where: str) -> None:
    """Refuse what is no Unicode text.

    Raises:
        DataError: not a string, or with lone surrogates, which have no UTF-8.
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
    """Refuse conversations whose end asks for no answer.

    Raises:
        DataError: nothing to answer, or nothing to continue.
    """
    last = messages[-1].role
    if continues and last != "assistant":
        raise DataError(f"only an answer can be continued, and the last message has the role {last}")
    if last == "assistant" and not continues:
        raise DataError("the last message is an answer already", hint="add a user message, or continue the answer")


def _check_ends(messages: Sequence[Message], continues: bool) -> None:
    if len(messages) == 1 and messages[0].role not in ("user", "system"):
        raise DataError(f"a conversation cannot start with a message of the role {messages[0].role}")
    check_ending(messages, continues)


def _check_counts(messages: Sequence[Message]) -> None:
    """As many results as calls before the next answer; like the judge, it begins at the second message."""
    awaited = 0
    for number, message in enumerate(messages[1:], 2):
        if message.role == "tool":
            awaited -= 1
        elif message.role == "assistant":
            if awaited:
                raise DataError(f"message {number}: the tool results before it are not as many as the calls")
            awaited = len(message.tool_calls)


def _check_pairs(messages: Sequence[Message]) -> None:
    """Each result names a call that waits; like the judge, it begins at the second message."""
    awaited: set[str] = set()
    seen: set[str] = set()
    for number, message in enumerate(messages[1:], 2):
        if message.role == "tool":
            if message.tool_call_id in seen:
                raise DataError(f"message {number}: a second result for the call {message.tool_call_id!r}")
            if message.tool_call_id not in awaited:
                raise DataError(f"message {number}: result for a call {message.tool_call_id!r} that nobody made")
            seen.add(message.tool_call_id)
        elif message.role == "assistant":
            if len(awaited) != len(seen):
                raise DataError(f"message {number}: the tool results before it are not as many as the calls")
            awaited, seen = set(), set()
            for call in message.tool_calls:
                if call.id in awaited:
                    raise DataError(f"message {number}: two calls with the id {call.id!r}")
                awaited.add(call.id)


def _check_answer(number: int, message: Message, dialect: MistralVersion) -> None:
    said = bool(message.content or message.ids)
    if not dialect.answer_and_calls and said == bool(message.tool_calls) and not _is_calls_with_ids(message):
        fault = "an answer cannot hold both text and tool calls" if said else "an empty answer"
        raise DataError(f"message {number}: {fault}", hint="leave the message out" if not said else None)
    if message.tool_calls and dialect.calls == "none":
        raise DataError(f"message {number}: the prompt format {dialect.name} has no tool calls")
    for call in message.tool_calls:
        _check_call(number, call, dialect)


def _is_calls_with_ids(message: Message) -> bool:
    """An own answer of calls alone: its ids are the calls."""
    return bool(message.tool_calls and message.ids and not message.content)


def _check_call(number: int, call: ToolCall, dialect: MistralVersion) -> None:
    _check_call_id(number, call.id, dialect)
    _check_name(number, call.name)


def _check_result(number: int, message: Message, dialect: MistralVersion) -> None:
    if dialect.results == "none":
        raise DataError(f"message {number}: the prompt format {dialect.name} has no tool results")
    if message.name:
        _check_name(number, message.name)
    _check_call_id(number, message.tool_call_id, dialect)


def _check_name(number: int, name: str) -> None:
    if not NAME.match(name):
        raise DataError(f"message {number}: function name {name!r} is not 1 to 64 letters, digits, `_` or `-`")


def _check_call_id(number: int, call_id: str, dialect: MistralVersion) -> None:
    if is_call_id(call_id, dialect):
        return
    if dialect.call_ids == "nine":
        raise DataError(f"message {number}: tool call id {call_id!r} is not nine letters or digits")
    raise DataError(f"message {number}: tool call without an id")


def is_call_id(call_id: str, dialect: MistralVersion) -> bool:
    """Whether a format allows an id of a tool call."""
    if dialect.call_ids == "nine":
        return _CALL_ID.match(call_id) is not None
    return dialect.call_ids == "unchecked" or call_id not in ("", "null")
