"""Options have the probabilities that drawing them id by id, among the options alone, would give them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from chat.errors import UsageError
from chat.inference.choice_scoring import check_options, option_tree, probabilities
from chat.inference.logprobs import LogProbs

SIZE, ENDS = 12, frozenset({2, 3})


def logits_after(ids: Sequence[int]) -> NDArray[np.float32]:
    """(SIZE,) float32 logits that depend on all ids before."""
    seed = random.Random(repr(tuple(ids)))
    return np.array([seed.uniform(-5, 5) for _ in range(SIZE)], dtype=np.float32)


def reference_probability(options: Sequence[tuple[int, ...]], option: tuple[int, ...]) -> float:
    """The product over the ids of an option and its end: each one's share among the ids that the options allow."""
    chance = 1.0
    for at in range(len(option) + 1):
        before = option[:at]
        going = [each for each in options if each[:at] == before]
        weights = np.exp(logits_after(before).astype(np.float64))
        ending = sum(weights[end] for end in ENDS)
        allowed = {each[at] for each in going if len(each) > at}
        total = sum(weights[token] for token in allowed) + (ending if before in going else 0.0)
        chance *= (weights[option[at]] if at < len(option) else ending) / total
    return chance


@pytest.mark.parametrize("seed", range(20))
def test_probabilities_are_those_of_drawing_among_the_options(seed: int) -> None:
    dice = random.Random(seed)
    count = dice.randint(1, 6)
    drawn = {tuple(dice.randint(4, 7) for _ in range(dice.randint(1, 4))) for _ in range(count)}
    options = sorted(drawn)
    asked: list[tuple[int, ...]] = []

    def logits(ids: tuple[int, ...]) -> NDArray[np.float32]:
        asked.append(ids)
        return logits_after(ids)

    found = probabilities(option_tree(options), ENDS, logits)
    assert sum(found.values()) == pytest.approx(1.0)
    assert [found[at] for at in range(len(options))] == pytest.approx(
        [reference_probability(options, each) for each in options]
    )
    assert len(asked) == len(set(asked)) < max(len(options), 1) * 2  # only where options differ


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "needs at least one option"),
        (["a", " "], "has an empty option"),
        (["a", "b", "a"], "has the option 'a' twice"),
        (["x" * 5000], "has 5,000 characters, the limit is 4,096"),
        ([str(at) for at in range(1001)], "has 1,001 options, the limit is 1,000"),
    ],
)
def test_invalid_options_are_refused(options: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_options(options)
    assert caught.value.message.endswith(words)


class Letters:
    """A vocabulary of letters whose ids 2 and 3 end answers."""

    def is_end(self, token: int) -> bool:
        return token in ENDS

    def piece_bytes(self, token: int) -> bytes:
        return b"abcdefghijkl"[token : token + 1]


def test_log_probabilities_are_normalised_without_ends_and_masked_ids() -> None:
    logits = logits_after(())
    logits[5:9] = -np.inf
    logprobs = LogProbs(Letters(), 10)  # type: ignore[arg-type]
    for token in (4, 2):
        logprobs.observe(logits)
        logprobs.record(token)
    (entry,) = logprobs.tokens
    total = math.log(sum(math.exp(float(each)) for each in logits))
    assert (entry["id"], entry["text"]) == (4, "e")
    assert entry["logprob"] == pytest.approx(float(logits[4]) - total)
    assert {each["id"] for each in entry["top"]} == {0, 1, 2, 3, 4, 9, 10, 11}
    assert sum(math.exp(each["logprob"]) for each in entry["top"]) == pytest.approx(1.0)
