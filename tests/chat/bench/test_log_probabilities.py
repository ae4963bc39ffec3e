"""Losses and divergences beside the plain formulas, in Python's own numbers."""

from __future__ import annotations

import math
from statistics import stdev

import numpy as np
import pytest
from numpy.typing import NDArray

from chat.bench.log_probabilities import (
    Comparison,
    PackedProbabilities,
    compare,
    divergence,
    mean,
    pack,
    perplexity,
    token_losses,
)

Rows = NDArray[np.float32]

VOCABULARY = 53


def logits_of(seed: int, rows: int = 40, spread: float = 3.0) -> Rows:
    made = np.random.default_rng(seed).normal(0, spread, (rows, VOCABULARY))
    return made.astype(np.float32)


def log_probabilities(row: NDArray[np.float32]) -> list[float]:
    numbers = [float(number) for number in row]
    total = math.fsum(math.exp(number) for number in numbers)
    return [number - math.log(total) for number in numbers]


def following(rows: int) -> NDArray[np.intp]:
    return np.arange(rows) * 7 % VOCABULARY


def test_losses_are_minus_the_log_probabilities_of_the_tokens_that_follow() -> None:
    logits, tokens = logits_of(1), following(40)
    plain = [-log_probabilities(row)[token] for row, token in zip(logits, tokens, strict=True)]
    assert token_losses(logits, tokens) == pytest.approx(plain, abs=1e-6)
    assert perplexity(token_losses(logits, tokens)).value == pytest.approx(math.exp(math.fsum(plain) / 40), rel=1e-6)


def test_large_logits_do_not_overflow() -> None:
    logits = logits_of(2) + np.float32(10_000)
    assert token_losses(logits, following(40)) == pytest.approx(token_losses(logits_of(2), following(40)), abs=2e-3)


def test_packed_rows_are_within_half_a_step_and_end_16_nats_below_the_highest() -> None:
    logits = logits_of(3, spread=8)
    packed = pack(logits)
    unpacked = packed.codes * packed.scales[:, None] + packed.lowest[:, None]
    exact = np.array([log_probabilities(row) for row in logits])
    reached = logits > logits.max(axis=1, keepdims=True) - 16
    assert not reached.all()
    step = 16 / 65535
    assert np.abs(unpacked - exact)[reached].max() < step / 2 + 1e-5
    assert set(packed.codes[~reached].tolist()) == {0}
    assert packed.codes.max(axis=1).tolist() == [65535] * 40


def test_packed_rows_survive_as_bytes() -> None:
    packed = pack(logits_of(4))
    data = packed.to_bytes()
    assert len(data) == PackedProbabilities.size(40, VOCABULARY)
    read = PackedProbabilities.from_bytes(data, 40)
    for name in ("scales", "lowest", "codes"):
        assert np.array_equal(getattr(read, name), getattr(packed, name))


def test_a_comparison_is_that_of_the_plain_formulas() -> None:
    reference, tokens = logits_of(5), following(40)
    model = reference + logits_of(6, spread=0.3)
    found = compare(model, pack(reference), tokens)
    for at, token in enumerate(tokens):
        p, q = log_probabilities(reference[at]), log_probabilities(model[at])
        plain = math.fsum(math.exp(old) * (old - new) for old, new in zip(p, q, strict=True))
        assert found.divergences[at] == pytest.approx(plain, abs=2e-4)
        assert found.losses[at] == pytest.approx(-q[token], abs=1e-6)
        assert found.reference_losses[at] == pytest.approx(-p[token], abs=2e-4)
        assert found.changes[at] == pytest.approx(math.exp(q[token]) - math.exp(p[token]), abs=2e-4)
        assert found.same_top[at] == (p.index(max(p)) == q.index(max(q)))
    assert 0 < found.same_top.sum() < 40


def test_a_model_beside_itself_differs_by_the_rounding_alone() -> None:
    logits = logits_of(7)
    found = divergence(compare(logits, pack(logits), following(40)))
    assert abs(found.mean.value) < 2e-5
    assert (found.same_top.value, found.same_top.error) == (1, 0)
    assert found.perplexity_ratio.value == pytest.approx(1, abs=1e-4)


def test_rows_of_equal_logits_and_tokens_that_cannot_occur_have_a_finite_divergence() -> None:
    equal = np.zeros((2, VOCABULARY), np.float32)
    barred = equal.copy()
    barred[:, 0] = -np.inf
    tokens = np.array([1, 2])
    assert compare(equal, pack(equal), tokens).divergences.tolist() == [0, 0]
    found = compare(barred, pack(barred), tokens)
    assert found.losses == pytest.approx([math.log(VOCABULARY - 1)] * 2)
    assert found.divergences == pytest.approx([0, 0], abs=2e-5)


def test_a_mean_has_the_standard_error_of_the_text_books() -> None:
    values = np.array([0.5, 2.0, 1.0, 4.0, 0.25])
    found = mean(values)
    assert (found.value, found.error) == pytest.approx((1.55, stdev(values.tolist()) / 5**0.5))
    doubled = perplexity(values)
    assert (doubled.value, doubled.error) == pytest.approx((math.exp(1.55), math.exp(1.55) * found.error))


def test_the_statistics_of_known_divergences() -> None:
    """The fractions lie between values, linearly, as in llama-perplexity."""
    count = 1001
    values = np.arange(count) / 1000
    zeros = np.zeros(count)
    found = divergence(Comparison(zeros + 2, zeros + 1, values, zeros + 0.5, values > 0.25))
    assert (found.median, found.maximum) == pytest.approx((0.5, 1))
    assert (found.percentile_99, found.percentile_99_9) == pytest.approx((0.99, 0.999))
    assert found.mean.value == pytest.approx(0.5)
    share = 750 / count
    assert found.same_top.value == pytest.approx(share)
    assert found.same_top.error == pytest.approx((share * (1 - share) / (count - 1)) ** 0.5)
    assert (found.probability_change.value, found.probability_change.error) == pytest.approx((0.5, 0))
    assert (found.perplexity_ratio.value, found.perplexity_ratio.error) == pytest.approx((math.e, 0))


def test_parts_are_joined_in_order() -> None:
    logits, tokens = logits_of(8), following(40)
    whole = compare(logits, pack(logits_of(9)), tokens)
    parts = [
        compare(logits[at : at + 15], pack(logits_of(9)[at : at + 15]), tokens[at : at + 15]) for at in (0, 15, 30)
    ]
    assert Comparison.joined(parts).divergences.tolist() == pytest.approx(whole.divergences.tolist(), abs=1e-7)
