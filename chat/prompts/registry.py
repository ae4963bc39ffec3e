"""Turn a conversation into the segments of a prompt, by the name of a format. Knows no vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import UsageError
from chat.prompts import render_mistral, render_plain
from chat.prompts.mistral_versions import DIALECTS, MistralVersion
from chat.prompts.render_template import ChatTemplate, template_segments
from chat.prompts.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chat.core.conversation import Message


@dataclass(frozen=True)
class Format:
    """A prompt format.

    Attributes:
        render: (messages, tools, whether the last answer goes on, the model's chat template) to segments.
        tools: whether tools on offer, calls and results have a place in it; else tools on offer are left out.
        stops: texts that end an answer where the vocabulary has no token for them.
    """

    name: str
    render: Callable[[Sequence[Message], Sequence[Mapping[str, Any]], bool, ChatTemplate | None], tuple[Segment, ...]]
    tools: bool = False
    stops: tuple[str, ...] = ()


def _of_mistral(dialect: MistralVersion) -> Format:
    return Format(
        dialect.name,
        lambda messages, tools, continues, _: render_mistral.render(dialect, messages, tools, continues),
        tools=dialect.tools != "none",
    )


def _of_template(
    messages: Sequence[Message], _: Sequence[Mapping[str, Any]], continues: bool, template: ChatTemplate | None
) -> tuple[Segment, ...]:
    return template_segments(template, messages, continues)


_ALL = (
    *(_of_mistral(dialect) for dialect in DIALECTS.values()),
    Format(
        "chatml",
        lambda messages, _, continues, __: render_plain.chatml(messages, continues),
        stops=(render_plain.IM_END,),
    ),
    Format("zephyr", lambda messages, _, continues, __: render_plain.zephyr(messages, continues), stops=("<|user|>",)),
    Format("raw", lambda messages, _, continues, __: render_plain.raw(messages, continues)),
    Format("template", _of_template),
)
FORMATS: Mapping[str, Format] = MappingProxyType({each.name: each for each in _ALL})


def segments(
    format_name: str,
    prompt_messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    continues: bool = False,
    template: ChatTemplate | None = None,
) -> tuple[Segment, ...]:
    """The segments of a conversation in one of `FORMATS`.

    Args:
        prompt_messages: a system message, if any, first; an own answer with `ids` goes back as these.
        tools: functions on offer, bare or as {"type": "function", "function": ...}.
        continues: the last message is an unfinished answer to go on with.
        template: the model's chat template, which the format `template` needs.

    Raises:
        UsageError: no such format.
        DataError: a conversation that mistral-common refuses.
        ModelError: a chat template that llama.cpp does not know.
    """
    if format_name not in FORMATS:
        raise UsageError(f"unknown prompt format `{format_name}`", hint=f"one of {', '.join(FORMATS)}")
    return FORMATS[format_name].render(prompt_messages, tools, continues, template)
