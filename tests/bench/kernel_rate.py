"""Time the fast kernels beside llama.cpp's own on one core, for each type and instruction set, in one run.

    python tests/bench/kernel_rate.py [TYPE]...

Each rate is the best of several runs that take turns, in millions of weights a second.
"""

from __future__ import annotations

import ctypes
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from convert.native.packers import PACKED_TYPES, Packer, packers
from convert.native.widen import Numbers
from convert.quantize.kernels import BLOCK_TYPES, library

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.checkpoint.rows import Floats
    from convert.quantize.kernels import TensorType

ROWS, COLUMNS = 64, 4096
ROUNDS = 7


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def line(kind: TensorType, rows: Floats, importance: Floats | None) -> str:
    """The rates of one type."""
    packed = np.empty((ROWS, kind.row_bytes(COLUMNS)), np.uint8)
    weights = None if importance is None else importance.ctypes.data
    ggml, given = library().ggml_quantize_chunk, (kind.ggml_id, rows.ctypes.data, packed.ctypes.data)
    address = ctypes.cast(ggml, ctypes.c_void_p).value or 0
    best = packers()[0]
    tried = [Packer(best.library, lanes) for lanes in (4, 8, 16) if lanes <= best.lanes]
    works: list[Callable[[], object]] = [partial(ggml, *given, 0, ROWS, COLUMNS, weights)]
    works += [partial(packer.pack, kind.ggml_id, Numbers("F32", rows), packed, importance, address) for packer in tried]
    times = [min(each) for each in zip(*([seconds(work) for work in works] for _ in range(ROUNDS)), strict=True)]
    rates = [rows.size / each / 1e6 for each in times]
    shown = [
        f"{packer.instruction_set} {rate:.0f} ({rate / rates[0]:.1f} times)"
        for packer, rate in zip(tried, rates[1:], strict=True)
    ]
    name = kind.name + (" with importance" if importance is not None else "")
    return f"{name:23} llama.cpp {rates[0]:.1f}; {'; '.join(shown)}"


def main() -> None:
    """Run for the types that the arguments name, or all."""
    random = np.random.default_rng(0)
    rows = (random.standard_normal((ROWS, COLUMNS)) / 50).astype(np.float32)
    importance = (random.standard_normal(COLUMNS) ** 2).astype(np.float32)
    for name in sys.argv[1:] or PACKED_TYPES:
        for given in (None, importance) if name != "Q8_0" else (None,):
            print(line(BLOCK_TYPES[name], rows, given), flush=True)


if __name__ == "__main__":
    main()
