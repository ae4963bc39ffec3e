"""Load the libraries of fast kernels. They are compiled when this package is installed, if there is a C++ compiler.

There are two, of the same sources: a compiler may contract a multiplication and an addition into one rounding, or
not, and that decides bytes.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache

MODULES = ("convert.native._kernels", "convert.native._kernels_contracted")
_COUNT = ctypes.c_int64
_ADDRESS = ctypes.c_void_p


@cache
def libraries() -> tuple[ctypes.CDLL, ...]:
    """The libraries that were built and can be loaded, the one without contraction first; none without a compiler."""
    found = (_load(module) for module in MODULES)
    return tuple(library for library in found if library is not None)


def _load(module: str) -> ctypes.CDLL | None:
    spec = importlib.util.find_spec(module)  # a plain library: it is never imported
    if spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
    except OSError:  # built for another machine
        return None
    library.mistral_quantize.restype = ctypes.c_int
    library.mistral_quantize.argtypes = [
        *(ctypes.c_int, ctypes.c_int, ctypes.c_int, _ADDRESS, _ADDRESS),
        *(_COUNT, _COUNT, _ADDRESS, _ADDRESS, _ADDRESS),
    ]
    library.mistral_widen.restype = None
    library.mistral_widen.argtypes = [ctypes.c_int, ctypes.c_int, _ADDRESS, _ADDRESS, _COUNT]
    library.mistral_widen_bytes.restype = None
    library.mistral_widen_bytes.argtypes = [_ADDRESS, _ADDRESS, _ADDRESS, _COUNT]
    return library
