"""Build the token ids of a request's prompt: render it, encode it, and leave out old turns where it does not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from chat.core.conversation import Message
from chat.core.token_ids import common_prefix
from chat.errors import ChatError, DataError
from chat.prompts.model_settings import settings_of
from chat.prompts.registry import FORMATS, render
from chat.prompts.segments import Mark, Segment, Text, content_segments
from chat.prompts.truncation import answer_reserve, check_fits, dropped_turns, split_turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chat.core.request import Prompt, Request
    from chat.prompts.model_settings import ReasoningEfforts
    from chat.prompts.segments import ChatTemplate

_NO_SYSTEM = Message("system", "")
# A longer text, or one with longer words, is not encoded only to count its tokens: that takes seconds, or much memory
MOST_COUNTED_CHARACTERS, LONGEST_COUNTED_WORD = 12_000_000, 1_000_000
MESSAGE_TOKENS = 4  # estimate of what a format writes around a message


class Encoder(Protocol):
    """What building a prompt needs of a tokenizer."""

    @property
    def size(self) -> int:
        """The number of pieces in the vocabulary."""
        ...

    @property
    def template(self) -> ChatTemplate:
        """The model's chat template, with an empty text where the file has none."""
        ...

    def efforts(self, prompt_format: str) -> ReasoningEfforts | None:
        """The reasoning efforts that prompts in a format may name; None where they name none."""
        ...

    def encode(self, segments: Iterable[Segment]) -> list[int]:
        """The ids of the segments."""
        ...

    def shown(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Ids with those of pieces in the places of pictures."""
        ...

    def fewest_tokens(self, text: str) -> int:
        """At least how many tokens a text has, without encoding it."""
        ...


@dataclass(frozen=True)
class BuiltPrompt:
    """The ids of a prompt.

    Attributes:
        ids: all of them; those of the places of pictures are negative.
        shown: the same with [IMG] and [IMG_BREAK] in the places of pictures, as mistral-common has them.
        dropped: how many of the oldest turns were left out.
        turns: of how many; 0 where none was left out.
    """

    ids: tuple[int, ...]
    shown: tuple[int, ...]
    dropped: int = 0
    turns: int = 0

    @classmethod
    def of(cls, ids: tuple[int, ...], tokenizer: Encoder, dropped: int = 0, turns: int = 0) -> BuiltPrompt:
        """The prompt of these ids."""
        return cls(ids, tokenizer.shown(ids) if ids and min(ids) < 0 else ids, dropped, turns)


def build_prompt(
    request: Request, tokenizer: Encoder, prompt_format: str, limit: int | None, drop: bool, most: int | None = None
) -> BuiltPrompt:
    """The ids of the request's prompt, within a limit.

    Args:
        request: its prompt, and how many tokens the answer may have.
        tokenizer: of the model.
        prompt_format: one of `FORMATS`.
        limit: tokens of prompt and answer together; None for no limit.
        drop: leave out the oldest whole turns of a conversation that is too long, rather than refuse it.
        most: the largest context that the model can have; None if that is unknown.

    Raises:
        ContextError: it does not fit.
        DataError: it breaks a rule of the prompt format, is empty, or has a picture that is damaged.
        ModelError: the vocabulary or the chat template does not suit the prompt format.
        UsageError: the model does not know the reasoning effort, or reads no pictures.
    """
    if limit is not None and (fewest := _fewest_tokens(request.prompt, tokenizer)):
        check_fits(fewest, limit, most, is_least=True)
    ids = encode(request.prompt, tokenizer, prompt_format)
    if not ids:
        raise DataError("the prompt is empty")
    if limit is None:
        return BuiltPrompt.of(ids, tokenizer)
    available = limit - answer_reserve(limit, request.max_tokens)
    if drop and request.prompt.messages is not None and len(ids) > available:
        shorter = _build_shorter(request.prompt, tokenizer, prompt_format, available)
        check_fits(len(shorter.ids), limit, most)
        return shorter
    check_fits(len(ids), limit, most)
    return BuiltPrompt.of(ids, tokenizer)


def _fewest_tokens(prompt: Prompt, tokenizer: Encoder) -> int:
    """At least how many tokens the last message has, if counting them would take long or much memory; else 0.

    A chat template may leave out white space around a text.
    """
    text = prompt.text or (prompt.messages[-1].content if prompt.messages else "")
    if len(text) <= LONGEST_COUNTED_WORD:
        return 0
    if len(text) <= MOST_COUNTED_CHARACTERS and max(map(len, text.split()), default=0) <= LONGEST_COUNTED_WORD:
        return 0
    return tokenizer.fewest_tokens(text.strip())


def encode(prompt: Prompt, tokenizer: Encoder, prompt_format: str) -> tuple[int, ...]:
    """All ids of a prompt, whatever their number.

    Raises:
        DataError: an id that the vocabulary does not have, or a conversation that the format refuses.
        ModelError: the vocabulary or the chat template does not suit the prompt format.
        UsageError: the model does not know the reasoning effort.
    """
    if prompt.ids is not None:
        for token in prompt.ids:
            if not 0 <= token < tokenizer.size:
                raise DataError(f"id {token} is not in the vocabulary of {tokenizer.size:,} pieces")
        return prompt.ids
    if prompt.text is not None:
        return tuple(tokenizer.encode((Mark("bos"), Text(prompt.text, joined=True))))
    messages = prompt.messages or ()
    settings = settings_of(prompt, prompt_format, tokenizer.efforts(prompt_format))
    for heads in ((_NO_SYSTEM,), ()) if _declines_default(prompt, prompt_format) else ((),):
        try:
            segments = render(
                prompt_format, (*heads, *messages), prompt.tools, prompt.continues, tokenizer.template, settings
            )
            return tuple(tokenizer.encode(segments))
        except DataError:  # a template without a place for a system prompt has no default one either
            if not heads:
                raise
    raise AssertionError("the last attempt returns or raises")


def _declines_default(prompt: Prompt, prompt_format: str) -> bool:
    """Whether a chat template must be kept from writing a system prompt of its own."""
    messages = prompt.messages or ()
    has_system = bool(messages) and messages[0].role == "system"
    return prompt_format == "template" and prompt.default_system is False and not has_system


def stable_prefix_length(prompt: Prompt, ids: Sequence[int], tokenizer: Encoder, prompt_format: str) -> int:
    """How many ids of a prompt the prompt of the next turn begins with.

    All of them, unless the prompt format moves the system prompt into the last question, or is a chat template, which
    may write earlier turns in another way, without their reasoning, say. Only for such a format a conversation with one
    more turn is rendered, to see where the two prompts part.

    Args:
        prompt: of this turn.
        ids: those of the prompt.
        tokenizer: of the model.
        prompt_format: one of `FORMATS`.

    """
    messages = prompt.messages
    keeps_prefix = FORMATS[prompt_format].keeps_prefix
    if not messages or keeps_prefix or (messages[0].role != "system" and prompt_format != "template"):
        return len(ids)
    answer = () if messages[-1].role == "assistant" else (Message("assistant", "a"),)
    longer = replace(prompt, messages=(*messages, *answer, Message("user", "q")), continues=False)
    try:
        return common_prefix(ids, encode(longer, tokenizer, prompt_format))
    except ChatError:  # a conversation of this kind cannot go on, so its prompt need not be kept apart
        return len(ids)


def _build_shorter(prompt: Prompt, tokenizer: Encoder, prompt_format: str, available: int) -> BuiltPrompt:
    """The prompt of a conversation without its oldest turns; the last one alone may still be too long.

    The turns to leave out are estimated from the tokens of their texts, and then counted in the rendered prompt.
    """
    head, turns = split_turns(prompt.messages or ())

    def tokens(messages: tuple[Message, ...]) -> int:
        return sum(len(m.ids) or len(tokenizer.encode(content_segments(m))) + MESSAGE_TOKENS for m in messages)

    dropped = dropped_turns(tuple(tokens(turn) for turn in turns), tokens(head), available)
    while True:
        kept = head + tuple(message for turn in turns[dropped:] for message in turn)
        ids = encode(replace(prompt, messages=kept), tokenizer, prompt_format)
        if dropped >= len(turns) - 1 or len(ids) <= available:
            return BuiltPrompt.of(ids, tokenizer, dropped, len(turns))
        dropped += 1
