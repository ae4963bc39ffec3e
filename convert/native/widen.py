"""Numbers as a checkpoint stores them, and their widening to float32: a third of NumPy's time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.native.libraries import libraries

if TYPE_CHECKING:
    import numpy.typing as npt

FORMS = {"F32": 0, "F16": 1, "BF16": 2}  # enum Form of the kernels, by the names of safetensors


@dataclass(frozen=True)
class Numbers:
    """Numbers in the form in which they are stored; the fast kernels take them so, and widen what they pack.

    Attributes:
        form: a key of FORMS.
        values: contiguous, of any shape: float32, float16, or uint16 for bfloat16.
    """

    form: str
    values: npt.NDArray[Any]

    def widened(self) -> npt.NDArray[np.float32]:
        """The same numbers as float32, of the same shape; NaN and infinity stay."""
        return self.values.astype(np.float32, copy=False) if self.form == "F32" else _widen(self.values, self.form)


def _widen(halves: npt.NDArray[Any], form: str) -> npt.NDArray[np.float32]:
    if not libraries():
        if form == "F16":
            return halves.astype(np.float32)
        words: npt.NDArray[np.uint32] = np.left_shift(halves, 16, dtype=np.uint32)
        return words.view(np.float32)
    library = libraries()[0]
    numbers: npt.NDArray[np.float32] = np.empty(halves.shape, np.float32)
    library.mistral_widen(library.mistral_lanes(), FORMS[form], halves.ctypes.data, numbers.ctypes.data, halves.size)
    return numbers


def widen_bytes(codes: npt.NDArray[np.uint8], table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The entry of `table`, (256,) float32, for each of (n,) bytes, contiguous: (n,) float32, a new array."""
    if not libraries():
        return table.take(codes)
    numbers = np.empty(codes.size, np.float32)
    libraries()[0].mistral_widen_bytes(table.ctypes.data, codes.ctypes.data, numbers.ctypes.data, codes.size)
    return numbers
