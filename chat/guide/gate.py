"""Decide whether an answer of the guide is sure enough to be given. Knows probabilities and topics, not the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chat.guide.library import ELSE_TITLE, TALK_TITLE
from chat.guide.topics import matches

if TYPE_CHECKING:
    from collections.abc import Sequence

DECIDING_TOKENS = 12  # of an answer: where it is decided which one it is; the rest follows by heart
THRESHOLD = 0.3  # chosen on tests/guide/tuning.txt


def surety(logprobs: Sequence[float]) -> float:
    """The probability of the least certain among an answer's first tokens, 0 to 1; 1 where there are none.

    Args:
        logprobs: natural logarithms of the probability of each token of the answer.
    """
    return math.exp(min(logprobs[:DECIDING_TOKENS], default=0.0))


def is_sure(logprobs: Sequence[float]) -> bool:
    """Whether the answer may be given."""
    return surety(logprobs) >= THRESHOLD


def doubtful_answer(question: str) -> str:
    """What is said instead of an answer that is not sure: a refusal with the nearest topics."""
    near = [each.title for each in matches(question) if each.title not in (ELSE_TITLE, TALK_TITLE)]
    if not near:
        return "I am only the guide, and I am not sure what you mean. `/help` lists the commands."
    names = near[0] if len(near) == 1 else f"{', '.join(near[:-1])} or {near[-1]}"
    return f"I am only the guide, and I am not sure what you mean. I could tell you about {names}."
