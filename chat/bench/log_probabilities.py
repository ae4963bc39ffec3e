"""Losses of a text and the divergence of two models, from their logits.

The formulas and roundings are those of llama-perplexity (llama.cpp, tools/perplexity/perplexity.cpp), so that the
figures can be compared with those that people publish. All probabilities are natural logarithms, in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chat.bench.quality_results import Divergence, Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CODES = 65535  # the highest 16-bit code
RANGE = np.float32(16)  # nats below the likeliest token that the codes reach; what is less likely has code 0
LEAST = np.float32(-16)  # log probability in the reference up to which a token adds nothing to the divergence


@dataclass(frozen=True)
class PackedProbabilities:
    """Log probabilities of every token in 16 bits: `scale * code + lowest`.

    Attributes:
        scales: (rows,) float32.
        lowest: (rows,) float32, of code 0.
        codes: (rows, vocabulary) uint16.
    """

    scales: NDArray[np.float32]
    lowest: NDArray[np.float32]
    codes: NDArray[np.uint16]

    @staticmethod
    def size(rows: int, vocabulary: int) -> int:
        """The bytes of rows as `to_bytes` makes them."""
        return rows * (8 + 2 * vocabulary)

    def to_bytes(self) -> bytes:
        """The arrays one after another, in the machine's byte order."""
        return self.scales.tobytes() + self.lowest.tobytes() + self.codes.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, rows: int) -> PackedProbabilities:
        """The inverse of `to_bytes`; the arrays are views of `data`."""
        return cls(
            np.frombuffer(data, np.float32, rows),
            np.frombuffer(data, np.float32, rows, 4 * rows),
            np.frombuffer(data, np.uint16, offset=8 * rows).reshape(rows, -1),
        )


@dataclass(frozen=True)
class Comparison:
    """What each row of logits shows of a model beside the reference.

    Attributes:
        losses: (rows,) float64, minus the log probability of the token that follows.
        reference_losses: (rows,) float64, the same of the reference.
        divergences: (rows,) float64, Kullback-Leibler divergence of the model from the reference.
        changes: (rows,) float64, probability of the token that follows, minus the reference's.
        same_top: (rows,) bool, whether both have the same likeliest token.
    """

    losses: NDArray[np.float64]
    reference_losses: NDArray[np.float64]
    divergences: NDArray[np.float64]
    changes: NDArray[np.float64]
    same_top: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: Sequence[Comparison]) -> Comparison:
        """The rows of all parts."""
        fields = ("losses", "reference_losses", "divergences", "changes", "same_top")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def token_losses(logits: NDArray[np.float32], tokens: NDArray[np.intp]) -> NDArray[np.float64]:
    """Minus the log probability of the token that follows each row.

    Args:
        logits: (rows, vocabulary) float32.
        tokens: (rows,) the ids that follow.

    Returns:
        (rows,) float64.
    """
    highest, log_sums = _normalizers(logits)
    return highest.astype(np.float64) + log_sums - _chosen(logits, tokens)


def pack(logits: NDArray[np.float32]) -> PackedProbabilities:
    """The log probabilities of all tokens in 16 bits.

    Args:
        logits: (rows, vocabulary) float32.
    """
    highest, log_sums = _normalizers(logits)
    floor = np.maximum(logits.min(axis=1), highest - RANGE)
    scales = (highest - floor) / np.float32(CODES)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales > 0)
    codes = np.rint(np.maximum(logits - floor[:, None], 0) * inverse[:, None])
    lowest = floor - highest - log_sums.astype(np.float32)
    return PackedProbabilities(scales, lowest, np.minimum(codes, CODES).astype(np.uint16))


def compare(logits: NDArray[np.float32], reference: PackedProbabilities, tokens: NDArray[np.intp]) -> Comparison:
    """Compare a model's rows with the reference's.

    Args:
        logits: (rows, vocabulary) float32, of the model.
        reference: of the same rows.
        tokens: (rows,) the ids that follow.
    """
    highest, log_sums = _normalizers(logits)
    normalizers = highest + log_sums.astype(np.float32)
    # (rows, vocabulary) float32: the reference's log probabilities, then the differences
    expected = reference.codes * reference.scales[:, None]
    expected += reference.lowest[:, None]
    reference_losses = -_chosen(expected, tokens)
    losses = highest.astype(np.float64) + log_sums - _chosen(logits, tokens)
    weights = np.exp(expected)
    is_left_out = expected <= LEAST
    expected -= logits
    expected += normalizers[:, None]
    expected *= weights
    expected[is_left_out] = 0
    return Comparison(
        losses=losses,
        reference_losses=reference_losses,
        divergences=expected.sum(axis=1, dtype=np.float64),
        changes=np.exp(-losses) - np.exp(-reference_losses),
        same_top=logits.argmax(axis=1) == reference.codes.argmax(axis=1),
    )


def perplexity(losses: NDArray[np.float64]) -> Estimate:
    """The perplexity of a text with its standard error; losses: (tokens,) float64."""
    return mean(losses).exponential()


def divergence(found: Comparison) -> Divergence:
    """The statistics of a comparison, with standard errors."""
    median, high, highest = np.percentile(found.divergences, (50, 99, 99.9)).tolist()
    squares = mean(found.changes**2)
    root = squares.value**0.5
    return Divergence(
        mean=mean(found.divergences),
        median=median,
        percentile_99=high,
        percentile_99_9=highest,
        maximum=float(found.divergences.max()),
        same_top=mean(found.same_top.astype(np.float64)),
        probability_change=Estimate(root, squares.error / (2 * root) if root else 0.0),
        perplexity_ratio=mean(found.losses - found.reference_losses).exponential(),
    )


def mean(values: NDArray[np.float64]) -> Estimate:
    """The mean of at least two values, (count,) float64, with its standard error."""
    return Estimate(float(values.mean()), float(values.std()) / (len(values) - 1) ** 0.5)


def _normalizers(logits: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The highest logit of each row, (rows,) float32, and the log of the sum of exponentials below it, float64."""
    highest = logits.max(axis=1)
    return highest, np.log(np.exp(logits - highest[:, None]).sum(axis=1, dtype=np.float64))


def _chosen(rows: NDArray[np.float32], tokens: NDArray[np.intp]) -> NDArray[np.float64]:
    """One number of each row, (rows,) float64."""
    return np.take_along_axis(rows, tokens[:, None], axis=1)[:, 0].astype(np.float64)
