"""Widen float16, and bytes that stand for floats, to float32: a third of NumPy's time, and of convert's in Q8_0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convert.native.libraries import libraries

if TYPE_CHECKING:
    import numpy.typing as npt


def widen_float16(halves: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """(n,) float16, contiguous, as (n,) float32, a new array; NaN and infinity stay."""
    if not libraries():
        return halves.astype(np.float32)
    library = libraries()[0]
    numbers = np.empty(halves.size, np.float32)
    library.mistral_widen_float16(library.mistral_lanes(), halves.ctypes.data, numbers.ctypes.data, halves.size)
    return numbers


def widen_bytes(codes: npt.NDArray[np.uint8], table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The entry of `table`, (256,) float32, for each of (n,) bytes, contiguous: (n,) float32, a new array."""
    if not libraries():
        return table.take(codes)
    numbers = np.empty(codes.size, np.float32)
    libraries()[0].mistral_widen_bytes(table.ctypes.data, codes.ctypes.data, numbers.ctypes.data, codes.size)
    return numbers
