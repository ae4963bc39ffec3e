"""The settings that a model reads in its prompt: which reasoning efforts it knows, and what is written of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.errors import UsageError
from chat.gguf.keys import MistralChatKey
from chat.prompts.mistral_versions import MISTRAL_VERSIONS
from chat.prompts.segments import ChatTemplate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chat.core.request import Prompt

# All that mistral-common knows (`ReasoningEffort`), for a model that does not say which it was trained on
KNOWN_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# By which templates are told whether to think: Qwen3, GLM and SmolLM3 read the first, DeepSeek-V3.1, Granite the other
THINKING_VARIABLES = ("enable_thinking", "thinking")
_NAME = "reasoning_effort"
_LISTED = re.compile(r"reasoning_effort\s+not\s+in\s+[\[(]([^\])]*)[\])]")
_DEFAULT = re.compile(r"reasoning_effort\s*(?:or\s+|=\s*|\|\s*default\(\s*)(['\"])(\w+)\1")
_WORD = re.compile(r"['\"](\w+)['\"]")


@dataclass(frozen=True)
class ReasoningEfforts:
    """The reasoning efforts of a model.

    Attributes:
        values: their names.
        default: the one that the model is told without a choice; empty where the chat template has its own.
        is_stated: the model's file names them, so they are not all that are known.
    """

    values: tuple[str, ...]
    default: str
    is_stated: bool


def reasoning_efforts(metadata: Mapping[str, Any], prompt_format: str) -> ReasoningEfforts | None:
    """The efforts that prompts of a model may name; None for a format or a model without a place for them.

    They are those of the release's tokenizer file, as the conversion stored them; of a file that another program
    converted, those that the chat template lists.

    Args:
        metadata: a GGUF's keys and values.
        prompt_format: one of `FORMATS`.
    """
    version = MISTRAL_VERSIONS.get(prompt_format)
    if prompt_format == "template":
        text = ChatTemplate.of_metadata(metadata).text
        return _of_template(text, has_default=False) if _NAME in text else None
    if version is None or not version.settings:
        return None
    stored = metadata.get(MistralChatKey.MODEL_SETTINGS)
    if isinstance(stored, str):
        return _stored_efforts(stored)
    return _of_template(ChatTemplate.of_metadata(metadata).text, has_default=True)


def _of_template(text: str, *, has_default: bool) -> ReasoningEfforts:
    """The efforts that a chat template lists, else all that are known."""
    listed, default = _LISTED.search(text), _DEFAULT.search(text)
    stated = tuple(_WORD.findall(listed[1])) if listed else ()
    values = stated or KNOWN_EFFORTS
    first = default[2] if default and default[2] in values else values[0]
    return ReasoningEfforts(values, first if has_default else "", is_stated=bool(stated))


def check_effort(effort: str, values: tuple[str, ...]) -> None:
    """Refuse an effort that a model does not know.

    Args:
        effort: of the user.
        values: the model's; empty for none.

    Raises:
        UsageError: it knows none, or others.
    """
    if not values:
        raise UsageError("the model has no reasoning effort to choose", hint="leave out `--effort`")
    if effort not in values:
        raise UsageError(f"the model has no reasoning effort {effort!r}", hint=f"one of {', '.join(values)}")


def settings_of(prompt: Prompt, prompt_format: str, efforts: ReasoningEfforts | None) -> dict[str, str | bool]:
    """The settings to write into a prompt; empty for a model without any.

    Args:
        prompt: its effort, and whether the model is to think.
        prompt_format: one of `FORMATS`.
        efforts: the reasoning efforts of the model; None for none.

    Raises:
        UsageError: the model does not know the effort.
    """
    if prompt.effort is not None:
        check_effort(prompt.effort, efforts.values if efforts is not None else ())
    told = prompt.effort or (efforts.default if efforts is not None else "")
    settings: dict[str, str | bool] = {_NAME: told} if told else {}
    if prompt.thinks is not None and prompt_format == "template":
        settings |= dict.fromkeys(THINKING_VARIABLES, prompt.thinks)
    return settings


def _stored_efforts(stored: str) -> ReasoningEfforts | None:
    """The efforts of tekken.json's `model_settings_builder`; None where it has none, or is damaged."""
    try:
        field = json.loads(stored).get(_NAME)
        if field is None:
            return None
        return ReasoningEfforts(tuple(map(str, field["values"])), str(field["default"]), is_stated=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
