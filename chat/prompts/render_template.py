"""Render prompts with llama.cpp's own template engine, which never sees the texts of the conversation.

A placeholder stands for each text while the template is applied. So the template's own text is told apart from that of
the messages, and only the template can name control pieces.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.errors import DataError, ModelError
from chat.prompts.segments import Mark, Markup, Segment, joined_content
from chat.prompts.validate import check_ending, check_plain, check_values

if TYPE_CHECKING:
    from chat.prompts.segments import PromptMessages

_PLACEHOLDER = re.compile("\ue0f0(\\d+)\ue0f1")  # private use characters, which no template contains


def render(prompt: PromptMessages) -> tuple[Segment, ...]:
    """The segments of a conversation in the model's own chat template.

    Raises:
        DataError: tool calls or results, an empty answer, an end that asks for no answer, or a message that the
            template leaves out.
        ModelError: the model has no template, or llama.cpp does not know it.
    """
    messages, template = prompt.messages, prompt.template
    check_values(messages)
    check_ending(messages, prompt.continues)
    check_plain(messages)
    if template is None:
        raise ModelError("the model has no chat template", hint="choose another format with `--prompt-format`")
    placeholders = [(message.role, f"\ue0f0{index}\ue0f1") for index, message in enumerate(messages)]
    whole = template.apply(template.text, placeholders, not prompt.continues)
    parts = _PLACEHOLDER.split(whole)  # markup, index, markup, index, ... markup
    indices = [int(index) for index in parts[1::2]]
    if missing := sorted(set(range(len(messages))) - set(indices)):
        index = missing[0]
        raise DataError(
            f"message {index + 1}: the model's chat template has no place for a {messages[index].role} message"
        )
    if prompt.continues and indices[-1] == len(messages) - 1:
        parts.pop()  # what ends the answer
    segments: list[Segment] = [Mark("bos")]
    for number, part in enumerate(parts):
        if number % 2:
            segments.append(joined_content(messages[int(part)]))
        elif part:
            segments.append(Markup(part))
    return tuple(segments)
