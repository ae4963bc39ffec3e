"""The types that a tensor of a GGUF can have, by name, with the size of their blocks."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from chat.gguf import types

if TYPE_CHECKING:
    from collections.abc import Mapping


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
