"""Choose among given answers by their probabilities.

An option's probability is that of drawing it id by id, at each step only among the ids that continue an option, as
constrained sampling at temperature 1 would. So logits are needed only where options differ: usually once.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chat.errors import UsageError
from chat.inference.generator import InvalidLogitsError
from chat.prompts.segments import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.request import Sampling
    from chat.llama.tokenizer.tokenizer import Tokenizer

MOST_OPTIONS = 1000
LONGEST_OPTION = 4096  # characters
END = -1  # stands for the end of an option where others continue


@dataclass
class ChoiceNode:
    """Options with the same start.

    Attributes:
        options: their indices.
        next: the nodes after each id that may follow; END where one of the options is complete.
    """

    options: list[int] = field(default_factory=list)
    next: dict[int, ChoiceNode] = field(default_factory=dict)


def check_options(options: Sequence[str]) -> None:
    """Refuse options that cannot be chosen among.

    Raises:
        UsageError: there are none or too many, or one is empty, too long, or there twice.
    """
    if not options:
        raise UsageError("`--choice` needs at least one option")
    if len(options) > MOST_OPTIONS:
        raise UsageError(f"`--choice` has {len(options):,} options, the limit is {MOST_OPTIONS:,}")
    for option in options:
        if not option.strip():
            raise UsageError("`--choice` has an empty option")
        if len(option) > LONGEST_OPTION:
            raise UsageError(f"an option of `--choice` has {len(option):,} characters, the limit is {LONGEST_OPTION:,}")
    twice = next((option for index, option in enumerate(options) if option in options[:index]), None)
    if twice is not None:
        raise UsageError(f"`--choice` has the option {twice!r} twice")


def encode_option(vocabulary: Tokenizer, option: str, continues: bool) -> tuple[int, ...]:
    """The ids of an option as an answer.

    Args:
        vocabulary: of the model.
        option: the text.
        continues: the answer continues a text, so the space that SentencePiece puts before a text is left out.
    """
    if not (continues and vocabulary.adds_space):
        return tuple(vocabulary.encode((Text(option),)))
    newline = vocabulary.encode((Text("\n"),))
    return tuple(vocabulary.encode((Text("\n" + option),))[len(newline) :])


def option_tree(options: Sequence[Sequence[int]]) -> ChoiceNode:
    """The options' ids as a tree; each ends in END."""
    root = ChoiceNode()
    for index, ids in enumerate(options):
        node = root
        node.options.append(index)
        for token in (*ids, END):
            node = node.next.setdefault(token, ChoiceNode())
            node.options.append(index)
    return root


def probabilities(
    tree: ChoiceNode, ends: frozenset[int], logits_after: Callable[[tuple[int, ...]], NDArray[np.float32]]
) -> dict[int, float]:
    """The probability of each option by its index; they sum to 1.

    Args:
        tree: of all options.
        ends: ids that end an answer.
        logits_after: gives the (vocabulary,) float32 logits after the prompt and the first ids of an option.

    Raises:
        InvalidLogitsError: the model computed NaN.
    """
    found: dict[int, float] = {}
    waiting: list[tuple[ChoiceNode, tuple[int, ...], float]] = [(tree, (), 0.0)]
    while waiting:
        node, ids, log_probability = waiting.pop()
        while len(node.next) == 1 and len(node.options) > 1:  # all continue alike: nothing to decide
            (token, node), *_ = node.next.items()
            ids = (*ids, token)
        if len(node.options) == 1 or END in ids:
            for option in node.options:
                found[option] = math.exp(log_probability - math.log(len(node.options)))
            continue
        logits = logits_after(ids)
        scores = {token: _score(logits, token, ends) for token in node.next}
        highest = max(scores.values())
        if not math.isfinite(highest):
            raise InvalidLogitsError
        total = math.log(sum(math.exp(score - highest) for score in scores.values())) + highest
        for token, after in node.next.items():
            waiting.append((after, (*ids, token), log_probability + scores[token] - total))
    return found


def choose(chances: dict[int, float], sampling: Sampling) -> int:
    """The index of the likeliest option at temperature 0, else of one drawn with the seed at that temperature."""
    best = max(chances, key=lambda option: (chances[option], -option))
    if sampling.temperature == 0:
        return best
    options = sorted(chances)
    weights = [
        math.exp((math.log(chances[option]) - math.log(chances[best])) / sampling.temperature)
        if chances[option]
        else 0.0
        for option in options
    ]
    return random.Random(sampling.seed).choices(options, weights)[0]


def _score(logits: NDArray[np.float32], token: int, ends: frozenset[int]) -> float:
    """The logit of an id; for END the logarithm of the summed exponentials of all end tokens' logits."""
    if token != END:
        return float(logits[token])
    scores = [float(logits[end]) for end in ends]
    highest = max(scores, default=-math.inf)
    if not math.isfinite(highest):
        return highest
    return highest + math.log(sum(math.exp(score - highest) for score in scores))
