"""The values between a conversation and its token ids: what a prompt format takes, and the segments that it gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chat.core.conversation import Message, Picture
from chat.gguf.keys import TokenizerKey


@dataclass(frozen=True)
class ChatTemplate:
    """A model's own chat template.

    Attributes:
        text: the template in the model's file, empty where it has none.
        named: its other templates by name, such as `tool_use`.
        tokens: names of special tokens by the variable that a template reads, such as `bos_token`.
    """

    text: str = ""
    named: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, Any]) -> ChatTemplate:
        """The templates of a GGUF, from its keys and values; texts as str or UTF-8 bytes."""
        names = [decoded(name) for name in metadata.get(TokenizerKey.CHAT_TEMPLATES) or ()]
        named = {name: metadata.get(f"{TokenizerKey.CHAT_TEMPLATE}.{name}") for name in names}
        texts = {name: decoded(text) for name, text in named.items() if isinstance(text, str | bytes)}
        text = metadata.get(TokenizerKey.CHAT_TEMPLATE)
        main = decoded(text) if isinstance(text, str | bytes) else texts.get("default", "")
        return cls(main, texts, _token_names(metadata))

    def for_tools(self, offers_tools: bool) -> str:
        """The template that transformers chooses, with functions on offer or without."""
        return self.named.get("tool_use", self.text) if offers_tools else self.text


_TOKENS = {
    "bos_token": (TokenizerKey.BOS_ID, 1),  # with the id in SentencePiece vocabularies that do not say it
    "eos_token": (TokenizerKey.EOS_ID, 2),
    "unk_token": (TokenizerKey.UNKNOWN_ID, 0),
    "pad_token": (TokenizerKey.PADDING_ID, None),
    "sep_token": (TokenizerKey.SEPARATOR_ID, None),
    "mask_token": (TokenizerKey.MASK_ID, None),
}


def _token_names(metadata: Mapping[str, Any]) -> dict[str, str]:
    pieces = metadata.get(TokenizerKey.TOKENS) or ()
    is_sentencepiece = metadata.get(TokenizerKey.MODEL) in ("llama", b"llama")
    names: dict[str, str] = {}
    for variable, (key, usual) in _TOKENS.items():
        token = metadata.get(key, usual if is_sentencepiece else None)
        if isinstance(token, int) and 0 <= token < len(pieces):
            names[variable] = decoded(pieces[token])
    return names


def decoded(value: str | bytes) -> str:
    """A text of a GGUF's metadata."""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")


@dataclass(frozen=True)
class PromptMessages:
    """What a prompt format renders.

    Attributes:
        messages: a system message, if any, first; an answer of the model with `ids` is rendered as these.
        tools: functions on offer, bare or as {"type": "function", "function": ...}.
        continues: the last message is an unfinished answer to be continued.
        template: the model's chat template.
        settings: what a format with a place for settings tells the model, by name, such as `reasoning_effort`.
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    continues: bool = False
    template: ChatTemplate | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


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
        is_whole: the ids must decode to exactly the first of `says`.
    """

    ids: tuple[int, ...]
    says: tuple[str, ...] = field(default=(), compare=False)
    instead: tuple[Segment, ...] = field(default=(), compare=False)
    is_whole: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Mark:
    """The vocabulary's own BOS, where its model wants one, or its EOS."""

    name: Literal["bos", "eos"]


@dataclass(frozen=True)
class Markup:
    """A chat template's own text; names of control pieces in it are control pieces."""

    text: str


@dataclass(frozen=True)
class PictureChunk:
    """The places of a picture, which are followed by [IMG_END]."""

    picture: Picture


@dataclass(frozen=True)
class IfPieces:
    """Segments for a vocabulary that has every control piece among them.

    Attributes:
        parts: the segments.
        instead: those for another vocabulary.
    """

    parts: tuple[Segment, ...]
    instead: tuple[Segment, ...] = ()


PICTURE, PICTURE_BREAK, PICTURE_END = Control("[IMG]"), Control("[IMG_BREAK]"), Control("[IMG_END]")
BEGIN_THINK = Control("[THINK]")  # Mistral's control pieces around reasoning
END_THINK = Control("[/THINK]")
BEGIN_THINK_TEXT = "<think>"  # how other families mark it in the text of an answer
END_THINK_TEXT = "</think>"

Segment = Control | Text | Ids | Mark | Markup | PictureChunk | IfPieces


def content_segments(message: Message) -> tuple[Segment, ...]:
    """A message's texts and pictures, without what a format writes around them."""
    segments: list[Segment] = []
    for part in message.parts():
        segments += [Text(part)] if isinstance(part, str) else [PictureChunk(part), PICTURE_END]
    return tuple(segments)


def texts_of(segments: Iterable[Segment]) -> list[str]:
    """The texts of segments as they are written, names of control pieces among them; other segments have none."""
    return [
        segment.piece if isinstance(segment, Control) else segment.text
        for segment in segments
        if isinstance(segment, Control | Text | Markup)
    ]


def joined_content(message: Message, continues: bool = False) -> Text | Ids:
    """A message's content, encoded together with the text around it; an answer of the model as its own ids.

    Reasoning is left out of all answers but one that is continued, as the templates of models that think do.

    Args:
        message: the message.
        continues: it is an answer that the model goes on with.
    """
    if message.reasoning and not continues:
        return Text(message.content, joined=True)
    thought = f"{BEGIN_THINK_TEXT}\n{message.reasoning}" if message.reasoning else ""
    if thought and not message.is_unfinished_reasoning:
        thought += f"\n{END_THINK_TEXT}\n\n"
    text = Text(thought + message.content, joined=True)
    return Ids(message.ids, (message.content or message.reasoning,), (text,)) if message.ids else text
