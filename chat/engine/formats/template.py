"""Render a conversation through llama.cpp's own template engine without showing it the conversation's text.

Each text is a placeholder while the template is applied. So the template's own words are told from a person's, and
only they can hold control pieces. Knows no vocabulary; the engine passes the applying function in.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.engine.formats.plain import refuse_tool_talk
from chat.engine.formats.rules import check_ending, check_values
from chat.engine.formats.segments import Ids, Mark, Markup, Segment, Text
from chat.ground.errors import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.conversation import Message

    Apply = Callable[[str, Sequence[tuple[str, str]], bool], str]

_PLACEHOLDER = re.compile("\ue0f0(\\d+)\ue0f1")  # private use: no template says it


def template_segments(template: str, messages: Sequence[Message], continues: bool, apply: Apply) -> tuple[Segment, ...]:
    """The segments of a conversation as a model's own chat template puts it.

    Args:
        template: text of the chat template.
        apply: `apply_template`, or one like it: (template, [(role, text)], ask for an answer) to the whole text.

    Raises:
        DataError: tool talk, an empty answer, an end that asks for no answer, or a message the template leaves out.
        ModelError: the template is unknown to llama.cpp.
    """
    check_values(messages)
    check_ending(messages, continues)
    refuse_tool_talk(messages)
    chat = [(message.role, f"\ue0f0{index}\ue0f1") for index, message in enumerate(messages)]
    parts = _PLACEHOLDER.split(apply(template, chat, not continues))  # words, index, words, index, ... words
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


def apply_template(template: str, chat: Sequence[tuple[str, str]], asks: bool) -> str:
    """Let llama.cpp render a chat by the family it recognises a template to be of; it runs no template language.

    Args:
        chat: (role, text) of each message; texts without NUL.
        asks: end with the words that ask for an answer.

    Raises:
        ModelError: the template is unknown to llama.cpp.
    """
    import ctypes

    from chat.engine.library import llama

    api = llama()
    entries = (api.llama_chat_message * len(chat))(
        *((role.encode(), text.encode()) for role, text in chat),
    )
    size = 1024 + 64 * len(chat)
    while True:
        buffer = ctypes.create_string_buffer(size)
        needed = api.llama_chat_apply_template(
            template.replace("\0", "").encode(), entries, len(chat), asks, buffer, size
        )
        if needed < 0:
            raise ModelError(
                "the model's chat template is unknown to this program", hint="choose one with `--prompt-format`"
            )
        if needed <= size:
            return buffer.raw[:needed].decode("utf-8", "replace")
        size = needed
