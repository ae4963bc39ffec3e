"""Render conversations in formats that fine-tunes brought along, and as plain text. Knows no vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import DataError
from chat.prompts.segments import Control, Ids, Mark, Segment, Text
from chat.prompts.validate import check_ending, check_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chat.core.conversation import Message

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"


def chatml(messages: Sequence[Message], continues: bool) -> tuple[Segment, ...]:
    """ChatML: `<|im_start|>role`, text, `<|im_end|>`.

    Raises:
        DataError: tool talk, an empty answer, or an end that asks for no answer.
    """
    return _framed(
        messages,
        continues,
        lambda role: (Control(IM_START, or_text=True), Text(f"{role}\n", joined=True)),
        Control(IM_END, or_text=True),
    )


def zephyr(messages: Sequence[Message], continues: bool) -> tuple[Segment, ...]:
    """Zephyr: `<|role|>`, text, EOS, each on lines of its own.

    Raises:
        DataError: tool talk, an empty answer, or an end that asks for no answer.
    """
    return _framed(
        messages,
        continues,
        lambda role: (Control(f"<|{role}|>", or_text=True), Text("\n", joined=True)),
        Mark("eos"),
    )


def _framed(
    messages: Sequence[Message], continues: bool, begin: Callable[[str], tuple[Segment, ...]], end: Segment
) -> tuple[Segment, ...]:
    """Each message between what begins its role and an end with a line break; the last may go on instead."""
    check_values(messages)
    check_ending(messages, continues)
    refuse_tool_talk(messages)
    segments: list[Segment] = [Mark("bos")]
    for message in messages:
        segments += [*begin(message.role), *_body(message), end, Text("\n", joined=True)]
    return tuple(segments[:-2]) if continues else (*segments, *begin("assistant"))


def raw(messages: Sequence[Message], continues: bool) -> tuple[Segment, ...]:
    """No format: the texts one after the other with a blank line between, for a base model to go on with.

    Raises:
        DataError: tool talk or an empty answer.
    """
    check_values(messages)
    refuse_tool_talk(messages)
    segments: list[Segment] = [Mark("bos")]
    for index, message in enumerate(messages):
        segments += _body(message)
        segments += [Text("\n\n", joined=True)] if index < len(messages) - 1 else []
    return tuple(segments)


def refuse_tool_talk(messages: Sequence[Message]) -> None:
    """Refuse what formats without tools have no words for, and empty answers.

    Raises:
        DataError: names the message, counted from 1.
    """
    for number, message in enumerate(messages, 1):
        if message.role == "tool" or message.tool_calls:
            raise DataError(f"message {number}: this prompt format has no tool calls or results")
        if message.role == "assistant" and not (message.content or message.ids):
            raise DataError(f"message {number}: an empty answer", hint="leave the message out")


def _body(message: Message) -> Iterator[Segment]:
    text = Text(message.content, joined=True)
    yield Ids(message.ids, (message.content,), (text,)) if message.ids else text
