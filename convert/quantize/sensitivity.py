"""Measure what each type loses of each tensor: its own numbers are packed by the packers that would write the file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.native.widen import Numbers
from convert.quantize.kernels import BLOCK_TYPES, PackedRows, TensorType, dequantize, quantize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chat.system.progress import Progress
    from convert.checkpoint.rows import Floats, Rows

SAMPLED_NUMBERS = 1 << 16  # of each tensor, at least one row
RUNS = 8  # of neighbouring rows, spread over the tensor
# from the smallest to the largest; IQ4_NL stands for Q4_0 too, which is as large and loses more
TYPES_OF_256 = ("IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
TYPES_OF_32 = ("IQ4_NL", "Q5_0", "Q5_1", "Q8_0")
OTHER_TYPES = ("F16",)


@dataclass(frozen=True)
class Sampled:
    """A tensor that is measured.

    Attributes:
        name: of the tensor.
        rows: its numbers.
        rows_per_matrix: rows that share one importance vector.
        types: that it may have.
        importance: (matrices, columns) float32, the mean squared input of each column; None counts all the same.
    """

    name: str
    rows: Rows
    rows_per_matrix: int
    types: tuple[TensorType, ...]
    importance: Floats | None = None


def types_for(rows: Rows) -> tuple[TensorType, ...]:
    """The types that a matrix may have, from the smallest to the largest: also its own, whose bytes are copied."""
    own = _own_type(rows)
    for names in (TYPES_OF_256, TYPES_OF_32, OTHER_TYPES):
        kinds = {BLOCK_TYPES[name] for name in names}
        if all(kind.fits(rows.columns) for kind in kinds):
            kinds |= {own} if own else set()
            return tuple(sorted(kinds, key=lambda kind: (kind.block_bytes / kind.block, kind.name)))
    raise AssertionError  # the last ones fit any row


def _own_type(rows: Rows) -> TensorType | None:
    """The type that a matrix has in its source, if it is one that convert writes."""
    return rows.kind if isinstance(rows, PackedRows) and rows.kind.name in BLOCK_TYPES else None


def measure_errors(tensors: Sequence[Sampled], threads: int, progress: Progress) -> list[Mapping[str, float]]:
    """For each tensor and each of its types the squared error of a sample, relative to the sample's own squares.

    A type that a tensor has already loses nothing.

    With an importance matrix every column counts as its inputs do, so that this is the relative error of the outputs.

    Args:
        tensors: what is measured.
        threads: that measure.
        progress: advances by one for each tensor.

    Raises:
        DataError: a tensor holds a number that cannot be written.
    """

    def measure(tensor: Sampled) -> Mapping[str, float]:
        errors = _errors(tensor)
        progress.advance(1)
        return errors

    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(measure, tensors)
        try:
            return list(found)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _errors(tensor: Sampled) -> dict[str, float]:
    lost = dict.fromkeys((kind.name for kind in tensor.types), 0.0)
    whole = 0.0
    packed_types = [kind for kind in tensor.types if kind != _own_type(tensor.rows)]
    for start, stop in _runs(tensor):
        numbers = tensor.rows.read(start, stop)
        weights = None if tensor.importance is None else tensor.importance[start // tensor.rows_per_matrix]
        whole += _squares(numbers, weights)
        for kind in packed_types:
            packed = quantize(Numbers("F32", numbers), kind, tensor.name, start, weights if kind.is_quantized else None)
            back = dequantize(packed.tobytes(), kind, *numbers.shape)
            lost[kind.name] += _squares(np.subtract(back, numbers, out=back), weights)
    return {name: error / whole if whole else 0.0 for name, error in lost.items()}


def _runs(tensor: Sampled) -> Iterator[tuple[int, int]]:
    """Runs of rows, each within one matrix, that have about SAMPLED_NUMBERS together."""
    count, height = tensor.rows.count, tensor.rows_per_matrix
    wanted = max(1, SAMPLED_NUMBERS // tensor.rows.columns)
    if wanted >= count:
        yield from ((start, start + height) for start in range(0, count, height))
        return
    runs = min(RUNS, wanted)
    for number in range(runs):
        start = (2 * number + 1) * count // (2 * runs)
        stop = min(start + wanted // runs, (start // height + 1) * height)
        yield start, stop


def _squares(numbers: Floats, weights: Floats | None) -> float:
    """The sum of squares over all rows, each column times its weight; in float64, as sinks overflow float32."""
    by_column = np.einsum("ij,ij->j", numbers, numbers, dtype=np.float64)
    return float(by_column.sum() if weights is None else by_column @ weights.astype(np.float64))
