"""FP8: bytes that are small floats, times a scale for the tensor, for each row, or for each block of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from convert.checkpoint.mapped_file import TensorEntry
from convert.dequantize.parts import Part, Weight
from convert.native.widen import widen_bytes

if TYPE_CHECKING:
    from convert.checkpoint.rows import Floats

KINDS = ("F8_E4M3", "F8_E5M2")


@cache
def table(kind: str) -> Floats:
    """The values of the 256 bytes of an 8-bit float: (256,) float32."""
    codes = np.arange(256, dtype=np.uint8)
    if kind == "F8_E5M2":
        return (codes.astype(np.uint16) << 8).view(np.float16).astype(np.float32)  # a float16 without its low byte
    exponent, mantissa = (codes >> 3) & 15, (codes & 7).astype(np.float32)
    normal = np.ldexp(1 + mantissa / 8, exponent.astype(np.int32) - 7)
    small = np.ldexp(mantissa / 8, -6)
    values = np.where(exponent == 0, small, normal).astype(np.float32)
    values[(codes & 127) == 127] = np.nan  # it has no infinities
    return np.where(codes >= 128, -values, values).astype(np.float32)


@dataclass(frozen=True)
class Float8Rows:
    """An FP8 weight as float rows."""

    weight: Part  # (count, columns)
    scales: Floats  # (row blocks of all experts, column blocks)
    block: tuple[int, int]  # rows and columns that share a scale
    height: int  # rows of one expert
    count: int
    columns: int

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop)."""
        offset, nbytes = self.weight.entry.offset + start * self.columns, (stop - start) * self.columns
        codes = np.frombuffer(self.weight.file.file.view(offset, nbytes), dtype=np.uint8)
        numbers = widen_bytes(codes, table(self.weight.entry.dtype)).reshape(stop - start, self.columns)
        self.weight.file.file.release(offset, nbytes)
        block_rows, width = self.block
        expert, row = np.divmod(np.arange(start, stop), self.height)
        scales = self.scales[expert * -(-self.height // block_rows) + row // block_rows]  # (n, column blocks)
        if scales.shape[1] > 1:
            scales = np.repeat(scales, width, axis=1)[:, : self.columns]
        numbers *= scales
        return numbers


def open_float8(weight: Part, scale: Part, block: tuple[int, int]) -> Weight:
    """Make an FP8 weight: a matrix, or the matrices of all experts one below the other.

    Args:
        block: Rows and columns of a block, where the scale is a matrix of more than one column.

    Raises:
        DataError: the scale does not fit the weight.
    """
    if len(weight.entry.shape) not in (2, 3):
        raise weight.fault(f"has shape {list(weight.entry.shape)}, but FP8 is read from matrices only")
    *outer, rows, columns = weight.entry.shape
    experts = outer[0] if outer else 1
    if not experts or not rows or not columns:
        raise weight.fault(f"has shape {list(weight.entry.shape)}, which holds no weight")
    shape = scale.entry.shape
    scales = scale.floats()
    own = shape[1:] if outer and shape[:1] == (experts,) else shape  # of one expert
    if scale.entry.elements == 1:
        block, scales = (rows, columns), np.repeat(scales.reshape(1, 1), experts, axis=0)
    elif outer and own in ((), (1,), (1, 1)):
        block = (rows, columns)
    elif own in ((rows,), (rows, 1)):
        block = (1, columns)
    elif own != (-(-rows // block[0]), -(-columns // block[1])):
        raise scale.fault(
            f"has shape {list(shape)}, which is not a scale for a weight of {_of(experts, outer)}{rows} x {columns} "
            f"in blocks of {block[0]} x {block[1]}"
        )
    if outer and scale.entry.elements > 1 and shape[0] != experts:
        raise scale.fault(f"has shape {list(shape)}, but there are {experts} experts")
    height = -(-rows // block[0])
    grid = scales.reshape(experts * height, -1)
    nbytes = weight.entry.elements * 4
    entry = TensorEntry(weight.entry.name, "F32", weight.entry.shape, weight.entry.offset, nbytes)
    return Weight(weight.file, entry, Float8Rows(weight, grid, block, rows, experts * rows, columns))


def _of(experts: int, outer: list[int]) -> str:
    return f"{experts} x " if outer else ""
