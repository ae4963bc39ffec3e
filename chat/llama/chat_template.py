"""Render messages with llama.cpp's chat template engine."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from chat.errors import ModelError
from chat.llama.library import llama

if TYPE_CHECKING:
    from collections.abc import Sequence


def apply_template(template: str, chat: Sequence[tuple[str, str]], asks: bool) -> str:
    """The text of messages in the format of the model family whose template llama.cpp recognises; no template is run.

    Args:
        template: the text in the model's file.
        chat: (role, text) of each message; texts without NUL.
        asks: end with the markup that asks for an answer.

    Raises:
        ModelError: the template is unknown to llama.cpp.
    """
    api = llama()
    messages = (api.llama_chat_message * len(chat))(
        *((role.encode(), text.encode()) for role, text in chat),
    )
    size = 1024 + 64 * len(chat)
    while True:
        buffer = ctypes.create_string_buffer(size)
        needed = api.llama_chat_apply_template(
            template.replace("\0", "").encode(), messages, len(chat), asks, buffer, size
        )
        if needed < 0:
            raise ModelError(
                "the model's chat template is unknown to this program", hint="choose one with `--prompt-format`"
            )
        if needed <= size:
            return buffer.raw[:needed].decode("utf-8", "replace")
        size = needed
