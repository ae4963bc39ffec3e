"""Mistral's graph in PyTorch, small: RMSNorm, rotary positions, grouped-query attention in a window, SwiGLU."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Sizes:
    """The guide's sizes; widths divide by 256, so that K-quants fit."""

    vocabulary: int = 2304
    width: int = 256
    layers: int = 3
    heads: int = 8
    kv_heads: int = 2
    hidden: int = 768
    window: int = 256  # tokens a token sees in each layer, itself included
    context: int = 4096
    theta: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head_dim(self) -> int:
        """The width of one head."""
        return self.width // self.heads

    def config(self) -> dict[str, Any]:
        """The config.json of a Hugging Face checkpoint."""
        return {
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.hidden,
            "sliding_window": self.window,
            "max_position_embeddings": self.context,
            "rope_theta": self.theta,
            "rms_norm_eps": self.epsilon,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "torch_dtype": "float32",
        }

    def plain(self) -> dict[str, Any]:
        """The sizes as a table, for the report."""
        return asdict(self)


class Block(nn.Module):
    """One layer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, head_dim = sizes.width, sizes.head_dim
        self.input_layernorm = nn.RMSNorm(width, eps=sizes.epsilon)
        self.q_proj = nn.Linear(width, sizes.heads * head_dim, bias=False)
        self.k_proj = nn.Linear(width, sizes.kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(width, sizes.kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(sizes.heads * head_dim, width, bias=False)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=sizes.epsilon)
        self.gate_proj = nn.Linear(width, sizes.hidden, bias=False)
        self.up_proj = nn.Linear(width, sizes.hidden, bias=False)
        self.down_proj = nn.Linear(sizes.hidden, width, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, drop: float, wanted: Tensor | None = None
    ) -> Tensor:
        """(rows, length, width) -> the same, or (count, width) of the tokens that are `wanted` (rows, length).

        `mask` (length, length) says which tokens see which, None is causal.
        """
        rows, length, _ = x.shape
        sizes = self.sizes
        normal = self.input_layernorm(x)
        q = self.q_proj(normal).view(rows, length, sizes.heads, sizes.head_dim).transpose(1, 2)
        k = self.k_proj(normal).view(rows, length, sizes.kv_heads, sizes.head_dim).transpose(1, 2)
        v = self.v_proj(normal).view(rows, length, sizes.kv_heads, sizes.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        seen = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=True)
        seen = self.o_proj(seen.transpose(1, 2).reshape(rows, length, -1))
        x = x + functional.dropout(seen, drop, self.training)
        x = x if wanted is None else x[wanted]
        normal = self.post_attention_layernorm(x)
        fed = self.down_proj(functional.silu(self.gate_proj(normal)) * self.up_proj(normal))
        return x + functional.dropout(fed, drop, self.training)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions in Hugging Face's half-split order; `cos` and `sin` are (length, head_dim)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Mistral(nn.Module):
    """The whole model, without a cache: made to be trained."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.RMSNorm(sizes.width, eps=sizes.epsilon)
        self.lm_head = nn.Linear(sizes.width, sizes.vocabulary, bias=False)
        for weight in self.parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02)
        for block in self.blocks:
            for layer in (block.o_proj, block.down_proj):
                nn.init.normal_(layer.weight, std=0.02 / (2 * sizes.layers) ** 0.5)

    def hidden(self, ids: Tensor, drop: float = 0.0, wanted: Tensor | None = None) -> Tensor:
        """(rows, length) tokens -> (rows, length, width), the normed last hidden states.

        A row is a dialogue, padded at its end. Of `wanted` tokens, (rows, length), only these states are computed and
        given: (count, width).
        """
        length = ids.shape[1]
        places = torch.arange(length)
        mask = None
        if length > self.sizes.window:
            mask = (places[:, None] >= places) & (places[:, None] - places < self.sizes.window)
        steps = 1.0 / self.sizes.theta ** (torch.arange(0, self.sizes.head_dim, 2) / self.sizes.head_dim)
        angles = torch.outer(places.float(), steps).repeat(1, 2)  # (length, head_dim)
        x = functional.dropout(self.embed_tokens(ids), drop, self.training)
        for block in self.blocks:
            x = block(x, angles.cos(), angles.sin(), mask, drop, wanted if block is self.blocks[-1] else None)
        return self.norm(x)

    def checkpoint(self) -> dict[str, Tensor]:
        """The tensors under Hugging Face's names."""
        places = {
            "_proj": "mlp.",
            "q_proj": "self_attn.",
            "k_proj": "self_attn.",
            "v_proj": "self_attn.",
            "o_proj": "self_attn.",
        }
        found = {}
        for name, weight in self.state_dict().items():
            if name.startswith("blocks."):
                _, number, layer, kind = name.split(".")
                room = places.get(layer, places["_proj"] if layer.endswith("_proj") else "")
                found[f"model.layers.{number}.{room}{layer}.{kind}"] = weight.contiguous()
            elif name.startswith("lm_head"):
                found[name] = weight.contiguous()
            else:
                found[f"model.{name}"] = weight.contiguous()
        return found
