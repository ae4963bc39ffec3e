"""Make a tiny seeded Mistral and write it as a GGUF, with nothing but the standard library.

Large enough that a wrong engine computes other logits, small enough to be made in a moment.
"""

from __future__ import annotations

import random
import struct
from array import array
from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

ALIGNMENT = 32
U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5  # gguf_type
SINK = -1e30  # an attention sink of weight 0: it makes the carrier's graph Mistral's
UNKNOWN, CONTROL, BYTE = 2, 3, 6  # kinds of pieces


@dataclass(frozen=True)
class Shape:
    """Sizes of the model."""

    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 96
    window: int = 64
    theta: float = 1e4
    epsilon: float = 1e-5
    context: int = 32768
    vocabulary: int = 3 + 256  # three specials and all bytes

    @property
    def head(self) -> int:
        """Numbers of one attention head."""
        return self.hidden // self.heads


@dataclass(frozen=True)
class TinyTensor:
    """Float32 numbers, row by row; `shape` is (rows, columns) or (columns,)."""

    shape: tuple[int, ...]
    values: array[float]


def make_weights(shape: Shape, seed: int = 1) -> dict[str, TinyTensor]:
    """Tensors by GGUF name, the same for a seed on every machine; rows of q and k as NORM rotary wants them."""
    draw = random.Random(seed)

    def matrix(rows: int, columns: int, scale: float) -> TinyTensor:
        width = scale * sqrt(3 / columns)
        return TinyTensor((rows, columns), array("f", [draw.uniform(-width, width) for _ in range(rows * columns)]))

    def norm() -> TinyTensor:
        return TinyTensor((shape.hidden,), array("f", [draw.uniform(0.8, 1.2) for _ in range(shape.hidden)]))

    keys = shape.kv_heads * shape.head
    tensors = {
        "token_embd.weight": matrix(shape.vocabulary, shape.hidden, 8.0),
        "output_norm.weight": norm(),
        "output.weight": matrix(shape.vocabulary, shape.hidden, 4.0),
    }
    for layer in range(shape.layers):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": norm(),
            f"blk.{layer}.attn_q.weight": matrix(shape.hidden, shape.hidden, 2.0),
            f"blk.{layer}.attn_k.weight": matrix(keys, shape.hidden, 2.0),
            f"blk.{layer}.attn_v.weight": matrix(keys, shape.hidden, 2.0),
            f"blk.{layer}.attn_output.weight": matrix(shape.hidden, shape.hidden, 2.0),
            f"blk.{layer}.attn_sinks.weight": TinyTensor((shape.heads,), array("f", [SINK] * shape.heads)),
            f"blk.{layer}.ffn_norm.weight": norm(),
            f"blk.{layer}.ffn_gate.weight": matrix(shape.feed_forward, shape.hidden, 2.0),
            f"blk.{layer}.ffn_up.weight": matrix(shape.feed_forward, shape.hidden, 2.0),
            f"blk.{layer}.ffn_down.weight": matrix(shape.hidden, shape.feed_forward, 2.0),
        }
    return tensors


def write_model(path: Path, shape: Shape, tensors: dict[str, TinyTensor]) -> None:
    """Write a carrier file (`granite_swa`) of float32 tensors."""
    keys = _metadata(shape)
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)))
    for name, (kind, value) in keys.items():
        head += _text(name) + struct.pack("<I", kind) + _packed(kind, value)
    offset = 0
    for name, tensor in tensors.items():
        sizes = tensor.shape[::-1]  # ggml names the columns first
        head += _text(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes) + struct.pack("<IQ", 0, offset)
        offset += _padded(4 * prod(sizes))
    with path.open("wb") as file:
        file.write(head.ljust(_padded(len(head)), b"\0"))
        for tensor in tensors.values():
            data = struct.pack(f"<{len(tensor.values)}f", *tensor.values)
            file.write(data.ljust(_padded(len(data)), b"\0"))


def _metadata(shape: Shape) -> dict[str, tuple[int, Any]]:
    """Every key with its type; an array's value is (type of its items, items)."""
    sizes = {
        "block_count": shape.layers,
        "context_length": shape.context,
        "embedding_length": shape.hidden,
        "feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head,
        "attention.value_length": shape.head,
        "rope.dimension_count": shape.head,
        "vocab_size": shape.vocabulary,
        "attention.sliding_window": shape.window,
    }
    numbers = {"rope.freq_base": shape.theta, "attention.layer_norm_rms_epsilon": shape.epsilon, "logit_scale": 1.0}
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    return {
        "general.architecture": (STRING, "granite_swa"),
        "general.name": (STRING, "the doctor's tiny model"),
        **{f"granite_swa.{name}": (U32, value) for name, value in sizes.items()},
        **{f"granite_swa.{name}": (F32, value) for name, value in numbers.items()},
        "granite_swa.attention.sliding_window_pattern": (ARRAY, (BOOL, [1] * shape.layers)),
        "general.file_type": (U32, 0),
        "tokenizer.ggml.model": (STRING, "llama"),
        "tokenizer.ggml.pre": (STRING, "default"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, pieces)),
        "tokenizer.ggml.scores": (ARRAY, (F32, [0.0] * len(pieces))),
        "tokenizer.ggml.token_type": (ARRAY, (I32, [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256)),
        "tokenizer.ggml.bos_token_id": (U32, 1),
        "tokenizer.ggml.eos_token_id": (U32, 2),
        "mistral_chat.prompt_format": (STRING, "v1"),
    }


def _packed(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        of, items = value
        return struct.pack("<IQ", of, len(items)) + b"".join(_packed(of, item) for item in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<B"}[kind], value)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT
