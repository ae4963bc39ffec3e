"""A Mistral computed from its Hugging Face weights by definition, in float64: the reference for converted files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, log, pi
from typing import Any

import numpy as np

from tests.convert.samples import Array, Sizes, float32


def frequencies(head_dim: int, theta: float, rope: Mapping[str, Any]) -> tuple[Array, float]:
    """How fast each pair of a head turns, and what sine and cosine are multiplied by; as YaRN's paper defines it."""
    plain = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    factor = rope.get("factor", 1.0)
    if rope.get("type") != "yarn":
        return plain / factor, 1.0

    def place(turns: float) -> float:
        original = rope["original_max_position_embeddings"]
        return head_dim * log(original / (turns * 2 * pi)) / (2 * log(theta))

    low, high = max(floor(place(32)), 0), min(ceil(place(1)), head_dim - 1)
    slow = np.clip((np.arange(head_dim // 2) - low) / max(high - low, 0.001), 0, 1)
    return plain * (1 - slow) + plain / factor * slow, rope.get("attention_factor", 0.1 * log(factor) + 1)


def forward(
    sizes: Sizes,
    tensors: Mapping[str, Array],
    ids: Sequence[int],
    windows: Sequence[int | None],
    theta: float = 1e4,
    rope: Mapping[str, Any] | None = None,
) -> Array:
    """Logits of every position, (n, vocabulary); `windows` has one entry per layer."""
    t = {name: float32(bits).astype(np.float64) for name, bits in tensors.items()}
    n, head, group = len(ids), sizes.head_dim, sizes.heads // sizes.kv_heads
    speeds, scale = frequencies(head, theta, rope or {})
    angles = np.arange(n)[:, None] * np.concatenate([speeds, speeds])  # (n, head)
    cos, sin = np.cos(angles)[:, None] * scale, np.sin(angles)[:, None] * scale
    apart = np.arange(n)[:, None] - np.arange(n)[None, :]

    def normed(y: Array, weight: Array) -> Array:
        root: Array = np.sqrt((y * y).mean(-1, keepdims=True) + 1e-5)
        scaled: Array = y / root * weight
        return scaled

    def turned(y: Array) -> Array:  # (n, heads, head), halves are partners
        result: Array = y * cos + np.concatenate([-y[..., head // 2 :], y[..., : head // 2]], -1) * sin
        return result

    x = t["model.embed_tokens.weight"][list(ids)]
    for layer, window in enumerate(windows):
        at = f"model.layers.{layer}."
        y = normed(x, t[at + "input_layernorm.weight"])
        q, k, v = ((y @ t[f"{at}self_attn.{part}_proj.weight"].T).reshape(n, -1, head) for part in ("q", "k", "v"))
        k, v = turned(k).repeat(group, 1), v.repeat(group, 1)
        score = np.einsum("qhd,khd->hqk", turned(q), k) / np.sqrt(head)
        score = np.where((apart >= 0) & (apart < (window or n)), score, -np.inf)
        share = np.exp(score - score.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", share, v).reshape(n, -1) @ t[at + "self_attn.o_proj.weight"].T
        y = normed(x, t[at + "post_attention_layernorm.weight"])
        gate, up = (y @ t[f"{at}mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ t[at + "mlp.down_proj.weight"].T
    logits: Array = normed(x, t["model.norm.weight"]) @ t["lm_head.weight"].T
    return logits
