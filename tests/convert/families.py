"""Checkpoints of Mistral's families since December 2025, of Llama 3 and of Qwen, made of a seed.

They are in Hugging Face's layout and, where there is one, in the original layout.

`tests/checkpoints/families.json` has what reference programs say of them, by `make_family_references.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.tensors.layout import rotary_order
from tests.convert.samples import V01, Array, bfloat16, write_safetensors

WIDTH, LAYERS, HEAD_DIM, VOCABULARY = 256, 3, 32, 512
YARN = {
    "rope_type": "yarn",
    "factor": 16.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 32,
    "llama_4_scaling_beta": 0.1,
    "rope_theta": 1e6,
}
COMMON: dict[str, Any] = {
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "intermediate_size": 512,
    "max_position_embeddings": 512,
    "num_attention_heads": 8,
    "num_hidden_layers": LAYERS,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MINISTRAL3 = COMMON | {
    "architectures": ["Ministral3ForCausalLM"],
    "model_type": "ministral3",
    "head_dim": HEAD_DIM,
    "num_key_value_heads": 2,
    "rope_parameters": YARN,
}
MISTRAL4 = COMMON | {
    "architectures": ["Mistral4ForCausalLM"],
    "model_type": "mistral4",
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 64,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 24,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "rope_parameters": YARN | {"rope_theta": 1e4},
}

LLAMA3 = COMMON | {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "head_dim": HEAD_DIM,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
        "rope_theta": 500000.0,
    },
}
QWEN3 = COMMON | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "head_dim": HEAD_DIM * 2,
    "num_key_value_heads": 4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "use_sliding_window": False,
    "sliding_window": 8,
    "max_window_layers": 1,
}
QWEN2 = QWEN3 | {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "head_dim": HEAD_DIM,
    "tie_word_embeddings": True,
}


def _rope(config: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    rope = {**config["rope_parameters"], **changes}
    return {**config, "rope_parameters": {name: value for name, value in rope.items() if value is not None}}


# The second of each kind has everything unlike the releases.
FAMILIES: dict[str, dict[str, Any]] = {
    "ministral3": MINISTRAL3 | {"tie_word_embeddings": True},
    "devstral": _rope(MINISTRAL3, beta_fast=4.0, mscale_all_dim=0.0, llama_4_scaling_beta=0.0),
    "ministral3-odd": _rope(MINISTRAL3, beta_fast=8.0, beta_slow=2.0, mscale=0.7, mscale_all_dim=1.3),
    "mistral-yarn": _rope(
        MINISTRAL3 | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
        llama_4_scaling_beta=None,
        beta_fast=4.0,
        attention_factor=1.1,
    ),
    "mistral4": MISTRAL4,
    "mistral4-odd": _rope(
        MISTRAL4 | {"q_lora_rank": None, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 3}
        | {"n_shared_experts": 2, "routed_scaling_factor": 2.5, "first_k_dense_replace": 0},
        mscale=0.9,
        mscale_all_dim=0.4,
        beta_fast=8.0,
    ),
    "llama3": LLAMA3,
    "llama3-odd": _rope(LLAMA3 | {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
        factor=3.0, low_freq_factor=0.7, high_freq_factor=5.0, original_max_position_embeddings=100),
    "qwen2": QWEN2,
    "qwen2-yarn": _rope(QWEN2, rope_type="yarn", factor=4.0, original_max_position_embeddings=32),
    "qwen3": QWEN3,
}  # fmt: skip
OTHERS = ("llama3", "llama3-odd", "qwen2", "qwen2-yarn", "qwen3")  # of other families than Mistral's
PROMPT = [1, *(int(token) for token in np.random.default_rng(13).integers(3, VOCABULARY, 99))]

ORIGINAL_NAMES = (
    ("model.embed_tokens.", "tok_embeddings."),
    ("model.norm.", "norm."),
    ("lm_head.", "output."),
    ("model.layers.", "layers."),
    ("input_layernorm.", "attention_norm."),
    ("post_attention_layernorm.", "ffn_norm."),
    ("self_attn.q_a_layernorm.", "attention.q_a_norm."),
    ("self_attn.kv_a_layernorm.", "attention.kv_a_norm."),
    ("self_attn.q_a_proj.", "attention.wq_a."),
    ("self_attn.q_b_proj.", "attention.wq_b."),
    ("self_attn.kv_a_proj_with_mqa.", "attention.wkv_a_with_mqa."),
    ("self_attn.kv_b_proj.", "attention.wkv_b."),
    ("self_attn.q_proj.", "attention.wq."),
    ("self_attn.k_proj.", "attention.wk."),
    ("self_attn.v_proj.", "attention.wv."),
    ("self_attn.o_proj.", "attention.wo."),
    ("mlp.gate.", "gate."),
    ("mlp.experts.", "experts."),
    ("mlp.shared_experts.", "shared_experts."),
    ("mlp.", "feed_forward."),
    ("gate_proj.", "w1."),
    ("down_proj.", "w2."),
    ("up_proj.", "w3."),
)


def tensors_of(config: Mapping[str, Any], seed: int = 5) -> dict[str, Array]:
    """Random bfloat16 weights under Hugging Face's names, loud enough that what a token sees makes a difference."""
    generator = np.random.default_rng(seed)
    c, width, heads = config, config["hidden_size"], config["num_attention_heads"]

    def normal(*shape: int) -> Array:
        return bfloat16(generator.standard_normal(shape, dtype=np.float32) * np.float32(0.1))

    def norm(size: int) -> Array:
        return bfloat16(1 + generator.standard_normal(size, dtype=np.float32) * np.float32(0.3))

    def bias(size: int) -> Array:
        return bfloat16(generator.standard_normal(size, dtype=np.float32) * np.float32(0.3))

    def matrices(at: str, hidden: int) -> dict[str, Array]:
        gate, up, down = normal(hidden, width), normal(hidden, width), normal(width, hidden)
        return {f"{at}gate_proj.weight": gate, f"{at}up_proj.weight": up, f"{at}down_proj.weight": down}

    made = {"model.embed_tokens.weight": normal(c["vocab_size"], width), "model.norm.weight": norm(width)}
    if not c["tie_word_embeddings"]:
        made["lm_head.weight"] = normal(c["vocab_size"], width)
    for layer in range(c["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        own = f"{at}self_attn."
        made |= {f"{at}input_layernorm.weight": norm(width), f"{at}post_attention_layernorm.weight": norm(width)}
        if "kv_lora_rank" not in c:
            size, shared = c["head_dim"] * heads, c["head_dim"] * c["num_key_value_heads"]
            made |= {f"{own}q_proj.weight": normal(size, width), f"{own}k_proj.weight": normal(shared, width)}
            made |= {f"{own}v_proj.weight": normal(shared, width), f"{own}o_proj.weight": normal(width, size)}
            made |= matrices(f"{at}mlp.", c["intermediate_size"])
            made |= {name: bias(len(made[name.replace("bias", "weight")])) for name in biases_of(c, at)}
            if c["model_type"] == "qwen3":
                made |= {f"{own}q_norm.weight": norm(c["head_dim"]), f"{own}k_norm.weight": norm(c["head_dim"])}
            continue
        rank, turned, plain = c["kv_lora_rank"], c["qk_rope_head_dim"], c["qk_nope_head_dim"]
        queries = heads * (plain + turned)
        if c["q_lora_rank"] is None:
            made[f"{own}q_proj.weight"] = normal(queries, width)
        else:
            made[f"{own}q_a_proj.weight"] = normal(c["q_lora_rank"], width)
            made[f"{own}q_a_layernorm.weight"] = norm(c["q_lora_rank"])
            made[f"{own}q_b_proj.weight"] = normal(queries, c["q_lora_rank"])
        made[f"{own}kv_a_proj_with_mqa.weight"] = normal(rank + turned, width)
        made[f"{own}kv_a_layernorm.weight"] = norm(rank)
        made[f"{own}kv_b_proj.weight"] = normal(heads * (plain + c["v_head_dim"]), rank)
        made[f"{own}o_proj.weight"] = normal(width, heads * c["v_head_dim"])
        if layer < c["first_k_dense_replace"]:
            made |= matrices(f"{at}mlp.", c["intermediate_size"])
            continue
        experts, hidden = c["n_routed_experts"], c["moe_intermediate_size"]
        made[f"{at}mlp.gate.weight"] = normal(experts, width)
        made[f"{at}mlp.experts.gate_up_proj"] = normal(experts, 2 * hidden, width)
        made[f"{at}mlp.experts.down_proj"] = normal(experts, width, hidden)
        made |= matrices(f"{at}mlp.shared_experts.", hidden * c["n_shared_experts"])
    return made


def biases_of(config: Mapping[str, Any], at: str) -> list[str]:
    """The biases of the layer whose tensors' names begin with `at`."""
    is_qwen2 = config["model_type"] == "qwen2"
    parts = [f"self_attn.{part}_proj" for part in "qkv"] if is_qwen2 or config.get("attention_bias") else []
    parts += ["self_attn.o_proj"] if config.get("attention_bias") else []
    parts += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"] if config.get("mlp_bias") else []
    return [f"{at}{part}.bias" for part in parts]


def make_family(folder: Path, name: str, tensors: Mapping[str, Array] | None = None, **changes: Any) -> Path:
    """A Hugging Face folder of a family; `changes` replace values of config.json."""
    config = FAMILIES[name] | changes
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors_of(config) if tensors is None else tensors)
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(V01 / "tokenizer.model", folder / "tokenizer.model")
    return folder


def original_tensors(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The same weights as params.json's layout has them: other names, rotary rows in pairs, experts one by one."""
    made: dict[str, Array] = {}
    for name, array in one_by_one(tensors).items():
        new = name
        for old, own in ORIGINAL_NAMES:
            new = new.replace(old, own)
        is_rotary = name.endswith(("self_attn.q_proj.weight", "self_attn.k_proj.weight"))
        is_latent = any("kv_b_proj" in other for other in tensors)
        made[new] = array[rotary_order(len(array), HEAD_DIM)] if is_rotary and not is_latent else array
    return made


def one_by_one(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The same weights with a tensor for each matrix of each expert."""
    made: dict[str, Array] = {}
    for name, array in tensors.items():
        at, stacked, kind = name.rpartition(".experts.")
        if not stacked:
            made[name] = array
            continue
        for number, matrix in enumerate(array):
            own = f"{at}.experts.{number}."
            if kind == "down_proj":
                made[f"{own}down_proj.weight"] = matrix
            else:
                made[f"{own}gate_proj.weight"], made[f"{own}up_proj.weight"] = np.split(matrix, 2)
    return made


def make_original_family(folder: Path, name: str) -> Path:
    """The folder of params.json that means the same as `make_family`'s."""
    config = FAMILIES[name]
    rope = config["rope_parameters"]
    original = rope["original_max_position_embeddings"]
    params: dict[str, Any] = {
        "dim": config["hidden_size"],
        "n_layers": config["num_hidden_layers"],
        "hidden_dim": config["intermediate_size"],
        "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"],
        "norm_eps": config["rms_norm_eps"],
        "rope_theta": rope["rope_theta"],
        "vocab_size": config["vocab_size"],
        "tied_embeddings": config["tie_word_embeddings"],
        "max_position_embeddings": config["max_position_embeddings"],
        "llama_4_scaling": {"beta": rope["llama_4_scaling_beta"], "original_max_position_embeddings": original},
        "yarn": {
            "factor": rope["factor"],
            "original_max_position_embeddings": original,
            "beta": rope["beta_fast"],
            "alpha": rope["beta_slow"],
            "apply_scale": not rope["mscale_all_dim"],
        },
    }
    sizes = ("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
    params |= {size: config.get(size) for size in sizes}
    if "kv_lora_rank" in config:
        params["moe"] = {
            "num_experts": config["n_routed_experts"],
            "num_experts_per_tok": config["num_experts_per_tok"],
            "expert_hidden_dim": config["moe_intermediate_size"],
            "num_shared_experts": config["n_shared_experts"],
            "first_k_dense_replace": config["first_k_dense_replace"],
            "num_expert_groups": 1,
            "num_expert_groups_per_tok": 1,
            "routed_scale": 1.0,
            "route_every_n": 1,
        }
    else:
        params["head_dim"] = config["head_dim"]
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "consolidated.safetensors", original_tensors(tensors_of(config)))
    (folder / "params.json").write_text(json.dumps(params))
    shutil.copy(V01 / "tokenizer.model", folder / "tokenizer.model")
    return folder
