"""Rows that lie packed in a GGUF: read as floats, or taken as the bytes they are. Knows blocks, no tensor's meaning."""

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
    """A matrix of blocks, its leading axes taken together. Pages that were read are given back."""

    file: MappedFile
    kind: TensorType
    offset: int  # of the first row, in bytes from the start of the file
    count: int
    columns: int

    def raw(self, start: int, stop: int) -> bytes:
        """Rows [start, stop) as they are stored: a copy, for the file may be mapped and cut meanwhile."""
        row_bytes = self.kind.row_bytes(self.columns)
        offset, nbytes = self.offset + start * row_bytes, (stop - start) * row_bytes
        self.file.ask_for(offset, READ_AHEAD * nbytes)
        copied = bytes(self.file.view(offset, nbytes))
        self.file.release(offset, nbytes)
        return copied

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop)."""
        return dequantize(self.raw(start, stop), self.kind, stop - start, self.columns)
