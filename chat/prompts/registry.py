"""The prompt formats by name, and how a conversation is rendered in one of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import UsageError
from chat.prompts import render_mistral, render_plain, render_template
from chat.prompts.mistral_versions import MISTRAL_VERSIONS, MistralVersion
from chat.prompts.segments import ChatTemplate, PromptMessages, Segment

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping, Sequence

    from chat.core.conversation import Message


@dataclass(frozen=True)
class Format:
    """A prompt format.

    Attributes:
        name: the value of `--prompt-format`.
        render: makes the segments of a prompt.
        tools: tools on offer, calls and results can be rendered; else tools on offer are left out. A chat template may
            have no place for them all the same.
        stops: texts that end an answer where the vocabulary has no control piece for them.
        pictures: questions may hold pictures.
        keeps_prefix: the prompt of a longer conversation begins with that of the shorter one. Not where the system
            prompt moves to the last question, where a text is encoded together with the one after it, or where the
            format is not known.
    """

    name: str
    render: Callable[[PromptMessages], tuple[Segment, ...]]
    tools: bool = False
    stops: tuple[str, ...] = ()
    keeps_prefix: bool = True
    pictures: bool = False


def _mistral(version: MistralVersion) -> Format:
    return Format(
        version.name,
        partial(render_mistral.render, version),
        tools=version.tools != "none",
        keeps_prefix=version.system != "last",
        pictures=version.pictures,
    )


_ALL = (
    *(_mistral(version) for version in MISTRAL_VERSIONS.values()),
    Format("chatml", render_plain.render_chatml, stops=(render_plain.IM_END,)),
    Format("zephyr", render_plain.render_zephyr, stops=("<|user|>",)),
    Format("raw", render_plain.render_raw, keeps_prefix=False),
    Format("template", render_template.render, tools=True, keeps_prefix=False),
)
FORMATS: Mapping[str, Format] = MappingProxyType({entry.name: entry for entry in _ALL})
PICTURE_FORMATS = "Mistral's own formats from v3 on have one"


def render(
    format_name: str,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    continues: bool = False,
    template: ChatTemplate | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Segment, ...]:
    """The segments of a conversation in one of `FORMATS`; for the arguments see `PromptMessages`.

    Raises:
        UsageError: there is no such format, or it has no place for the conversation's pictures.
        DataError: mistral-common refuses the conversation, or the format cannot render it.
        ModelError: the model has no chat template, or it cannot be run.
    """
    if format_name not in FORMATS:
        raise UsageError(f"unknown prompt format `{format_name}`", hint=f"one of {', '.join(FORMATS)}")
    if not FORMATS[format_name].pictures and any(message.pictures for message in messages):
        raise UsageError(f"the prompt format {format_name} has no place for pictures", hint=PICTURE_FORMATS)
    return FORMATS[format_name].render(PromptMessages(messages, tools, continues, template, settings))


def takes_tools(format_name: str, template: ChatTemplate) -> bool:
    """Whether functions on offer can be rendered in a format."""
    if format_name == "template":
        return render_template.takes_tools(template)
    return FORMATS[format_name].tools


def stop_texts(format_name: str, template: ChatTemplate, special_names: re.Pattern[str]) -> tuple[str, ...]:
    """Texts that end an answer in a format where the vocabulary has no control piece for them.

    Args:
        format_name: one of `FORMATS`.
        template: the model's chat template.
        special_names: finds names of its control pieces.
    """
    if format_name == "template":
        return render_template.stop_texts(template, special_names)
    return FORMATS[format_name].stops
