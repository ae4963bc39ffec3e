"""compressed-tensors and ModelOpt: integers packed along the inputs, and 4-bit floats (NVFP4, MXFP4).

Integers: weight[o, i] = scale[o, g] * (q[o, i] - zero[o, g]), where g is the group of input i; q and zero are stored
plus half the levels. Floats: weight[o, i] = value[o, i] * scale[o, i // size], and NVFP4 has one more factor for the
whole tensor, by which compressed-tensors divides (`weight_global_scale`) and ModelOpt multiplies (`weight_scale_2`).
Source: compressed-tensors 0.20, `compressors/pack_quantized`, `compressors/nvfp4`, `compressors/mx_utils.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from convert.checkpoint.mapped_file import TensorEntry
from convert.checkpoint.rows import DECODERS, MappedRows
from convert.dequantize.float8 import table
from convert.dequantize.parts import Part, Weight, find_parts, spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from convert.checkpoint.mapped_file import TensorFile
    from convert.checkpoint.rows import Floats

    Tensors = Mapping[str, tuple[TensorFile, TensorEntry]]

WIDTHS = (2, 4, 8)  # bits; others do not divide a word
# e2m1: sign, two bits of exponent, one of fraction
FLOATS_4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)
# e8m0: the values of its bytes
EXPONENTS = np.array([*(2.0 ** (code - 127) for code in range(255)), np.nan], dtype=np.float32)
PARTS = ("packed", "scale", "scale_2", "global_scale", "zero_point", "shape", "g_idx")  # of X.weight


@dataclass(frozen=True)
class IntegerRows:
    """Packed integers as float rows."""

    packed: Part  # (count, columns * bits / 32) words
    scales: MappedRows  # (count, groups)
    zeros: Part | None  # (count * bits / 32, groups) words
    groups: npt.NDArray[np.intp]  # (columns,), the group of each input
    bits: int
    count: int
    columns: int

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop)."""
        shifts = np.arange(0, 32, self.bits, dtype=np.uint32)
        words = _rows_of(self.packed, start, stop).view("<u4")
        made = spread(words, shifts, self.bits, 1)[:, : self.columns].astype(np.float32)
        if self.zeros is None:
            made -= np.float32(1 << (self.bits - 1))
        else:
            first, each = start * self.bits // 32, 32 // self.bits
            zeros = spread(self.zeros.words()[first : -(-stop // each)], shifts, self.bits, 0)
            made -= zeros[start - first * each : stop - first * each].astype(np.float32)[:, self.groups]
        made *= self.scales.read(start, stop)[:, self.groups]
        return made


@dataclass(frozen=True)
class Float4Rows:
    """4-bit floats as float rows."""

    packed: Part  # (count, columns / 2) bytes, the even inputs in the low halves
    scales: Part  # (count, columns / size) bytes
    scale_values: Floats  # (256,): what each byte of a scale means, with the factor of the tensor
    size: int  # inputs that share a scale
    count: int
    columns: int

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop)."""
        codes = _rows_of(self.packed, start, stop)
        made = np.empty((stop - start, self.columns), np.float32)
        made[:, ::2] = FLOATS_4[codes & 15]
        made[:, 1::2] = FLOATS_4[codes >> 4]
        scales = self.scale_values[_rows_of(self.scales, start, stop)]
        grouped = made.reshape(stop - start, -1, self.size)
        grouped *= scales[:, :, None]
        return made


def open_integers(tensors: Tensors, module: str) -> Weight:
    """Make the weight of one layer of packed integers.

    Raises:
        DataError: its tensors do not fit each other, or have a width other than 2, 4 or 8 bits.
    """
    packed, scale, shape = find_parts(tensors, module, "weight_packed", "weight_scale", "weight_shape")
    if len(packed.entry.shape) != 2 or len(scale.entry.shape) != 2:
        raise packed.fault(f"has shape {list(packed.entry.shape)}, but only packed matrices are read")
    shape.need((2,), "I64", "I32")
    count, columns = (int(number) for number in shape.integers())
    words, groups = packed.entry.shape[1], scale.entry.shape[1]
    packed.need((count, words), "I32", "U32")
    scale.need((count, groups), *DECODERS)
    bits = next((width for width in WIDTHS if -(-columns * width // 32) == words), 0) if columns > 0 else 0
    if not bits:
        raise packed.fault(f"has {words} words for {columns} inputs: no numbers of 2, 4 or 8 bits")
    zeros = _part(tensors, f"{module}.weight_zero_point")
    if zeros is not None:
        zeros.need((-(-count * bits // 32), groups), "I32", "U32")
    entry = TensorEntry(f"{module}.weight", "F32", (count, columns), packed.entry.offset, count * columns * 4)
    order = _groups(tensors, module, scale, columns)
    rows = IntegerRows(packed, MappedRows(scale.file, scale.entry), zeros, order, bits, count, columns)
    return Weight(packed.file, entry, rows)


def open_floats(tensors: Tensors, module: str, packed_name: str) -> Weight:
    """Make the weight of one layer of 4-bit floats.

    Args:
        packed_name: `weight_packed`, or `weight` as ModelOpt names it.

    Raises:
        DataError: its tensors do not fit each other.
    """
    packed, scales = find_parts(tensors, module, packed_name, "weight_scale")
    if len(packed.entry.shape) != 2:
        raise packed.fault(f"has shape {list(packed.entry.shape)}, but only packed matrices are read")
    count, half = packed.entry.shape
    columns = 2 * half
    packed.need((count, half), "U8")
    divisor, factor = (_part(tensors, f"{module}.{name}") for name in ("weight_global_scale", "weight_scale_2"))
    is_nvfp4 = divisor is not None or factor is not None
    size = 16 if is_nvfp4 else 32
    if not columns or columns % size:
        raise packed.fault(f"has {columns} inputs, which do not form groups of {size}")
    scales.need((count, columns // size), "F8_E4M3" if is_nvfp4 else "U8", *(() if is_nvfp4 else ("F8_E8M0",)))
    values = table("F8_E4M3") if is_nvfp4 else EXPONENTS
    if divisor is not None:
        values = values / _single(divisor)
    elif factor is not None:
        values = values * _single(factor)
    entry = TensorEntry(f"{module}.weight", "F32", (count, columns), packed.entry.offset, count * columns * 4)
    rows = Float4Rows(packed, scales, values.astype(np.float32), size, count, columns)
    return Weight(packed.file, entry, rows)


def _groups(tensors: Tensors, module: str, scale: Part, columns: int) -> npt.NDArray[np.intp]:
    """The group of each input: (columns,)."""
    groups = scale.entry.shape[1]
    if not groups or columns % groups:
        raise scale.fault(f"has {groups} groups, into which {columns} inputs do not divide")
    given = _part(tensors, f"{module}.weight_g_idx")
    if given is not None:
        given.need((columns,), "I32", "I64")
        order = given.integers().astype(np.intp)
        if (order == -1).all():  # written where the inputs are in their own order
            given = None
        elif order.min() < 0 or order.max() >= groups:
            raise given.fault(f"names groups from {order.min()} to {order.max()}, but there are {groups}")
        else:
            return order
    return np.arange(columns) // (columns // groups)


def _single(part: Part) -> np.float32:
    """The only number of a scale for a whole tensor."""
    if part.entry.elements != 1:
        raise part.fault(f"has shape {list(part.entry.shape)}, but must hold one number")
    number = cast("np.float32", part.floats().reshape(-1)[0])
    if not number > 0:
        raise part.fault(f"is {number}, but must be above 0")
    return number


def _part(tensors: Tensors, name: str) -> Part | None:
    place = tensors.get(name)
    return Part(*place) if place else None


def _rows_of(part: Part, start: int, stop: int) -> npt.NDArray[np.uint8]:
    """The bytes of rows [start, stop) of a matrix, as a new array; their pages are given back."""
    row_bytes = part.entry.nbytes // part.entry.shape[0]
    offset, nbytes = part.entry.offset + start * row_bytes, (stop - start) * row_bytes
    found = np.frombuffer(part.file.file.view(offset, nbytes), dtype=np.uint8).reshape(stop - start, row_bytes).copy()
    part.file.file.release(offset, nbytes)
    return found
