"""Decide which whole turns fit the context. Knows token counts, not tokens."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from chat.errors import ContextError

if TYPE_CHECKING:
    from chat.core.conversation import Message

# After turns were dropped the rest fills at most this part of the room, so that the next turns drop nothing and the
# prompt keeps its beginning: what is dropped moves that beginning, and then everything is read again.
SETTLED_SHARE = 0.6


def answer_reserve(context: int, max_tokens: int | None) -> int:
    """Tokens kept free for the answer: what was asked for, but at most a quarter of the context."""
    quarter = context // 4
    return quarter if max_tokens is None else min(max_tokens, quarter)


def turns(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[tuple[Message, ...], ...]]:
    """Split messages into what always stays (system messages at the head) and whole turns, each begun by a user."""
    head = 0
    while head < len(messages) and messages[head].role == "system":
        head += 1
    bounds = [at for at in range(head, len(messages)) if messages[at].role == "user" or at == head]
    bounds.append(len(messages))
    return messages[:head], tuple(messages[start:end] for start, end in pairwise(bounds))


def dropped_turns(turn_tokens: tuple[int, ...], head_tokens: int, room: int) -> int:
    """How many of the oldest turns leave the context; the last turn never does.

    A pure function of the history: replayed turn by turn it drops in steps, so that between two steps the kept turns
    begin at the same place and their cache stays good.

    Args:
        turn_tokens: tokens of each turn, oldest first.
        head_tokens: tokens of what always stays.
        room: tokens that the prompt may take.
    """
    dropped = 0
    kept = head_tokens
    for at, tokens in enumerate(turn_tokens):
        kept += tokens
        if kept <= room:
            continue
        settled = max(int(room * SETTLED_SHARE), 1)
        while dropped < at and kept > settled:
            kept -= turn_tokens[dropped]
            dropped += 1
    return dropped


def check_fits(prompt_tokens: int, context: int) -> None:
    """Refuse a prompt that leaves no room for a single token of an answer.

    Raises:
        ContextError: with both numbers.
    """
    if prompt_tokens >= context:
        raise ContextError(
            f"the prompt has {prompt_tokens:,} tokens, but the context holds {context:,} and the answer needs room too",
            hint=f"shorten it, or load the model with `--context {_next_context(prompt_tokens)}`",
        )


def _next_context(tokens: int) -> int:
    return -(-(tokens + 1024) // 1024) * 1024
