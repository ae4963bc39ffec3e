"""Render prompts in the formats of fine-tunes (ChatML, Zephyr) and as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.prompts.segments import Control, Mark, Segment, Text, joined_content
from chat.prompts.validate import check_ending, check_plain, check_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.prompts.segments import PromptMessages

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"


def render_chatml(prompt: PromptMessages) -> tuple[Segment, ...]:
    """ChatML: `<|im_start|>role`, text, `<|im_end|>`.

    Raises:
        DataError: tool calls or results, an empty answer, or an end that asks for no answer.
    """
    return _framed(
        prompt,
        lambda role: (Control(IM_START, or_text=True), Text(f"{role}\n", joined=True)),
        Control(IM_END, or_text=True),
    )


def render_zephyr(prompt: PromptMessages) -> tuple[Segment, ...]:
    """Zephyr: `<|role|>`, text, EOS, each on a line of its own.

    Raises:
        DataError: tool calls or results, an empty answer, or an end that asks for no answer.
    """
    return _framed(
        prompt,
        lambda role: (Control(f"<|{role}|>", or_text=True), Text("\n", joined=True)),
        Mark("eos"),
    )


def render_raw(prompt: PromptMessages) -> tuple[Segment, ...]:
    """No format: the texts one after the other with a blank line between, for a base model to continue.

    Raises:
        DataError: tool calls or results, or an empty answer.
    """
    check_values(prompt.messages)
    check_plain(prompt.messages)
    segments: list[Segment] = [Mark("bos")]
    for number, message in enumerate(prompt.messages):
        segments += [Text("\n\n", joined=True)] if number else []
        segments.append(joined_content(message, prompt.continues and number == len(prompt.messages) - 1))
    return tuple(segments)


def _framed(prompt: PromptMessages, begin: Callable[[str], tuple[Segment, ...]], end: Segment) -> tuple[Segment, ...]:
    """Each message between the segments that begin its role, and an end with a line break.

    An answer that is continued has no end; otherwise the beginning of the assistant's role follows.
    """
    check_values(prompt.messages)
    check_ending(prompt.messages, prompt.continues)
    check_plain(prompt.messages)
    segments: list[Segment] = [Mark("bos")]
    for number, message in enumerate(prompt.messages, 1):
        continues = prompt.continues and number == len(prompt.messages)
        segments += [*begin(message.role), joined_content(message, continues), end, Text("\n", joined=True)]
    return tuple(segments[:-2]) if prompt.continues else (*segments, *begin("assistant"))
