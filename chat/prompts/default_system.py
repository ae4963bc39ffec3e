"""The system prompt that a model was released with: used where the user does not give one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chat.core.conversation import Message
from chat.gguf.keys import MistralChatKey
from chat.prompts.mistral_versions import MISTRAL_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from chat.core.request import Prompt


def default_system_prompt(metadata: Mapping[str, Any], prompt_format: str, today: date) -> str:
    """The model's own system prompt, with its dates filled in; empty for none.

    Args:
        metadata: a GGUF's keys and values.
        prompt_format: one of `FORMATS`. Of formats that are not Mistral's the chat template writes it, if there is one.
        today: the date of the prompt.
    """
    text = metadata.get(MistralChatKey.SYSTEM_PROMPT)
    if not isinstance(text, str) or prompt_format not in MISTRAL_VERSIONS:
        return ""
    dates = {"{today}": today, "{yesterday}": today - timedelta(days=1)}
    for name, value in dates.items():
        text = text.replace(name, value.isoformat())
    return text


def with_default_system(prompt: Prompt, system: str) -> Prompt:
    """A prompt whose messages begin with the model's own system prompt, where the user left that to the model.

    Args:
        prompt: a prompt of any kind.
        system: of the model; empty for none.
    """
    messages = prompt.messages
    if not (system and prompt.default_system and messages) or messages[0].role == "system":
        return prompt
    return replace(prompt, messages=(Message("system", system), *messages))
