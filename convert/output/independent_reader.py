"""Read a GGUF's list of tensors with llama.cpp's own reader, which shares no code with ours."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from chat.errors import DataError
from convert.quantize.kernels import library

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class TensorPlace:
    """A tensor's place in the file as llama.cpp reads it."""

    name: str
    shape: tuple[int, ...]  # ggml's order, four axes
    type_id: int  # enum ggml_type
    offset: int  # bytes from the start of the file
    nbytes: int


class _InitParams(ctypes.Structure):
    """struct gguf_init_params."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


@cache
def _functions() -> ctypes.CDLL:
    handle, index = ctypes.c_void_p, ctypes.c_int64
    for name, result, arguments in (
        ("gguf_init_from_file", handle, (ctypes.c_char_p, _InitParams)),
        ("gguf_free", None, (handle,)),
        ("gguf_get_data_offset", ctypes.c_size_t, (handle,)),
        ("gguf_get_n_tensors", ctypes.c_int64, (handle,)),
        ("gguf_get_tensor_name", ctypes.c_char_p, (handle, index)),
        ("gguf_get_tensor_ne", ctypes.POINTER(ctypes.c_int64), (handle, index)),
        ("gguf_get_tensor_type", ctypes.c_int, (handle, index)),
        ("gguf_get_tensor_offset", ctypes.c_size_t, (handle, index)),
        ("gguf_get_tensor_size", ctypes.c_size_t, (handle, index)),
    ):
        function = getattr(library(), name)
        function.restype, function.argtypes = result, arguments
    return library()


def read_places(path: Path) -> tuple[TensorPlace, ...]:
    """All tensors in the order of the file.

    Raises:
        DataError: llama.cpp cannot read the file.
    """
    functions = _functions()
    handle = functions.gguf_init_from_file(os.fsencode(path), _InitParams(True, None))
    if not handle:
        raise DataError(f"{path}: llama.cpp cannot read what was written")
    try:
        start = functions.gguf_get_data_offset(handle)
        return tuple(
            TensorPlace(
                functions.gguf_get_tensor_name(handle, number).decode(),
                tuple(functions.gguf_get_tensor_ne(handle, number)[:4]),
                functions.gguf_get_tensor_type(handle, number),
                start + functions.gguf_get_tensor_offset(handle, number),
                functions.gguf_get_tensor_size(handle, number),
            )
            for number in range(functions.gguf_get_n_tensors(handle))
        )
    finally:
        functions.gguf_free(handle)
