"""Give function calls of the last answer their results, as messages. Knows conversations, not who runs functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.core.conversation import Message
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.conversation import Conversation, ToolCall


def result_messages(conversation: Conversation, results: Sequence[str]) -> tuple[Message, ...]:
    """The messages of results that were given in the order of the calls.

    Raises:
        UsageError: more results than calls that wait for one.
    """
    calls = conversation.waiting_calls()
    if len(results) > len(calls):
        raise UsageError(f"results given: {len(results)}, function calls that wait for one: {len(calls)}")
    return tuple(
        Message("tool", text, tool_call_id=call.id, name=call.name) for call, text in zip(calls, results, strict=False)
    )


def check_nothing_waits(conversation: Conversation, way: str) -> None:
    """Refuse to go on without the results that the last answer asked for: no prompt format could tell it.

    Args:
        way: how a result is given.

    Raises:
        UsageError: a call waits.
    """
    calls = conversation.waiting_calls()
    if calls:
        raise UsageError(f"{words_of(calls)} waits for a result", hint=f"`{way}` gives it")


def words_of(calls: Sequence[ToolCall]) -> str:
    """The next call in words, and how many there are."""
    more = f" and {len(calls) - 1} more" if len(calls) > 1 else ""
    return f"{calls[0].name}({calls[0].arguments}){more}"
