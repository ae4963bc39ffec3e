"""Decide which whole turns of a conversation fit the context, from their token counts."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from chat.errors import ContextError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.conversation import Message

# After turns were dropped the rest fills at most this part of the available tokens, so that the next turns drop nothing
# and the prompt keeps its start: each drop moves that start, and then the whole prompt is read again.
SETTLED_SHARE = 0.6


def answer_reserve(context: int, max_tokens: int | None) -> int:
    """Tokens kept free for the answer: `max_tokens`, but at most a quarter of the context."""
    quarter = context // 4
    return quarter if max_tokens is None else min(max_tokens, quarter)


def split_turns(messages: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[tuple[Message, ...], ...]]:
    """Split messages into the system messages at the head, and whole turns that each begin with a user message."""
    head = 0
    while head < len(messages) and messages[head].role == "system":
        head += 1
    bounds = [index for index in range(head, len(messages)) if messages[index].role == "user" or index == head]
    bounds.append(len(messages))
    return tuple(messages[:head]), tuple(tuple(messages[start:stop]) for start, stop in pairwise(bounds))


def left_out_text(dropped: int, context: int) -> str:
    """A sentence that the oldest turns are left out, of which there are `dropped`."""
    if dropped == 1:
        return f"the oldest turn no longer fits the context of {context:,} tokens and is left out"
    return f"the {dropped:,} oldest turns no longer fit the context of {context:,} tokens and are left out"


def dropped_turns(turn_tokens: Sequence[int], head_tokens: int, available_tokens: int) -> int:
    """How many of the oldest turns to leave out; the last turn is never one of them.

    The result depends on the history alone. Replayed turn by turn it grows in steps, so that between two steps the
    prompts have the same start and stay cached.

    Args:
        turn_tokens: tokens of each turn, oldest first.
        head_tokens: tokens of the system messages, which are always kept.
        available_tokens: for the whole prompt.
    """
    dropped = 0
    kept = head_tokens
    for index, tokens in enumerate(turn_tokens):
        kept += tokens
        if kept <= available_tokens:
            continue
        settled = max(int(available_tokens * SETTLED_SHARE), 1)
        while dropped < index and kept > settled:
            kept -= turn_tokens[dropped]
            dropped += 1
    return dropped


def check_fits(prompt_tokens: int, context: int, most: int | None = None, *, is_least: bool = False) -> None:
    """Refuse a prompt that leaves no space for a single token of an answer.

    Args:
        prompt_tokens: of the whole prompt.
        context: tokens that it holds.
        most: the largest context that the model can have; None if that is unknown.
        is_least: the prompt has at least so many tokens.

    Raises:
        ContextError: with both numbers.
    """
    if prompt_tokens >= context:
        count = f"at least {prompt_tokens:,}" if is_least else f"{prompt_tokens:,}"
        raise ContextError(
            f"the prompt has {count} tokens, but the context holds {context:,} and the answer needs room too",
            hint=_way_out(prompt_tokens, most),
        )


def _way_out(prompt_tokens: int, most: int | None) -> str:
    """What to do about a prompt that is too long: a context with space for it and an answer, if the model has one."""
    larger = -(-(prompt_tokens + 1024) // 1024) * 1024
    if most is not None and prompt_tokens >= most:
        return f"shorten it; {most:,} tokens are the most that this model can read"
    return f"shorten it, or use `--context {larger if most is None else min(larger, most)}`"
