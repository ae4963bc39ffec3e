"""Make a tiny seeded Mistral and write it as a GGUF, with nothing but the standard library.

Large enough that a wrong engine computes other logits, small enough to be made in a moment.
"""

from __future__ import annotations

import random
import struct
from array import array
from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, NamedTuple

from chat.gguf.keys import WINDOWED_ARCHITECTURE, GeneralKey, MistralChatKey, ModelKey, TokenizerKey
from chat.gguf.types import align
from chat.gguf.writer import KeyValue, encode_header

if TYPE_CHECKING:
    from pathlib import Path

F32 = 0  # ggml_type
SINK = -1e30  # an attention sink of weight 0: with it `granite_swa` computes Mistral
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


class _Placed(NamedTuple):
    """A tensor's line in the header; `offset` counts bytes from the start of the tensor data."""

    name: str
    shape: tuple[int, ...]
    ggml_type: int
    offset: int


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
    """Write a GGUF of float32 tensors, of the architecture with a sliding window."""
    placed: list[_Placed] = []
    offset = 0
    for name, tensor in tensors.items():
        placed.append(_Placed(name, tensor.shape, F32, offset))
        offset += align(4 * prod(tensor.shape))
    with path.open("wb") as file:
        file.write(encode_header(_metadata(shape), placed))
        for tensor in tensors.values():
            data = struct.pack(f"<{len(tensor.values)}f", *tensor.values)
            file.write(data.ljust(align(len(data)), b"\0"))


def _metadata(shape: Shape) -> list[KeyValue]:
    sizes = {
        ModelKey.BLOCK_COUNT: shape.layers,
        ModelKey.CONTEXT_LENGTH: shape.context,
        ModelKey.EMBEDDING_LENGTH: shape.hidden,
        ModelKey.FEED_FORWARD_LENGTH: shape.feed_forward,
        ModelKey.HEAD_COUNT: shape.heads,
        ModelKey.HEAD_COUNT_KV: shape.kv_heads,
        ModelKey.KEY_LENGTH: shape.head,
        ModelKey.VALUE_LENGTH: shape.head,
        ModelKey.ROPE_DIMENSION_COUNT: shape.head,
        ModelKey.VOCABULARY_SIZE: shape.vocabulary,
        ModelKey.SLIDING_WINDOW: shape.window,
    }
    numbers = {
        ModelKey.ROPE_FREQ_BASE: shape.theta,
        ModelKey.LAYER_NORM_RMS_EPSILON: shape.epsilon,
        ModelKey.LOGIT_SCALE: 1.0,
    }
    pieces = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)))
    pattern = f"{WINDOWED_ARCHITECTURE}.{ModelKey.SLIDING_WINDOW_PATTERN}"
    return [
        KeyValue(GeneralKey.ARCHITECTURE, "str", WINDOWED_ARCHITECTURE),
        KeyValue(GeneralKey.NAME, "str", "the doctor's tiny model"),
        *(KeyValue(f"{WINDOWED_ARCHITECTURE}.{name}", "u32", value) for name, value in sizes.items()),
        *(KeyValue(f"{WINDOWED_ARCHITECTURE}.{name}", "f32", value) for name, value in numbers.items()),
        KeyValue(pattern, "bool", (True,) * shape.layers),
        KeyValue(GeneralKey.FILE_TYPE, "u32", 0),
        KeyValue(TokenizerKey.MODEL, "str", "llama"),
        KeyValue(TokenizerKey.PRE, "str", "default"),
        KeyValue(TokenizerKey.TOKENS, "str", pieces),
        KeyValue(TokenizerKey.SCORES, "f32", (0.0,) * len(pieces)),
        KeyValue(TokenizerKey.TOKEN_TYPE, "i32", (UNKNOWN, CONTROL, CONTROL, *(BYTE,) * 256)),
        KeyValue(TokenizerKey.BOS_ID, "u32", 1),
        KeyValue(TokenizerKey.EOS_ID, "u32", 2),
        KeyValue(MistralChatKey.PROMPT_FORMAT, "str", "v1"),
    ]
