"""A tiny seeded Mistral: written as a GGUF for llama.cpp, and computed by plain numpy as a reference for its logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from chat.llama.context import LlamaContext

Array = NDArray[np.float32]

CONTROL, NORMAL, UNKNOWN, BYTE = 3, 1, 2, 6
WORDS = ("the", "cat", "sat", "on", "mat", "and", "dog", "ran", "far", "away", "hello", "world", "INST", "yes", "no")


@dataclass(frozen=True)
class Shape:
    """Sizes of a tiny model; a window makes it a windowed file, on the layers of `windowed` if not on all."""

    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 96
    vocabulary: int = 400
    window: int | None = 64
    windowed: tuple[bool, ...] | None = None
    theta: float = 1e4
    eps: float = 1e-5
    context: int = 32768
    seed: int = 1

    @property
    def head(self) -> int:
        return self.hidden // self.heads


def weights(shape: Shape) -> dict[str, Array]:
    """GGUF tensor names to float32 arrays (rows, columns); q and k rows as llama.cpp's NORM rotary wants them."""
    random = np.random.default_rng(shape.seed)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Array:
        return random.standard_normal((rows, columns), np.float32) * np.float32(scale / np.sqrt(columns))

    def norm() -> Array:
        return (1 + 0.1 * random.standard_normal(shape.hidden)).astype(np.float32)

    tensors = {
        "token_embd.weight": matrix(shape.vocabulary, shape.hidden, 8.0),
        "output_norm.weight": norm(),
        "output.weight": matrix(shape.vocabulary, shape.hidden, 4.0),
    }
    tensors["output.weight"][2] = 0  # the end token is never among the likely ones: answers end when tests want
    kv = shape.kv_heads * shape.head
    for layer in range(shape.layers):
        prefix = f"blk.{layer}."
        tensors |= {
            prefix + "attn_norm.weight": norm(),
            prefix + "attn_q.weight": matrix(shape.hidden, shape.hidden, 2.0),
            prefix + "attn_k.weight": matrix(kv, shape.hidden, 2.0),
            prefix + "attn_v.weight": matrix(kv, shape.hidden, 2.0),
            prefix + "attn_output.weight": matrix(shape.hidden, shape.hidden, 2.0),
            prefix + "ffn_norm.weight": norm(),
            prefix + "ffn_gate.weight": matrix(shape.ffn, shape.hidden, 2.0),
            prefix + "ffn_up.weight": matrix(shape.ffn, shape.hidden, 2.0),
            prefix + "ffn_down.weight": matrix(shape.hidden, shape.ffn, 2.0),
        }
        if shape.window:
            tensors[prefix + "attn_sinks.weight"] = np.full(shape.heads, -1e30, np.float32)
    return tensors


def pieces(size: int) -> tuple[list[bytes], list[float], list[int]]:
    """A SentencePiece-like vocabulary: three specials, all bytes, letters, and a few words."""
    tokens, scores, kinds = [b"<unk>", b"<s>", b"</s>"], [0.0] * 3, [UNKNOWN, CONTROL, CONTROL]
    for byte in range(256):
        tokens.append(b"<0x%02X>" % byte)
        scores.append(0.0)
        kinds.append(BYTE)
    grown = ["▁"] + [chr(c) for c in range(33, 127)]
    for word in WORDS:
        grown += [("▁" + word)[:end] for end in range(2, len(word) + 2)]
    for at, piece in enumerate(dict.fromkeys(grown)):
        tokens.append(piece.encode())
        scores.append(-float(at))
        kinds.append(NORMAL)
    for at in range(len(tokens), size):
        tokens.append(b"zq%d" % at)
        scores.append(-1000.0 - at)
        kinds.append(NORMAL)
    return tokens[:size], scores[:size], kinds[:size]


def write_gguf(
    path: Path, shape: Shape, tensors: dict[str, Array], prompt_format: str = "v1", more: Mapping[str, str] = {}
) -> Path:
    """Write an F32 file: `granite_swa` where the shape has a window, else `llama`; `more` are further keys."""
    arch = "granite_swa" if shape.window else "llama"
    out = gguf.GGUFWriter(path, arch)
    for name, value in more.items():
        out.add_string(name, value)
    out.add_block_count(shape.layers)
    out.add_context_length(shape.context)
    out.add_embedding_length(shape.hidden)
    out.add_feed_forward_length(shape.ffn)
    out.add_head_count(shape.heads)
    out.add_head_count_kv(shape.kv_heads)
    out.add_rope_freq_base(shape.theta)
    out.add_layer_norm_rms_eps(shape.eps)
    out.add_key_length(shape.head)
    out.add_value_length(shape.head)
    out.add_rope_dimension_count(shape.head)
    out.add_vocab_size(shape.vocabulary)
    if shape.window:
        out.add_logit_scale(1.0)
        out.add_sliding_window(shape.window)
        out.add_array(f"{arch}.attention.sliding_window_pattern", list(shape.windowed or [True] * shape.layers))
    tokens, scores, kinds = pieces(shape.vocabulary)
    out.add_tokenizer_model("llama")
    out.add_tokenizer_pre("default")
    out.add_token_list(tokens)
    out.add_token_scores(scores)
    out.add_token_types(kinds)
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_string("mistral_chat.prompt_format", prompt_format)
    out.add_file_type(0)
    return write_out(out, tensors, path)


def write_out(out: gguf.GGUFWriter, tensors: dict[str, Array], path: Path) -> Path:
    """Put the tensors after the keys that `out` was given, and write it all to its `path`."""
    for name, data in tensors.items():
        out.add_tensor(name, data)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def all_logits(decoder: LlamaContext, ids: list[int], sizes: list[int]) -> Array:
    """Logits of every id, fed in batches of the given sizes over and over."""
    rows: list[Array] = []
    at = turn = 0
    while at < len(ids):
        chunk = ids[at : at + sizes[turn % len(sizes)]]
        assert decoder.feed(chunk, len(chunk))
        rows += [decoder.logits(row).copy() for row in range(len(chunk))]
        at, turn = at + len(chunk), turn + 1
    return np.array(rows)


def forward(shape: Shape, tensors: dict[str, Array], ids: list[int]) -> Array:
    """Logits of every position, (n, vocabulary), by definition: window, grouped queries, rotary pairs (2i, 2i+1)."""
    t = {name: data.astype(np.float64) for name, data in tensors.items()}
    x = t["token_embd.weight"][ids]  # (n, hidden)
    n, head, group = len(ids), shape.head, shape.heads // shape.kv_heads
    angles = np.arange(n)[:, None] * shape.theta ** (-np.arange(0, head, 2) / head)  # (n, head/2)
    apart = np.arange(n)[:, None] - np.arange(n)[None, :]
    seen = (apart >= 0) & (apart < (shape.window or n))

    def normed(y: Array, weight: Array) -> Array:
        return y / np.sqrt((y * y).mean(-1, keepdims=True) + shape.eps) * weight

    def turned(y: Array) -> Array:  # (n, heads, head)
        even, odd = y[..., 0::2], y[..., 1::2]
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(y.shape)

    for layer in range(shape.layers):
        p = f"blk.{layer}."
        y = normed(x, t[p + "attn_norm.weight"])
        q = turned((y @ t[p + "attn_q.weight"].T).reshape(n, shape.heads, head))
        k = turned((y @ t[p + "attn_k.weight"].T).reshape(n, shape.kv_heads, head)).repeat(group, 1)
        v = (y @ t[p + "attn_v.weight"].T).reshape(n, shape.kv_heads, head).repeat(group, 1)
        score = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(head)
        score = np.where(seen, score, -np.inf)
        share = np.exp(score - score.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", share, v).reshape(n, -1) @ t[p + "attn_output.weight"].T
        y = normed(x, t[p + "ffn_norm.weight"])
        gate = y @ t[p + "ffn_gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ t[p + "ffn_up.weight"].T)) @ t[p + "ffn_down.weight"].T
    logits: Array = normed(x, t["output_norm.weight"]) @ t["output.weight"].T
    return logits
