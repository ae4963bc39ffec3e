"""Make messages of the results that the user gives for the model's function calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.core.conversation import Message
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.conversation import Conversation, ToolCall


def result_messages(conversation: Conversation, results: Sequence[str]) -> tuple[Message, ...]:
    """The messages for results that are given in the order of the pending calls.

    Raises:
        UsageError: there are more results than pending calls.
    """
    calls = conversation.pending_calls()
    if len(results) > len(calls):
        if not calls:
            raise UsageError("no function call is waiting for a result")
        waiting = "1 function call is" if len(calls) == 1 else f"{len(calls)} function calls are"
        raise UsageError(f"there are {len(results)} results, but only {waiting} waiting")
    return tuple(
        Message("tool", text, tool_call_id=call.id, name=call.name) for call, text in zip(calls, results, strict=False)
    )


def check_no_pending_calls(conversation: Conversation, way: str) -> None:
    """Refuse a question while function calls have no result: no prompt format can express that.

    Args:
        conversation: the conversation before the question.
        way: what the user types to give a result, for the hint.

    Raises:
        UsageError: a call has no result.
    """
    calls = conversation.pending_calls()
    if calls:
        raise UsageError(f"no result yet for {describe_calls(calls)}", hint=f"give it with `{way}`")


def describe_calls(calls: Sequence[ToolCall]) -> str:
    """The first call, and how many more there are."""
    more = f" and {len(calls) - 1} more" if len(calls) > 1 else ""
    return f"{calls[0].name}({calls[0].arguments}){more}"
