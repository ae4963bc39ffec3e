"""Decide whether a chat template lays conversations out as one of Mistral's formats does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.core.conversation import Message
from chat.prompts.detect import Detected
from chat.prompts.mistral_versions import MISTRAL_VERSIONS
from chat.prompts.registry import FORMATS
from chat.prompts.segments import ChatTemplate, PromptMessages, texts_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_SYSTEM, _USER, _ANSWER, _NEXT = (
    Message("system", "System"),
    Message("user", "User"),
    Message("assistant", "Answer"),
    Message("user", "Next"),
)
_WITH_SYSTEM = ((_SYSTEM, _USER), (_SYSTEM, _USER, _ANSWER, _NEXT))
_WITHOUT_SYSTEM = ((_USER,), (_USER, _ANSWER, _NEXT))
# What a template writes unasked: its default system prompt, and the default of a setting
_UNASKED = re.compile(r"\[SYSTEM_PROMPT\].*?\[/SYSTEM_PROMPT\]|\[MODEL_SETTINGS\].*?\[/MODEL_SETTINGS\]", re.DOTALL)
_SETTINGS = re.compile(r"\[MODEL_SETTINGS\].*?\[/MODEL_SETTINGS\]", re.DOTALL)


def confirmed(detected: Detected, metadata: Mapping[str, Any]) -> Detected:
    """The format that was detected, or `template` where the model's chat template does something else.

    The template is run with a few conversations. It is Mistral's own if it writes what the format writes: white space
    may differ, since Mistral's templates do not write it as the models were trained, and so may a default system
    prompt, or that it takes no system prompt at all.

    Args:
        detected: by `detect_format`.
        metadata: the GGUF's keys and values.
    """
    template = ChatTemplate.of_metadata(metadata)
    if detected.is_named or detected.name not in MISTRAL_VERSIONS or not template.text:
        return detected
    if _agrees(detected.name, template):
        return detected
    return Detected("template", f"its chat template is not that of {detected.name}")


def _agrees(name: str, template: ChatTemplate) -> bool:
    from chat.prompts.jinja_sandbox import TemplateFailedError
    from chat.prompts.render_template import written

    for messages in (*_WITH_SYSTEM, *_WITHOUT_SYSTEM):
        try:
            theirs = written(messages, template)
        except TemplateFailedError as error:
            if error.refuses and messages in _WITH_SYSTEM:
                continue
            return False
        ours = "".join(texts_of(FORMATS[name].render(PromptMessages(messages))))
        unasked = _SETTINGS if messages in _WITH_SYSTEM else _UNASKED
        if "".join(unasked.sub("", theirs).split()) != "".join(unasked.sub("", ours).split()):
            return False
    return True
