"""Pack float rows into ggml blocks, and unpack them, with llama.cpp's own library libggml-base or our fast kernels."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from chat import platform
from chat.errors import ChatError, DataError
from chat.gguf import types
from convert.checkpoint.rows import READ_AHEAD
from convert.native.packers import PACKED_TYPES, Packer, packers, sample
from convert.native.widen import Numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from convert.checkpoint.mapped_file import MappedFile
    from convert.checkpoint.rows import Floats

# The largest float16. Blocks keep their scales in float16, and ggml's search for the scales of a K-quant fails
# silently where the cubes of larger numbers overflow float32.
MAX_FLOAT16 = 65504.0


def library_path() -> Path:
    """The path of llama-cpp-python's libggml-base; the package itself is not imported.

    Raises:
        ChatError: it is not installed.
    """
    name = platform.library_file("ggml-base")
    folder = os.environ.get("LLAMA_CPP_LIB_PATH")  # llama-cpp-python's own override
    if folder is None:
        spec = importlib.util.find_spec("llama_cpp")
        folder = str(Path(spec.origin).parent / "lib") if spec and spec.origin else ""
    path = Path(folder) / name
    if not path.is_file():
        raise ChatError(f"`{name}` of llama-cpp-python was not found", hint="reinstall the package llama-cpp-python")
    return path


_TO_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _TypeTraits(ctypes.Structure):
    """struct ggml_type_traits."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", _TO_FLOAT),
        ("from_float_ref", ctypes.c_void_p),
    )


@cache
def library() -> ctypes.CDLL:
    """libggml-base, loaded once.

    Raises:
        ChatError: it is not installed.
        OSError: it cannot be loaded.
    """
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # before the library loads: an abort must not start a debugger
    loaded = ctypes.CDLL(str(library_path()))
    loaded.ggml_quantize_chunk.restype = ctypes.c_size_t
    loaded.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    ]
    loaded.ggml_get_type_traits.restype = ctypes.POINTER(_TypeTraits)
    loaded.ggml_get_type_traits.argtypes = [ctypes.c_int]
    return loaded


def load_library() -> None:
    """Load libggml-base now, so that a broken installation is found before any work.

    Raises:
        ChatError: it is not installed, or cannot be loaded.
    """
    try:
        library()
    except OSError as error:
        raise ChatError(f"llama-cpp-python's library cannot be loaded ({error})") from error


def quantize(
    numbers: Numbers, kind: TensorType, name: str, first_row: int = 0, importance: Floats | None = None
) -> npt.NDArray[np.uint8]:
    """Pack rows into ggml blocks. Releases the interpreter lock while it works.

    Args:
        numbers: (n, columns), contiguous; columns divide by the block of `kind`.
        kind: The type of the blocks.
        name: The tensor's name, for errors.
        first_row: The tensor's row that is the first one, for errors.
        importance: (columns,) float32, the mean squared input of each column.

    Returns:
        (n, bytes of a row) uint8, a new array.

    Raises:
        DataError: a number is NaN, infinite, or too large for `kind`.
        ValueError: the arrays do not have these shapes.
        ChatError: llama.cpp packs another number of bytes than `kind` has.
    """
    count, columns = numbers.values.shape
    if (
        not kind.fits(columns)
        or not numbers.values.flags.c_contiguous
        or (importance is not None and importance.shape != (columns,))
    ):
        raise ValueError(f"{name}: rows of {columns} cannot be packed as {kind.name}")
    packer = packer_of(kind, has_importance=importance is not None)
    if packer is not None:
        packed = np.empty((count, kind.row_bytes(columns)), dtype=np.uint8)
        if packer.pack(kind.ggml_id, numbers, packed, importance, _quantize_address()):
            return packed
    rows = numbers.widened()
    if not _fits_float16(rows):
        _check_large(rows, kind, name, first_row)
    return _pack_with_ggml(rows, kind, importance)


def _pack_with_ggml(rows: Floats, kind: TensorType, importance: Floats | None) -> npt.NDArray[np.uint8]:
    count, columns = rows.shape
    packed = np.empty((count, kind.row_bytes(columns)), dtype=np.uint8)
    weights = None if importance is None else importance.ctypes.data
    written = library().ggml_quantize_chunk(
        kind.ggml_id, rows.ctypes.data, packed.ctypes.data, 0, count, columns, weights
    )
    if written != packed.nbytes:
        raise ChatError(f"llama.cpp packed {written} bytes as {kind.name} where {packed.nbytes} were expected")
    return packed


def _quantize_address() -> int:
    return ctypes.cast(library().ggml_quantize_chunk, ctypes.c_void_p).value or 0


@cache
def packer_of(kind: TensorType, *, has_importance: bool) -> Packer | None:
    """The fast kernels for a type, if there are any whose bytes are those of this build of ggml."""
    if kind.name not in PACKED_TYPES:
        return None
    rows, columns = sample()
    importance = columns if has_importance else None
    expected = _pack_with_ggml(rows, kind, importance)
    for packer in packers():
        packed = np.empty_like(expected)
        packer.pack(kind.ggml_id, Numbers("F32", rows), packed, importance, _quantize_address())
        if np.array_equal(packed, expected):
            return packer
    return None


def slow_types(kinds: Iterable[tuple[TensorType, bool]]) -> list[str]:
    """Which types have fast kernels that were built, but give other bytes than this build of ggml.

    Args:
        kinds: types, each with whether an importance matrix is used.
    """
    if not packers():
        return []
    slow = {kind.name for kind, has in kinds if kind.name in PACKED_TYPES and not packer_of(kind, has_importance=has)}
    return sorted(slow)


def kernel_state() -> dict[str, Any]:
    """What `doctor` reports: the instruction set of the fast kernels, if there are any, and the types they do not pack.

    Raises:
        ChatError: libggml-base is not installed.
        OSError: it cannot be loaded.
    """
    best = packers()[:1]
    kinds = [(BLOCK_TYPES[name], has_importance) for name in PACKED_TYPES for has_importance in (False, True)]
    return {"instruction_set": best[0].instruction_set if best else None, "slow": slow_types(kinds)}


def dequantize(raw: bytes, kind: TensorType, count: int, columns: int) -> Floats:
    """Unpack ggml blocks with llama.cpp's own code. Releases the interpreter lock while it works.

    Args:
        raw: `count` rows of `columns` numbers, as a GGUF stores them.

    Returns:
        (count, columns) float32, a new array.

    Raises:
        DataError: llama.cpp cannot unpack the type.
        ValueError: `raw` has another length.
    """
    traits = library().ggml_get_type_traits(kind.ggml_id).contents
    if not traits.to_float or traits.blck_size != kind.block or traits.type_size != kind.block_bytes:
        raise DataError(f"llama.cpp cannot unpack {kind.name}")
    if len(raw) != count * kind.row_bytes(columns):
        raise ValueError(f"{len(raw)} bytes are not {count} rows of {columns} as {kind.name}")
    numbers = np.empty((count, columns), dtype=np.float32)
    traits.to_float(raw, numbers.ctypes.data, count * columns)
    return numbers


def _fits_float16(rows: Floats) -> bool:
    """Whether every number lies within float16's range; NaN fails every comparison.

    Weights are small, so the sum of their squares, one pass over them, nearly always proves it.
    """
    numbers = rows.reshape(-1)
    with np.errstate(all="ignore"):
        if np.dot(numbers, numbers) < MAX_FLOAT16**2 / 4:  # the margin covers float32's rounding
            return True
    return bool(rows.min() >= -MAX_FLOAT16) and bool(rows.max() <= MAX_FLOAT16)


def _check_large(rows: Floats, kind: TensorType, name: str, first_row: int) -> None:
    bad = np.argwhere(~np.isfinite(rows))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{name}: {rows[row, column]} in row {first_row + row}, column {column}",
            hint="the checkpoint is damaged; download it again",
        )
    if kind.name not in ("F32", "BF16"):
        row, column = np.unravel_index(np.argmax(np.abs(rows)), rows.shape)
        option = "--mmproj-type" if name.startswith(("v.", "mm.")) else "-t"
        raise DataError(
            f"{name}: {rows[row, column]:g} in row {first_row + row} is too large for {kind.name}",
            hint=f"use `{option} BF16`",
        )


@dataclass(frozen=True)
class TensorType:
    """A ggml type: `block` numbers are packed into `block_bytes` bytes."""

    name: str
    ggml_id: int  # enum ggml_type
    block: int
    block_bytes: int

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row; `columns` divides by `block`."""
        return columns // self.block * self.block_bytes

    def fits(self, columns: int) -> bool:
        """Whether rows of this length can have the type."""
        return columns % self.block == 0

    @property
    def is_quantized(self) -> bool:
        """Whether numbers share a block, as opposed to plain floats."""
        return self.block > 1


ALL_TYPES: Mapping[str, TensorType] = MappingProxyType(
    {
        kind.name: TensorType(kind.name, number, kind.block_size, kind.block_bytes)
        for number, kind in types.BLOCK_TYPES.items()
    }
)
# the types that convert writes; a GGUF may hold others, which are copied
_WRITTEN = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
    *("Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"),
)
BLOCK_TYPES: Mapping[str, TensorType] = MappingProxyType(
    {name: kind for name, kind in ALL_TYPES.items() if name in _WRITTEN}
)


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
        return self.unpack(self.raw(start, stop))

    def unpack(self, raw: bytes) -> Floats:
        """Rows as they are stored as (n, columns) float32, a new array.

        Raises:
            DataError: llama.cpp cannot unpack the type.
        """
        return dequantize(raw, self.kind, len(raw) // self.kind.row_bytes(self.columns), self.columns)
