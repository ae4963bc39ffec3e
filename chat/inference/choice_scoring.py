"""Choose among given answers by their probabilities. Knows ids and logits, not text.

An option's probability is that of drawing it id by id, at each step only among ids with which options go on: what
constrained sampling at temperature 1 would do. So the model is asked only where options part: once, as a rule.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chat.errors import EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.request import Sampling

MOST_OPTIONS = 1000
LONGEST_OPTION = 4096  # characters
END = -1  # stands for the end of an option where others go on


@dataclass
class ChoiceNode:
    """Options that begin alike: `next` by the id that follows, END where one of them is complete."""

    options: list[int] = field(default_factory=list)
    next: dict[int, ChoiceNode] = field(default_factory=dict)


def check_options(options: Sequence[str]) -> None:
    """Refuse options that cannot be chosen among.

    Raises:
        UsageError: none, too many, too long, empty, or twice the same.
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
    twice = next((option for at, option in enumerate(options) if option in options[:at]), None)
    if twice is not None:
        raise UsageError(f"`--choice` has the option {twice!r} twice")


def option_tree(options: Sequence[Sequence[int]]) -> ChoiceNode:
    """The options' ids as a tree; each ends in END."""
    root = ChoiceNode()
    for at, ids in enumerate(options):
        branch = root
        branch.options.append(at)
        for token in (*ids, END):
            branch = branch.next.setdefault(token, ChoiceNode())
            branch.options.append(at)
    return root


def probabilities(
    tree: ChoiceNode, ends: frozenset[int], logits_after: Callable[[tuple[int, ...]], NDArray[np.float32]]
) -> dict[int, float]:
    """The probability of each option, summing to 1.

    Args:
        tree: of all options.
        ends: ids that end an answer.
        logits_after: (vocabulary,) logits after the prompt and some ids of an option.
    """
    found: dict[int, float] = {}
    waiting: list[tuple[ChoiceNode, tuple[int, ...], float]] = [(tree, (), 0.0)]
    while waiting:
        branch, ids, logarithm = waiting.pop()
        while len(branch.next) == 1 and len(branch.options) > 1:  # all go on alike: nothing to decide
            (token, branch), *_ = branch.next.items()
            ids = (*ids, token)
        if len(branch.options) == 1 or END in ids:
            for option in branch.options:
                found[option] = math.exp(logarithm - math.log(len(branch.options)))
            continue
        logits = logits_after(ids)
        scores = {token: _score(logits, token, ends) for token in branch.next}
        highest = max(scores.values())
        if not math.isfinite(highest):
            raise EngineError("the model computed NaN instead of numbers", hint="its file is damaged: get it again")
        total = math.log(sum(math.exp(score - highest) for score in scores.values())) + highest
        for token, after in branch.next.items():
            waiting.append((after, (*ids, token), logarithm + scores[token] - total))
    return found


def choose(chances: dict[int, float], sampling: Sampling) -> int:
    """The likeliest option at temperature 0, else one drawn by the seed at that temperature."""
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
    if token != END:
        return float(logits[token])
    scores = [float(logits[end]) for end in ends]
    highest = max(scores, default=-math.inf)
    if not math.isfinite(highest):
        return highest
    return highest + math.log(sum(math.exp(score - highest) for score in scores))
