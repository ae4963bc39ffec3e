"""Merge messages into turns, as mistral-common normalizes a request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from chat.core.conversation import Picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chat.core.conversation import Message, Role, ToolCall
    from chat.prompts.mistral_versions import MistralVersion

_JOIN = "\n\n"
_THOUGHT = re.compile(r"\[THINK\](.*?)\[/THINK\]", re.DOTALL)


def sendable(messages: Sequence[Message], version: MistralVersion) -> Sequence[Message]:
    """The messages without the answers that hold only reasoning, where a format has no place for it."""
    if version.thinks:
        return messages
    return [message for message in messages if not message.reasoning or message.content or message.tool_calls]


@dataclass(frozen=True)
class Thought:
    """Reasoning within an answer or a system prompt.

    Attributes:
        text: without the marks around it.
        is_closed: whether it is complete.
    """

    text: str
    is_closed: bool = True


Chunk = str | Thought | Picture


@dataclass(frozen=True)
class NormalizedTurn:
    """Consecutive messages of one role, as one; tool results and system messages stay single.

    Attributes:
        content: its text, without reasoning.
        chunks: of a turn with reasoning or pictures, these and the texts in their order; else empty.
        ids: those that the model generated, where the turn is a single answer.
        calls: of an answer.
        call_id: of a tool result.
        name: the tool's, of a tool result.
    """

    role: Role
    content: str = ""
    chunks: tuple[Chunk, ...] = ()
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
            turns += [_single(message, thinks=version.system_thinks) for message in same] if apart else []
        else:
            turns.append(_merged(role, same, version))
            pending += [call.id for call in turns[-1].calls]
    if not turns or (not apart and turns[0].role != "user"):
        turns.insert(0, NormalizedTurn("user"))
    system = "" if apart else _joined(message.content for message in messages if message.role == "system")
    return system, tuple(turns)


def _joined(texts: Iterable[str]) -> str:
    return _JOIN.join(text for text in texts if text)


def _single(message: Message, *, thinks: bool = False) -> NormalizedTurn:
    chunks = _marked_chunks(message.content) if thinks else ()
    return NormalizedTurn(message.role, message.content, chunks, call_id=message.tool_call_id, name=message.name)


def _marked_chunks(text: str) -> tuple[Chunk, ...]:
    """The chunks of a system prompt that marks reasoning by the names of its control pieces; empty without marks."""
    parts = _THOUGHT.split(text)  # text, thought, text, ... text
    if len(parts) == 1:
        return ()
    return tuple(Thought(part) if number % 2 else part for number, part in enumerate(parts) if number % 2 or part)


def _merged(role: Role, messages: tuple[Message, ...], version: MistralVersion) -> NormalizedTurn:
    calls = tuple(call for message in messages for call in message.tool_calls)
    if any(message.pictures for message in messages):
        return NormalizedTurn(role, chunks=_picture_chunks(messages))
    non_empty = [each for each in messages if each.content or each.reasoning or each.ids or each.tool_calls]
    single = non_empty[0] if len(non_empty) == 1 else None
    ids = single.ids if single is not None and (version.thinks or not single.reasoning) else ()
    chunks = _chunks(messages) if version.thinks and any(message.reasoning for message in messages) else ()
    return NormalizedTurn(role, _joined(message.content for message in messages), chunks, ids, calls)


def _picture_chunks(messages: tuple[Message, ...]) -> tuple[Chunk, ...]:
    """The pictures and the texts of questions; texts without a picture between them are joined.

    A picture after the only text is put before it, as mistral-common does.
    """
    chunks: list[Chunk] = []
    for part in (part for message in messages for part in message.parts()):
        if isinstance(part, str) and chunks and isinstance(chunks[-1], str):
            chunks[-1] += _JOIN + part
        else:
            chunks.append(part)
    if len(chunks) == 2 and isinstance(chunks[0], str):
        chunks.reverse()
    return tuple(chunks)


def _chunks(messages: tuple[Message, ...]) -> tuple[Chunk, ...]:
    """The reasoning and the texts of answers; texts without reasoning between them are joined."""
    chunks: list[Chunk] = []
    for message in messages:
        if message.reasoning:
            chunks.append(Thought(message.reasoning, not message.is_unfinished_reasoning))
        if message.content and chunks and isinstance(chunks[-1], str):
            chunks[-1] += _JOIN + message.content
        elif message.content:
            chunks.append(message.content)
    return tuple(chunks)


def _ordered_by_calls(results: list[NormalizedTurn], call_ids: list[str]) -> list[NormalizedTurn]:
    position = {call_id: index for index, call_id in enumerate(call_ids)}
    arrival = {turn.call_id: index for index, turn in enumerate(results)}
    return sorted(results, key=lambda turn: (position.get(turn.call_id, len(position)), arrival[turn.call_id]))
