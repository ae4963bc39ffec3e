"""AWQ in its GEMM form: 4 bits packed along the outputs in an interleaved order, scale and zero per group.

weight[o, i] = scales[i // g, o] * (q[i, o] - zero[i // g, o])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.checkpoint.mapped_file import TensorEntry
from convert.dequantize.parts import Part, Weight, find_parts, spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.checkpoint.mapped_file import TensorFile
    from convert.checkpoint.rows import Floats

EACH = 8  # numbers in a word
# where in its word each of 8 neighbouring outputs lies: the word holds outputs 0 2 4 6 1 3 5 7, lowest bits first
SHIFTS = np.array([4 * place for place in (0, 4, 1, 5, 2, 6, 3, 7)], dtype=np.uint32)


@dataclass(frozen=True)
class AwqRows:
    """An AWQ weight as float rows, one for each output."""

    qweight: Part  # (columns, count / 8)
    qzeros: Part  # (groups, count / 8)
    scales: Part  # (groups, count)
    group_size: int
    count: int  # outputs
    columns: int  # inputs

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop)."""
        first, last = start // EACH, -(-stop // EACH)
        inside = slice(start - first * EACH, stop - first * EACH)
        numbers = spread(self.qweight.words()[:, first:last], SHIFTS, 4, 1)[:, inside]  # (columns, n)
        zeros = spread(self.qzeros.words()[:, first:last], SHIFTS, 4, 1)[:, inside]  # (groups, n)
        scales = self.scales.floats()[:, start:stop]  # (groups, n)
        grouped = numbers.astype(np.float32).reshape(-1, self.group_size, stop - start)  # (groups, g, n)
        grouped -= zeros.astype(np.float32)[:, None, :]
        grouped *= scales[:, None, :]
        for part in (self.qweight, self.qzeros, self.scales):
            part.release()
        return np.ascontiguousarray(grouped.reshape(self.columns, stop - start).T)


def open_awq(tensors: Mapping[str, tuple[TensorFile, TensorEntry]], module: str) -> Weight:
    """Make the weight of one AWQ layer.

    Raises:
        DataError: its tensors do not fit each other.
    """
    qweight, qzeros, scales = find_parts(tensors, module, "qweight", "qzeros", "scales")
    if len(qweight.entry.shape) != 2 or len(scales.entry.shape) != 2:
        raise qweight.fault(f"has shape {list(qweight.entry.shape)}, but AWQ packs matrices")
    inputs, words = qweight.entry.shape
    groups = scales.entry.shape[0]
    qweight.need((inputs, words), "I32", "U32")
    qzeros.need((groups, words), "I32", "U32")
    scales.need((groups, words * EACH), "F16", "BF16", "F32")
    if not groups or not inputs or inputs % groups:
        raise scales.fault(f"has {groups} groups, into which {inputs} inputs do not divide")
    entry = TensorEntry(
        f"{module}.weight", "F32", (words * EACH, inputs), qweight.entry.offset, words * EACH * inputs * 4
    )
    return Weight(qweight.file, entry, AwqRows(qweight, qzeros, scales, inputs // groups, words * EACH, inputs))
