"""Render a conversation through llama.cpp's own template engine without showing it the conversation's text.

Each text is a placeholder while the template is applied. So the template's own words are told from a person's, and
only they can hold control pieces. Knows no vocabulary; the engine passes the applying function in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.errors import DataError, ModelError
from chat.prompts.render_plain import refuse_tool_talk
from chat.prompts.segments import Ids, Mark, Markup, Segment, Text
from chat.prompts.validate import check_ending, check_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.core.conversation import Message


@dataclass(frozen=True)
class ChatTemplate:
    """A model's own chat template.

    Attributes:
        text: the template as it stands in the model's file.
        apply: (template, [(role, text)], whether to ask for an answer) to the whole text.
    """

    text: str
    apply: Callable[[str, Sequence[tuple[str, str]], bool], str]


_PLACEHOLDER = re.compile("\ue0f0(\\d+)\ue0f1")  # private use: no template says it


def template_segments(
    template: ChatTemplate | None, messages: Sequence[Message], continues: bool
) -> tuple[Segment, ...]:
    """The segments of a conversation as a model's own chat template puts it.

    Args:
        continues: the last message is an unfinished answer to go on with.

    Raises:
        DataError: tool talk, an empty answer, an end that asks for no answer, or a message the template leaves out.
        ModelError: the template is unknown to llama.cpp.
    """
    check_values(messages)
    check_ending(messages, continues)
    refuse_tool_talk(messages)
    if template is None:
        raise ModelError("the model has no chat template", hint="choose another format with `--prompt-format`")
    chat = [(message.role, f"\ue0f0{index}\ue0f1") for index, message in enumerate(messages)]
    whole = template.apply(template.text, chat, not continues)
    parts = _PLACEHOLDER.split(whole)  # words, index, words, index, ... words
    shown = [int(index) for index in parts[1::2]]
    if left_out := sorted(set(range(len(messages))) - set(shown)):
        number = left_out[0] + 1
        raise DataError(f"message {number}: the model's chat template has no place for a {chat[number - 1][0]} message")
    if continues:
        parts = parts[:-1] if shown[-1] == len(messages) - 1 else parts
    segments: list[Segment] = [Mark("bos")]
    for place, part in enumerate(parts):
        if place % 2 == 0:
            segments += [Markup(part)] if part else []
        else:
            message = messages[int(part)]
            text = Text(message.content, joined=True)
            segments.append(Ids(message.ids, (message.content,), (text,)) if message.ids else text)
    return tuple(segments)
