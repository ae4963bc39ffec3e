"""The system prompt that a model was released with: used where the user does not give one."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chat.core.conversation import Message
from chat.gguf.keys import MistralChatKey
from chat.prompts.mistral_versions import MISTRAL_VERSIONS
from chat.prompts.segments import ChatTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from chat.core.request import Prompt

_VARIABLE = "default_system_message"  # of Mistral's templates
_WRITTEN = re.compile(r"\[SYSTEM_PROMPT\](.*)\[/SYSTEM_PROMPT\]", re.DOTALL)


def default_system_prompt(metadata: Mapping[str, Any], prompt_format: str, today: date) -> str:
    """The model's own system prompt, with its dates filled in; empty for none.

    Args:
        metadata: a GGUF's keys and values.
        prompt_format: one of `FORMATS`. Of formats that are not Mistral's the chat template writes it, if there is one.
        today: the date of the prompt.
    """
    version = MISTRAL_VERSIONS.get(prompt_format)
    if version is None:
        return ""
    text = metadata.get(MistralChatKey.SYSTEM_PROMPT)
    if not isinstance(text, str):
        return _of_template(ChatTemplate.of_metadata(metadata)) if version.system == "apart" else ""
    dates = {"{today}": today, "{yesterday}": today - timedelta(days=1)}
    for name, value in dates.items():
        text = text.replace(name, value.isoformat())
    return text


def _of_template(template: ChatTemplate) -> str:
    """The system prompt that a chat template writes unasked; files that another program converted have no other place.

    It is run now, so that its dates are those of today.
    """
    if _VARIABLE not in template.text:
        return ""
    from chat.prompts.jinja_sandbox import TemplateFailedError
    from chat.prompts.render_template import written

    try:
        found = _WRITTEN.search(written((Message("user", "-"),), template))
    except TemplateFailedError:
        return ""
    return str(found[1]) if found else ""


def with_default_system(prompt: Prompt, system: Callable[[], str]) -> Prompt:
    """A prompt whose messages begin with the model's own system prompt, where the user left that to the model.

    Args:
        prompt: a prompt of any kind.
        system: gives that of the model, empty for none; called where it is needed, since a template may have to be run.
    """
    messages = prompt.messages
    if not (prompt.default_system and messages) or messages[0].role == "system" or not (text := system()):
        return prompt
    return replace(prompt, messages=(Message("system", text), *messages))
