"""The numbers of a GGUF file: block types, value types, file types, alignment.

Source: ggml.h (`ggml_type`), ggml-common.h (block sizes), gguf.h (`gguf_type`), llama.h (`llama_ftype`) of the
llama.cpp that the engine uses.
"""

from __future__ import annotations

from typing import NamedTuple


class BlockType(NamedTuple):
    """How a row is packed: every `block_size` weights take `block_bytes` bytes."""

    name: str
    block_size: int
    block_bytes: int


class ValueType(NamedTuple):
    """A scalar metadata type: its name in messages, its struct letter and its bytes."""

    name: str
    letter: str
    bytes: int


MAGIC = b"GGUF"  # the first bytes of every file
DEFAULT_ALIGNMENT = 32  # bytes, where a file does not give `general.alignment`

# by number in a tensor's description; the gaps are types that llama.cpp has removed
BLOCK_TYPES: dict[int, BlockType] = {
    0: BlockType("F32", 1, 4),
    1: BlockType("F16", 1, 2),
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    6: BlockType("Q5_0", 32, 22),
    7: BlockType("Q5_1", 32, 24),
    8: BlockType("Q8_0", 32, 34),
    9: BlockType("Q8_1", 32, 36),
    10: BlockType("Q2_K", 256, 84),
    11: BlockType("Q3_K", 256, 110),
    12: BlockType("Q4_K", 256, 144),
    13: BlockType("Q5_K", 256, 176),
    14: BlockType("Q6_K", 256, 210),
    15: BlockType("Q8_K", 256, 292),
    16: BlockType("IQ2_XXS", 256, 66),
    17: BlockType("IQ2_XS", 256, 74),
    18: BlockType("IQ3_XXS", 256, 98),
    19: BlockType("IQ1_S", 256, 50),
    20: BlockType("IQ4_NL", 32, 18),
    21: BlockType("IQ3_S", 256, 110),
    22: BlockType("IQ2_S", 256, 82),
    23: BlockType("IQ4_XS", 256, 136),
    24: BlockType("I8", 1, 1),
    25: BlockType("I16", 1, 2),
    26: BlockType("I32", 1, 4),
    27: BlockType("I64", 1, 8),
    28: BlockType("F64", 1, 8),
    29: BlockType("IQ1_M", 256, 56),
    30: BlockType("BF16", 1, 2),
    34: BlockType("TQ1_0", 256, 54),
    35: BlockType("TQ2_0", 256, 66),
    39: BlockType("MXFP4", 32, 17),
    40: BlockType("NVFP4", 64, 36),
    41: BlockType("Q1_0", 128, 18),
    42: BlockType("Q2_0", 64, 18),
}

# types of matrices that are multiplied with activations, or whose rows are looked up
MATRIX_TYPES: frozenset[str] = frozenset(
    kind.name for kind in BLOCK_TYPES.values() if kind.name not in {"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"}
)

STRING = 8
ARRAY = 9
VALUE_TYPES: dict[int, ValueType] = {
    0: ValueType("u8", "B", 1),
    1: ValueType("i8", "b", 1),
    2: ValueType("u16", "H", 2),
    3: ValueType("i16", "h", 2),
    4: ValueType("u32", "I", 4),
    5: ValueType("i32", "i", 4),
    6: ValueType("f32", "f", 4),
    7: ValueType("bool", "B", 1),
    10: ValueType("u64", "Q", 8),
    11: ValueType("i64", "q", 8),
    12: ValueType("f64", "d", 8),
}

# `general.file_type`, as written after `-t`
FILE_TYPES: dict[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}


def align(count: int, alignment: int = DEFAULT_ALIGNMENT) -> int:
    """`count` bytes with the padding up to a multiple of `alignment`."""
    return -(-count // alignment) * alignment
