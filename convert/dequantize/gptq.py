"""GPTQ: integers of 2, 4 or 8 bits packed along the inputs, scale and zero per group of inputs.

weight[o, i] = scales[g_idx[i], o] * (q[i, o] - zero[g_idx[i], o])

The first format stores each zero less one, modulo the number of levels; `gptq_v2` stores it as it is. `g_idx` says
which group an input belongs to, in any order where activations were sorted (desc_act).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.checkpoint.mapped_file import TensorEntry
from convert.dequantize.parts import Part, Weight, find_parts, spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from convert.checkpoint.mapped_file import TensorFile
    from convert.checkpoint.rows import Floats

WIDTHS = (2, 4, 8)  # bits; three do not divide a word


@dataclass(frozen=True)
class GptqRows:
    """A GPTQ weight as float rows, one for each output."""

    qweight: Part  # (columns * bits / 32, count)
    qzeros: Part  # (groups, count * bits / 32)
    scales: Part  # (groups, count)
    groups: npt.NDArray[np.intp]  # (columns,), the group of each input
    bits: int
    zero_offset: int  # 1 where zeros are stored less one
    count: int  # outputs
    columns: int  # inputs

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop)."""
        each = 32 // self.bits
        shifts = np.arange(0, 32, self.bits, dtype=np.uint32)
        numbers = spread(self.qweight.words()[:, start:stop], shifts, self.bits, 0)  # (columns, n)
        first = start // each
        packed_zeros = self.qzeros.words()[:, first : -(-stop // each)]
        zeros = spread(packed_zeros, shifts, self.bits, 1)[:, start - first * each : stop - first * each]
        zeros = (zeros + np.uint8(self.zero_offset)) & np.uint8((1 << self.bits) - 1)  # (groups, n)
        scales = self.scales.floats()[:, start:stop]  # (groups, n)
        made = numbers.astype(np.float32)
        made -= zeros.astype(np.float32)[self.groups]
        made *= scales[self.groups]
        for part in (self.qweight, self.qzeros, self.scales):
            part.release()
        return np.ascontiguousarray(made.T)


def open_gptq(
    tensors: Mapping[str, tuple[TensorFile, TensorEntry]],
    module: str,
    bits: int | None,
    group_size: int,
    *,
    is_v2: bool,
) -> Weight:
    """Make the weight of one GPTQ layer.

    Args:
        bits: What the configuration says; None to tell it from `g_idx`.
        group_size: Inputs of a group where there is no `g_idx`; -1 for one group.

    Raises:
        DataError: its tensors do not fit each other.
    """
    qweight, qzeros, scales = find_parts(tensors, module, "qweight", "qzeros", "scales")
    if len(qweight.entry.shape) != 2 or len(scales.entry.shape) != 2:
        raise qweight.fault(f"has shape {list(qweight.entry.shape)}, but GPTQ packs matrices")
    words, outputs = qweight.entry.shape
    if not words or not outputs:
        raise qweight.fault(f"has shape {list(qweight.entry.shape)}, which holds no weight")
    order = Part(*tensors[f"{module}.g_idx"]) if f"{module}.g_idx" in tensors else None
    bits = _bits(qweight, words, order, bits)
    inputs, group_count = words * 32 // bits, scales.entry.shape[0]
    qweight.need((words, outputs), "I32", "U32")
    qzeros.need((group_count, outputs * bits // 32), "I32", "U32")
    scales.need((group_count, outputs), "F16", "BF16", "F32")
    groups = _groups(order, inputs, group_count, group_size, scales)
    entry = TensorEntry(f"{module}.weight", "F32", (outputs, inputs), qweight.entry.offset, outputs * inputs * 4)
    rows = GptqRows(qweight, qzeros, scales, groups, bits, 0 if is_v2 else 1, outputs, inputs)
    return Weight(qweight.file, entry, rows)


def _bits(qweight: Part, words: int, order: Part | None, stated: int | None) -> int:
    bits = stated
    if order is not None and words and order.entry.elements:
        bits = words * 32 // order.entry.elements
    if bits not in WIDTHS:
        raise qweight.fault(f"packs numbers of {bits} bits, but GPTQ can be read with {', '.join(map(str, WIDTHS))}")
    return bits


def _groups(order: Part | None, inputs: int, count: int, size: int, scales: Part) -> npt.NDArray[np.intp]:
    """The group of each input."""
    if order is None:
        size = inputs if size <= 0 else size
        if -(-inputs // size) != count:
            raise scales.fault(f"has {count} groups, but {inputs} inputs make {-(-inputs // size)} groups of {size}")
        return np.arange(inputs, dtype=np.intp) // size
    order.need((inputs,), "I32", "I64")
    groups = order.integers().astype(np.intp)
    order.release()
    if len(groups) and not 0 <= int(groups.min()) <= int(groups.max()) < count:
        raise order.fault(f"names group {int(groups.max())} or {int(groups.min())}, but there are {count}")
    return groups
