"""Memory-mapped files and the entries of the tensors in them."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from chat import platform
from chat.errors import DataError, FileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Element types under the names safetensors gives them, and their bytes. Other formats translate to these names.
ITEM_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "F64": 8,
        "F32": 4,
        "F16": 2,
        "BF16": 2,
        "F8_E4M3": 1,
        "F8_E5M2": 1,
        "I64": 8,
        "I32": 4,
        "I16": 2,
        "I8": 1,
        "U64": 8,
        "U32": 4,
        "U16": 2,
        "U8": 1,
        "BOOL": 1,
    }
)


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: contiguous, row-major, little-endian."""

    name: str  # as the checkpoint spells it
    dtype: str  # a key of ITEM_BYTES
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file
    nbytes: int  # prod(shape) * ITEM_BYTES[dtype]

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds; 1 for a scalar."""
        return prod(self.shape)


class MappedFile:
    """A file mapped for reading. Its pages belong to the page cache, not to this process."""

    def __init__(self, path: Path) -> None:
        """Map `path`.

        Raises:
            FileError: it cannot be opened.
            DataError: it is empty or no regular file.
        """
        if not path.is_file():  # a FIFO would hang in open()
            problem = "is not a regular file" if path.exists() else "does not exist"
            raise DataError(f"{path}: {problem}")
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                if size == 0:
                    raise DataError(f"{path}: the file is empty")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise FileError(f"{path}: {error.strerror}") from error
        self.path = path
        self.size = size

    def view(self, offset: int, nbytes: int) -> memoryview:
        """The bytes in [offset, offset + nbytes), not copied; the caller has checked the range."""
        return memoryview(self._map)[offset : offset + nbytes]

    def ask_for(self, offset: int, nbytes: int) -> None:
        """Have the disk fetch a range that is wanted soon, so that nobody waits for it page by page."""
        first = offset // mmap.PAGESIZE * mmap.PAGESIZE
        last = min(offset + nbytes, self.size)
        if last > first:
            platform.prefetch(self._map, first, last - first)

    def release(self, offset: int, nbytes: int) -> None:
        """Unmap the whole pages within a range that has been used; reading them again maps them again."""
        first = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (offset + nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            platform.release(self._map, first, last - first)


@dataclass(frozen=True)
class TensorFile:
    """One opened file of tensors, whatever its format; `metadata` is the format's own free text, if it has any.

    Whoever makes one has checked that every entry lies inside the file and that no dtype is unknown.
    """

    file: MappedFile
    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def path(self) -> Path:
        """Where the file is, for error messages."""
        return self.file.path

    def view(self, name: str) -> memoryview:
        """One tensor's bytes, not copied."""
        entry = self.tensors[name]
        return self.file.view(entry.offset, entry.nbytes)
