"""The values between a conversation and its token ids: what a prompt format takes, and the segments that it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chat.core.conversation import Message


@dataclass(frozen=True)
class ChatTemplate:
    """A model's own chat template.

    Attributes:
        text: the template in the model's file, empty where it has none.
        apply: renders (template, [(role, text)], whether to ask for an answer) to one text.
    """

    text: str
    apply: Callable[[str, Sequence[tuple[str, str]], bool], str]


@dataclass(frozen=True)
class PromptMessages:
    """What a prompt format renders.

    Attributes:
        messages: a system message, if any, first; an answer of the model with `ids` is rendered as these.
        tools: functions on offer, bare or as {"type": "function", "function": ...}.
        continues: the last message is an unfinished answer to be continued.
        template: the model's chat template.
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    continues: bool = False
    template: ChatTemplate | None = None


@dataclass(frozen=True)
class Control:
    """One control piece of the vocabulary.

    Attributes:
        piece: its name.
        or_text: where the vocabulary has no such piece, its name is text and joined to the text around it.
    """

    piece: str
    or_text: bool = False


@dataclass(frozen=True)
class Text:
    """Text of a user, a file, a tool or a model. It never becomes a control id.

    Attributes:
        text: encoded on its own, as mistral-common does.
        joined: encode it together with the text before it.
    """

    text: str
    joined: bool = False


@dataclass(frozen=True)
class Ids:
    """Ids that the model generated.

    Attributes:
        ids: the prompt holds these, if they decode to a text with all of `says` in it.
        says: texts of the message. Another vocabulary may have made the ids, or the answer was edited since.
        instead: segments that replace the ids then.
    """

    ids: tuple[int, ...]
    says: tuple[str, ...] = field(default=(), compare=False)
    instead: tuple[Segment, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Mark:
    """The vocabulary's own BOS, where its model wants one, or its EOS."""

    name: Literal["bos", "eos"]


@dataclass(frozen=True)
class Markup:
    """A chat template's own text; names of control pieces in it are control pieces."""

    text: str


Segment = Control | Text | Ids | Mark | Markup


def joined_content(message: Message) -> Text | Ids:
    """A message's content, encoded together with the text around it; an answer of the model as its own ids."""
    text = Text(message.content, joined=True)
    return Ids(message.ids, (message.content,), (text,)) if message.ids else text
