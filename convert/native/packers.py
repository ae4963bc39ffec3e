"""Pack blocks with the fast kernels: many blocks at a time, one in each lane of the processor's vectors.

The library that agrees with this machine's libggml-base on a sample of a type packs that type.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from convert.native.libraries import libraries
from convert.native.widen import FORMS, Numbers

if TYPE_CHECKING:
    import ctypes

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

PACKED_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
INSTRUCTION_SETS = {16: "AVX-512", 8: "AVX2"}  # by lanes
SAMPLE_COLUMNS = 512


@dataclass(frozen=True)
class Packer:
    """One library of kernels, used with vectors of `lanes` floats."""

    library: ctypes.CDLL
    lanes: int

    @property
    def instruction_set(self) -> str:
        """The instructions that it uses, for people."""
        return INSTRUCTION_SETS.get(self.lanes, "vectors of 128 bits")

    def pack(
        self, ggml_id: int, rows: Numbers, packed: npt.NDArray[np.uint8], importance: Floats | None, ggml: int
    ) -> bool:
        """Pack rows into ggml blocks. Releases the interpreter lock while it works.

        Args:
            ggml_id: The number of one of PACKED_TYPES.
            rows: (n, columns); columns divide by the type's block.
            packed: (n, bytes of a row) uint8, which is filled.
            importance: (columns,) float32.
            ggml: The address of ggml_quantize_chunk(), which packs the few blocks that are left to it.

        Returns:
            Whether all numbers lie within float16's range; if not, `packed` is of no use.
        """
        means = np.empty(len(rows.values), np.float32)
        fits = self.library.mistral_quantize(
            self.lanes, ggml_id, FORMS[rows.form], rows.values.ctypes.data, packed.ctypes.data, *rows.values.shape,
            None if importance is None else importance.ctypes.data, means.ctypes.data, ggml,
        )  # fmt: skip
        return bool(fits)


@cache
def packers() -> tuple[Packer, ...]:
    """The libraries that were built, with as many lanes as this processor has; none without a compiler."""
    return tuple(Packer(library, int(library.mistral_lanes())) for library in libraries())


@cache
def sample() -> tuple[Floats, Floats]:
    """Numbers whose bytes depend on every rounding: the rows, (n, SAMPLE_COLUMNS), and an importance of the columns.

    A single rounding less changes 1 in 14 blocks of normal numbers in Q4_K, 1 in 500 in IQ4_XS; but most of those that
    are constant, or nearly so.
    """
    generator = np.random.default_rng(16)
    normal = generator.standard_normal((40, SAMPLE_COLUMNS))
    level = generator.standard_normal((12, SAMPLE_COLUMNS // 16)).repeat(16, axis=1)
    near = generator.standard_normal((12, 1)) + 10.0 ** generator.uniform(-8, -1, (12, 1)) * normal[:12]
    spread = normal[:6] * 10.0 ** generator.uniform(-9, 3, (6, SAMPLE_COLUMNS // 16)).repeat(16, axis=1)
    odd = np.zeros((4, SAMPLE_COLUMNS))
    odd[0, 5], odd[1], odd[2], odd[3] = 3.0, -0.0, 0.25, np.tile([1.5, -1.5], SAMPLE_COLUMNS // 2)
    rows = np.concatenate([normal / 50, level, near, spread, odd]).astype(np.float32)
    rows[:20] = (rows[:20].view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # as bfloat16 has them
    return rows, (generator.standard_normal(SAMPLE_COLUMNS) ** 2).astype(np.float32)
