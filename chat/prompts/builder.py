"""Make the ids of a prompt from a request, leaving out whole turns where they do not fit. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from chat.core.conversation import Message
from chat.core.token_ids import common_prefix
from chat.errors import DataError
from chat.prompts.registry import segments
from chat.prompts.segments import Mark, Segment, Text
from chat.prompts.truncation import answer_reserve, check_fits, dropped_turns, turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chat.core.request import Prompt, Request
    from chat.prompts.render_template import ChatTemplate


class Encoder(Protocol):
    """What building a prompt needs of a tokenizer."""

    @property
    def size(self) -> int:
        """The number of pieces."""
        ...

    @property
    def template(self) -> ChatTemplate:
        """The model's chat template, with an empty text where the file has none."""
        ...

    def encode(self, segments: Iterable[Segment]) -> list[int]:
        """The ids of the segments."""
        ...


@dataclass(frozen=True)
class BuiltPrompt:
    """A prompt's ids, and how many of the oldest turns are not in it."""

    ids: tuple[int, ...]
    dropped: int = 0
    turns: int = 0


def build_prompt(
    request: Request, tokenizer: Encoder, prompt_format: str, limit: int | None, drop: bool
) -> BuiltPrompt:
    """The ids of the request's prompt.

    Args:
        limit: tokens of prompt and answer together; None where there is no end.
        drop: leave out the oldest whole turns rather than refuse.

    Raises:
        ContextError: it does not fit.
        DataError: it breaks a rule of the prompt format, or is empty.
    """
    ids = encode(request.prompt, tokenizer, prompt_format)
    if not ids:
        raise DataError("the prompt is empty")
    if limit is None:
        return BuiltPrompt(ids)
    room = limit - answer_reserve(limit, request.max_tokens)
    if drop and request.prompt.messages is not None and len(ids) > room:
        return _dropped(request.prompt, tokenizer, prompt_format, limit, room)
    check_fits(len(ids), limit)
    return BuiltPrompt(ids)


def encode(prompt: Prompt, tokenizer: Encoder, prompt_format: str) -> tuple[int, ...]:
    """All ids of a prompt, whatever their number.

    Raises:
        DataError: an id that the vocabulary does not have, or a conversation that the format refuses.
    """
    if prompt.ids is not None:
        for token in prompt.ids:
            if not 0 <= token < tokenizer.size:
                raise DataError(f"id {token} is not in the vocabulary of {tokenizer.size:,} pieces")
        return prompt.ids
    return tuple(tokenizer.encode(prompt_segments(prompt, prompt_format, tokenizer.template)))


def stable_prefix_length(prompt: Prompt, ids: Sequence[int], tokenizer: Encoder, prompt_format: str) -> int:
    """How many ids of a prompt the next turn's begins with.

    All of them, but where the prompt format moves the system prompt into the last question.
    """
    messages = prompt.messages
    if not messages or messages[0].role != "system":
        return len(ids)
    answer = () if messages[-1].role == "assistant" else (Message("assistant", "a"),)
    longer = replace(prompt, messages=(*messages, *answer, Message("user", "q")), continues=False)
    return common_prefix(ids, encode(longer, tokenizer, prompt_format))


def prompt_segments(prompt: Prompt, prompt_format: str, template: ChatTemplate | None = None) -> tuple[Segment, ...]:
    """The segments of a prompt of messages or of plain text."""
    if prompt.text is not None:
        return (Mark("bos"), Text(prompt.text))
    return segments(prompt_format, prompt.messages or (), prompt.tools, prompt.continues, template)


def _dropped(prompt: Prompt, tokenizer: Encoder, prompt_format: str, limit: int, room: int) -> BuiltPrompt:
    head, all_turns = turns(prompt.messages or ())

    def count(messages: tuple[Message, ...]) -> int:
        return sum(len(m.ids) or len(tokenizer.encode((Text(m.content),))) + 4 for m in messages)

    dropped = dropped_turns(tuple(count(turn) for turn in all_turns), count(head), room)
    while True:
        kept = head + tuple(message for turn in all_turns[dropped:] for message in turn)
        parts = segments(prompt_format, kept, prompt.tools, prompt.continues, tokenizer.template)
        ids = tuple(tokenizer.encode(parts))
        if len(ids) < limit and (len(ids) <= room or dropped >= len(all_turns) - 1):
            return BuiltPrompt(ids, dropped, len(all_turns))
        if dropped >= len(all_turns) - 1:
            check_fits(len(ids), limit)
        dropped += 1
