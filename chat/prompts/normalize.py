"""Merge messages into turns, as mistral-common normalizes a request."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chat.core.conversation import Message, Role, ToolCall
    from chat.prompts.mistral_versions import MistralVersion

_JOIN = "\n\n"


@dataclass(frozen=True)
class NormalizedTurn:
    """Consecutive messages of one role, as one; tool results and system messages stay single.

    Attributes:
        ids: those that the model generated, where the turn is a single answer.
        calls: of an answer.
        call_id: of a tool result.
        name: the tool's, of a tool result.
    """

    role: Role
    content: str = ""
    ids: tuple[int, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""


def normalize(messages: Sequence[Message], version: MistralVersion) -> tuple[str, tuple[NormalizedTurn, ...]]:
    """The system prompt that a format writes into a user message, "" for none, and the turns."""
    apart = version.system == "apart"
    turns: list[NormalizedTurn] = []
    pending: list[str] = []  # ids of the calls since the last results
    for role, group in groupby(messages, key=lambda message: message.role):
        same = tuple(group)
        if role == "tool":
            results = [_single(message) for message in same]
            turns += _ordered_by_calls(results, pending) if version.pairs_results else results
            pending.clear()
        elif role == "system":
            turns += [_single(message) for message in same] if apart else []
        else:
            turns.append(_merged(role, same))
            pending += [call.id for call in turns[-1].calls]
    if not turns or (not apart and turns[0].role != "user"):
        turns.insert(0, NormalizedTurn("user"))
    system = "" if apart else _joined(message.content for message in messages if message.role == "system")
    return system, tuple(turns)


def _joined(texts: Iterable[str]) -> str:
    return _JOIN.join(text for text in texts if text)


def _single(message: Message) -> NormalizedTurn:
    return NormalizedTurn(message.role, message.content, call_id=message.tool_call_id, name=message.name)


def _merged(role: Role, messages: tuple[Message, ...]) -> NormalizedTurn:
    calls = tuple(call for message in messages for call in message.tool_calls)
    non_empty = [message for message in messages if message.content or message.ids or message.tool_calls]
    ids = non_empty[0].ids if len(non_empty) == 1 else ()
    return NormalizedTurn(role, _joined(message.content for message in messages), ids, calls)


def _ordered_by_calls(results: list[NormalizedTurn], call_ids: list[str]) -> list[NormalizedTurn]:
    position = {call_id: index for index, call_id in enumerate(call_ids)}
    arrival = {turn.call_id: index for index, turn in enumerate(results)}
    return sorted(results, key=lambda turn: (position.get(turn.call_id, len(position)), arrival[turn.call_id]))
