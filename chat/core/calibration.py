"""What a measurement of an importance matrix is asked, and its result, as values that can be sent between processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CalibrationQuestion:
    """What is measured.

    Attributes:
        model: the file that reads the text.
        text: what is read.
        dataset: the text's name, which is noted in the matrix.
        matrix: an existing file that gets the matrix; None only tries whether the text is long enough.
    """

    model: str
    text: str
    dataset: str
    matrix: str | None


@dataclass(frozen=True)
class CalibrationReport:
    """What was measured.

    Attributes:
        chunks: of the text.
        chunk_size: tokens of each.
        tensors: how many were measured.
        experts: matrices of experts' tensors, counted over all layers.
        unused_experts: those of them that no token was sent to.
    """

    chunks: int
    chunk_size: int
    tensors: int
    experts: int
    unused_experts: int
