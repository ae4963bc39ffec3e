"""Read the weights of an earlier guide's GGUF, to train it further. What the type rounded away stays away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convert.gguf_source import open_gguf
from convert.tensors.layout import rotary_order

if TYPE_CHECKING:
    from pathlib import Path

    from convert.checkpoint.rows import Floats

PLACES = {"output": "lm_head", "output_norm": "norm", "token_embd": "embed_tokens"}
LAYERS = {
    "attn_norm": "input_layernorm",
    "attn_q": "q_proj",
    "attn_k": "k_proj",
    "attn_v": "v_proj",
    "attn_output": "o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "gate_proj",
    "ffn_up": "up_proj",
    "ffn_down": "down_proj",
}


def read_weights(path: Path) -> dict[str, Floats]:
    """The state of `model.Mistral`, float32 by its names, with the rows of queries and keys in Hugging Face's order."""
    source = open_gguf(path)
    found = {}
    for tensor in source.tensors(as_floats=True):
        part, *rest = tensor.name.removesuffix(".weight").split(".")
        numbers = tensor.rows.read(0, tensor.rows.count).reshape(tensor.shape)
        if rest[-1:] in (["attn_q"], ["attn_k"]):
            numbers = numbers[np.argsort(rotary_order(len(numbers), source.sizes.head_dim))]
        place = f"blocks.{rest[0]}.{LAYERS[rest[1]]}" if rest else PLACES[part]
        found[f"{place}.weight"] = numbers
    return found
