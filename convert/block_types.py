"""The element and block types a GGUF tensor can have, and what each costs. Knows sizes, not rules."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class BlockType:
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


BLOCK_TYPES: Mapping[str, BlockType] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            BlockType("F32", 0, 1, 4),
            BlockType("F16", 1, 1, 2),
            BlockType("Q4_0", 2, 32, 18),
            BlockType("Q4_1", 3, 32, 20),
            BlockType("Q5_0", 6, 32, 22),
            BlockType("Q5_1", 7, 32, 24),
            BlockType("Q8_0", 8, 32, 34),
            BlockType("Q4_K", 12, 256, 144),
            BlockType("Q5_K", 13, 256, 176),
            BlockType("Q6_K", 14, 256, 210),
            BlockType("IQ4_NL", 20, 32, 18),
            BlockType("IQ4_XS", 23, 256, 136),
            BlockType("BF16", 30, 1, 2),
        )
    }
)
