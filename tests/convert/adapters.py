"""Seeded LoRA adapters, and merging one in plain numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.convert.samples import Array, float32, write_safetensors

ORIGINAL = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "block_sparse_moe.experts": "feed_forward.experts",
    "block_sparse_moe.gate": "feed_forward.gate",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")


def linear_modules(tensors: Mapping[str, Array], parts: Sequence[str] = LINEAR) -> list[str]:
    """The modules of a Hugging Face checkpoint whose last name is one of `parts`."""
    modules = [name.removesuffix(".weight") for name in tensors]
    return [module for module in modules if module.rpartition(".")[2] in parts]


def pair_for(weight: Array, rank: int, seed: int) -> tuple[Array, Array]:
    """A: (rank, inputs), B: (outputs, rank), large enough to matter."""
    generator = np.random.default_rng(seed)
    outputs, inputs = weight.shape
    a = generator.standard_normal((rank, inputs), dtype=np.float32) * np.float32(0.1)
    b = generator.standard_normal((outputs, rank), dtype=np.float32) * np.float32(0.1)
    return a, b


def pairs_for(
    tensors: Mapping[str, Array], modules: Sequence[str], rank: int = 4, ranks: Mapping[str, int] | None = None
) -> dict[str, tuple[Array, Array]]:
    """One pair for each module."""
    chosen = ranks or {}
    return {
        module: pair_for(tensors[f"{module}.weight"], chosen.get(module, rank), seed)
        for seed, module in enumerate(modules)
    }


def write_peft(
    folder: Path,
    pairs: Mapping[str, tuple[Array, Array]],
    wholes: Mapping[str, Array] | None = None,
    prefix: str = "base_model.model.",
    **config: Any,
) -> Path:
    """An adapter's folder as PEFT writes it; None removes a value of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Array] = {}
    for module, (a, b) in pairs.items():
        tensors[f"{prefix}{module}.lora_A.weight"] = a
        tensors[f"{prefix}{module}.lora_B.weight"] = b
    tensors |= {prefix + name: array for name, array in (wholes or {}).items()}
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    values = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "fan_in_fan_out": False, **config}
    kept = {name: value for name, value in values.items() if value is not None}
    (folder / "adapter_config.json").write_text(json.dumps(kept))
    return folder


def merged(
    tensors: Mapping[str, Array], pairs: Mapping[str, tuple[Array, Array]], scales: Mapping[str, float] | float
) -> dict[str, Array]:
    """W + scale * B @ A in float64, rounded to float32 once; the other tensors as they are."""
    made = {name: float32(array) if array.dtype == np.uint16 else array for name, array in tensors.items()}
    for module, (a, b) in pairs.items():
        scale = scales if isinstance(scales, int | float) else scales[module]
        weight = made[f"{module}.weight"].astype(np.float64)
        made[f"{module}.weight"] = (weight + scale * (b.astype(np.float64) @ a.astype(np.float64))).astype(np.float32)
    return made


def original_name(module: str) -> str:
    """A module's name in the original release."""
    if module in ("lm_head", "model.norm", "model.embed_tokens"):
        return {"lm_head": "output", "model.norm": "norm", "model.embed_tokens": "tok_embeddings"}[module]
    name = module.removeprefix("model.")
    for own, other in ORIGINAL.items():
        name = name.replace(own, other)
    return name


def to_original_rows(weight: Array, head_dim: int) -> Array:
    """Query or key rows from Hugging Face's order to the release's."""
    rows = weight.shape[0]
    halves = weight.reshape(rows // head_dim, 2, head_dim // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def is_rotary(module: str) -> bool:
    """Whether the rows of a module's weight are turned by rotary positions."""
    return module.endswith((".q_proj", ".k_proj"))


def write_mistral(folder: Path, pairs: Mapping[str, tuple[Array, Array]], head_dim: int, **params: Any) -> Path:
    """The same pairs as mistral-finetune writes them: original names, query and key rows in the release's order."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Array] = {}
    for module, (a, b) in pairs.items():
        tensors[f"{original_name(module)}.lora_A.weight"] = a
        tensors[f"{original_name(module)}.lora_B.weight"] = to_original_rows(b, head_dim) if is_rotary(module) else b
    write_safetensors(folder / "lora.safetensors", tensors)
    if params:
        (folder / "params.json").write_text(json.dumps(params))
    return folder


def make_original(folder: Path, tensors: Mapping[str, Array], head_dim: int, params: Mapping[str, Any]) -> Path:
    """The same weights as a consolidated checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    renamed = {}
    for name, array in tensors.items():
        module = name.removesuffix(".weight")
        renamed[original_name(module) + ".weight"] = to_original_rows(array, head_dim) if is_rotary(module) else array
    write_safetensors(folder / "consolidated.safetensors", renamed)
    (folder / "params.json").write_text(json.dumps(params))
    return folder
