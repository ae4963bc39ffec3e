"""What a measurement of quality is asked, and its results, as values that can be sent between processes."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf

from chat.core.request import EngineOptions


@dataclass(frozen=True)
class QualityQuestion:
    """What is measured.

    Attributes:
        files: how each file is loaded; `context` is the same in all, the tokens of a chunk.
        reference: the file that the others are compared with, loaded first.
        text: what the models read.
        chunks: the most chunks that are read; None reads all.
        folder: an existing folder for the reference's log probabilities.
    """

    files: tuple[EngineOptions, ...]
    reference: EngineOptions | None
    text: str
    chunks: int | None
    folder: str


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error."""

    value: float
    error: float

    def exponential(self) -> Estimate:
        """The exponential of the value, infinite where no float holds it; its error is of first order."""
        try:
            value = exp(self.value)
        except OverflowError:
            value = inf
        return Estimate(value, value * self.error)


@dataclass(frozen=True)
class Divergence:
    """How far a model is from the reference, token by token.

    Attributes:
        mean: Kullback-Leibler divergence in nats, as the next four.
        median: of the scored tokens.
        percentile_99: 1 % of them are above.
        percentile_99_9: 0.1 % of them are above.
        maximum: the worst token.
        same_top: fraction of the tokens where both models think the same token likeliest.
        probability_change: root of the mean square of the change in the right token's probability.
        perplexity_ratio: the model's perplexity divided by the reference's.
    """

    mean: Estimate
    median: float
    percentile_99: float
    percentile_99_9: float
    maximum: float
    same_top: Estimate
    probability_change: Estimate
    perplexity_ratio: Estimate


@dataclass(frozen=True)
class FileQuality:
    """The figures of one file.

    Attributes:
        size: in bytes.
        window: the sliding window in tokens that it was run with.
        perplexity: of the scored tokens.
        divergence: from the reference; None without one, and of the reference itself.
        read_speed: tokens a second, the statistics included.
    """

    path: str
    type: str
    architecture: str
    size: int
    window: int | None
    perplexity: Estimate
    divergence: Divergence | None
    read_speed: float


@dataclass(frozen=True)
class QualityReport:
    """The whole report.

    Attributes:
        build: of llama.cpp.
        text_tokens: of the whole text.
        context: tokens of a chunk.
        chunks: how many were read.
        scored_tokens: the tokens whose probabilities count.
        reference: the file that the others are compared with.
        files: in the order of the command line.
        is_same_text: all files have the same tokens for the text.
    """

    build: str
    text_tokens: int
    context: int
    chunks: int
    scored_tokens: int
    reference: FileQuality | None
    files: tuple[FileQuality, ...]
    is_same_text: bool
