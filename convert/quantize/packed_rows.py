"""Packed rows of a GGUF, read as floats or copied as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.checkpoint.rows import READ_AHEAD
from convert.quantize.kernels import dequantize

if TYPE_CHECKING:
    from convert.checkpoint.mapped_file import MappedFile
    from convert.checkpoint.rows import Floats
    from convert.quantize.block_types import TensorType


@dataclass(frozen=True)
class PackedRows:
    """A matrix of ggml blocks in a mapped file, its leading axes merged. Pages are released after they are read."""

    file: MappedFile
    kind: TensorType
    offset: int  # of the first row, in bytes from the start of the file
    count: int
    columns: int

    def raw(self, start: int, stop: int) -> bytes:
        """Rows [start, stop) as they are stored: a copy, because another process may truncate the mapped file."""
        row_bytes = self.kind.row_bytes(self.columns)
        offset, nbytes = self.offset + start * row_bytes, (stop - start) * row_bytes
        self.file.ask_for(offset, READ_AHEAD * nbytes)
        copied = bytes(self.file.view(offset, nbytes))
        self.file.release(offset, nbytes)
        return copied

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32, a new array.

        Raises:
            DataError: llama.cpp cannot unpack the type.
        """
        return dequantize(self.raw(start, stop), self.kind, stop - start, self.columns)
