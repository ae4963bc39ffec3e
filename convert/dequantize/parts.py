"""Find, check and read the tensors that make up one quantized weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chat.errors import DataError
from convert.checkpoint.rows import DECODERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from convert.checkpoint.mapped_file import TensorEntry, TensorFile
    from convert.checkpoint.rows import Floats, Rows

    Words = npt.NDArray[np.uint32]

_INTEGERS = {"I32": "<i4", "I64": "<i8", "U32": "<u4", "U8": "u1"}


@dataclass(frozen=True)
class Weight:
    """A tensor of the checkpoint as the rest of convert sees it; `rows` where it is not simply what lies at `entry`."""

    file: TensorFile
    entry: TensorEntry
    rows: Rows | None = None


@dataclass(frozen=True)
class Part:
    """One tensor as it lies."""

    file: TensorFile
    entry: TensorEntry

    def fault(self, problem: str) -> DataError:
        """An error about this tensor."""
        return DataError(f"{self.file.path}: tensor `{self.entry.name[:120]}` {problem}")

    def need(self, shape: tuple[int, ...], *dtypes: str) -> None:
        """See that it has this shape and one of these types.

        Raises:
            DataError: it has not.
        """
        if self.entry.dtype not in dtypes:
            raise self.fault(f"holds {self.entry.dtype}, but must hold {' or '.join(dtypes)}")
        if self.entry.shape != shape:
            raise self.fault(f"has shape {list(self.entry.shape)}, but must have {list(shape)}")

    def floats(self) -> Floats:
        """All its numbers, in its own shape.

        Raises:
            DataError: it holds no floats.
        """
        decode = DECODERS.get(self.entry.dtype)
        if decode is None:
            raise self.fault(f"holds {self.entry.dtype}, not floats")
        return decode(self.file.view(self.entry.name)).reshape(self.entry.shape)

    def integers(self) -> npt.NDArray[Any]:
        """All its integers, mapped, in its own shape; `release` gives the pages back."""
        dtype = _INTEGERS[self.entry.dtype]
        return np.frombuffer(self.file.view(self.entry.name), dtype=dtype).reshape(self.entry.shape)

    def words(self) -> Words:
        """Its 32-bit words without a sign, mapped."""
        return self.integers().view("<u4")

    def release(self) -> None:
        """Give the pages back that were read."""
        self.file.file.release(self.entry.offset, self.entry.nbytes)


def find_parts(tensors: Mapping[str, tuple[TensorFile, TensorEntry]], module: str, *names: str) -> list[Part]:
    """The tensors `MODULE.NAME` of a quantized layer.

    Raises:
        DataError: one is missing.
    """
    found = []
    for name in names:
        place = tensors.get(f"{module}.{name}")
        if place is None:
            raise DataError(f"the quantized layer `{module[:120]}` lacks its `{name}`")
        found.append(Part(*place))
    return found


def spread(words: Words, shifts: npt.NDArray[np.uint32], bits: int, axis: int) -> npt.NDArray[np.uint8]:
    """Take the numbers of `bits` bits out of 32-bit words; they lie next to each other along `axis`.

    Args:
        words: (n, m).
        shifts: Where in a word each number starts, in the order of the numbers.

    Returns:
        (n * len(shifts), m) for axis 0, (n, m * len(shifts)) for axis 1.
    """
    mask = np.uint32((1 << bits) - 1)
    height, width = words.shape
    if axis == 0:
        numbers = words[:, None, :] >> shifts[None, :, None] & mask
        return numbers.astype(np.uint8).reshape(height * len(shifts), width)
    numbers = words[:, :, None] >> shifts[None, None, :] & mask
    return numbers.astype(np.uint8).reshape(height, width * len(shifts))
