"""Compute a Mistral's logits by definition in plain numpy, as the reference for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from chat.doctor.tiny_model import Shape, TinyTensor

    Array = NDArray[np.float64]


def reference_logits(shape: Shape, tensors: Mapping[str, TinyTensor], ids: Sequence[int]) -> Array:
    """The logits after every id, with the sliding window as Mistral defined it.

    Returns:
        (ids, vocabulary) float64.
    """
    weights: dict[str, Array] = {
        name: np.array(tensor.values, np.float64).reshape(tensor.shape) for name, tensor in tensors.items()
    }
    hidden = weights["token_embd.weight"][list(ids)]  # (n, hidden)
    for layer in range(shape.layers):
        block = {name.split(".")[2]: each for name, each in weights.items() if name.startswith(f"blk.{layer}.")}
        normed = _normed(hidden, block["attn_norm"], shape.epsilon)
        hidden = hidden + _attention(shape, block, normed) @ block["attn_output"].T
        normed = _normed(hidden, block["ffn_norm"], shape.epsilon)
        gate = normed @ block["ffn_gate"].T
        hidden = hidden + (gate / (1 + np.exp(-gate)) * (normed @ block["ffn_up"].T)) @ block["ffn_down"].T
    logits: Array = _normed(hidden, weights["output_norm.weight"], shape.epsilon) @ weights["output.weight"].T
    return logits


def _attention(shape: Shape, block: Mapping[str, Array], x: Array) -> Array:
    """(n, heads * head) from (n, hidden): each id sees itself and the window - 1 ids before it."""
    count, group = len(x), shape.heads // shape.kv_heads
    queries = _rotated(shape, (x @ block["attn_q"].T).reshape(count, shape.heads, shape.head))
    keys = _rotated(shape, (x @ block["attn_k"].T).reshape(count, shape.kv_heads, shape.head)).repeat(group, 1)
    values = (x @ block["attn_v"].T).reshape(count, shape.kv_heads, shape.head).repeat(group, 1)
    apart = np.arange(count)[:, None] - np.arange(count)[None, :]
    scores = np.einsum("qhd,khd->hqk", queries, keys) / np.sqrt(shape.head)
    scores = np.where((apart >= 0) & (apart < shape.window), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    seen: Any = np.einsum("hqk,khd->qhd", shares, values).reshape(count, -1)
    return seen  # type: ignore[no-any-return]


def _rotated(shape: Shape, x: Array) -> Array:
    """Turn the pairs (2i, 2i + 1) of (n, heads, head) by their position."""
    angles = np.arange(len(x))[:, None] * shape.theta ** (-np.arange(0, shape.head, 2) / shape.head)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    turned: Array = np.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).reshape(x.shape)
    return turned


def _normed(x: Array, weight: Array, epsilon: float) -> Array:
    scaled: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight
    return scaled
