"""Write a checkpoint of a real model's shapes with random weights: 7B v0.1 unless told otherwise, 14.5 GB.

    python tests/full_size.py FOLDER [--layers 32] [--experts 0] [--tokenizer FILE]

Safetensors shards and index as on the hub, bfloat16, window 4096, the real v1 tokenizer (FILE, else from
mistral-common). One seeded block of normal numbers, scaled for each tensor, is written over and over from other
starting points: no two rows are alike, and making the numbers costs nothing beside writing them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from importlib.resources import files
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

BLOCK = 1 << 22  # numbers
SHARD_BYTES = 9_900_000_000  # the hub's two shards of the 7B
WIDTH, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 4096, 14336, 32, 8, 128, 32000
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def shapes(layers: int, experts: int) -> dict[str, tuple[int, ...]]:
    """Hugging Face names and shapes."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        found[at + "input_layernorm.weight"] = (WIDTH,)
        found[at + "self_attn.q_proj.weight"] = (HEADS * HEAD_DIM, WIDTH)
        found[at + "self_attn.k_proj.weight"] = (KV_HEADS * HEAD_DIM, WIDTH)
        found[at + "self_attn.v_proj.weight"] = (KV_HEADS * HEAD_DIM, WIDTH)
        found[at + "self_attn.o_proj.weight"] = (WIDTH, HEADS * HEAD_DIM)
        found[at + "post_attention_layernorm.weight"] = (WIDTH,)
        if experts:
            found[at + "block_sparse_moe.gate.weight"] = (experts, WIDTH)
        for expert in range(experts):
            own = at + f"block_sparse_moe.experts.{expert}."
            found |= {own + "w1.weight": (HIDDEN, WIDTH), own + "w2.weight": (WIDTH, HIDDEN)}
            found[own + "w3.weight"] = (HIDDEN, WIDTH)
        if not experts:
            found |= {at + f"mlp.{part}_proj.weight": (HIDDEN, WIDTH) for part in ("gate", "up")}
            found[at + "mlp.down_proj.weight"] = (WIDTH, HIDDEN)
    return found | {"model.norm.weight": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)}


def bfloat16(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Round to the nearest, ties to even."""
    bits = numbers.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def numbers_of(name: str, count: int, normal: npt.NDArray[np.float32], layers: int) -> Iterator[memoryview]:
    """The tensor's bytes, in pieces; norms are 1, what adds to the residual stream is smaller the more layers add."""
    if "norm" in name or "ln_pre" in name:
        yield memoryview(bfloat16(np.ones(count, dtype=np.float32))).cast("B")
        return
    scale = 0.02 / (2 * layers) ** 0.5 if name.endswith(("o_proj.weight", "down_proj.weight", "w2.weight")) else 0.02
    block = bfloat16(normal * np.float32(scale))
    starts = np.random.default_rng(sum(name.encode()))
    while count:
        start = int(starts.integers(0, BLOCK // 2))
        piece = block[start : start + count]
        yield memoryview(piece).cast("B")
        count -= len(piece)


def write_shard(path: Path, names: list[str], all_shapes: dict[str, tuple[int, ...]], layers: int) -> None:
    """One safetensors file."""
    normal = np.random.default_rng(20231027).standard_normal(BLOCK, dtype=np.float32)
    header, at = {}, 0
    for name in names:
        size = 2 * prod(all_shapes[name])
        header[name] = {"dtype": "BF16", "shape": all_shapes[name], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            for piece in numbers_of(name, prod(all_shapes[name]), normal, layers):
                file.write(piece)


def write_checkpoint(folder: Path, layers: int = 32, experts: int = 0, tokenizer: Path | None = None) -> None:
    """The whole folder."""
    folder.mkdir(parents=True, exist_ok=True)
    all_shapes = shapes(layers, experts)
    shards: list[list[str]] = [[]]
    held = 0
    for name, shape in all_shapes.items():
        if held + 2 * prod(shape) > SHARD_BYTES:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += 2 * prod(shape)
    weight_map = {}
    for number, names in enumerate(shards, 1):
        file_name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_shard(folder / file_name, names, all_shapes, layers)
        weight_map |= dict.fromkeys(names, file_name)
    total = sum(2 * prod(shape) for shape in all_shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config(layers, experts), indent=2))
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True, "chat_template": TEMPLATE}))
    vocabulary = tokenizer or files("mistral_common") / "data" / "tokenizer.model.v1"
    with vocabulary.open("rb") as source, (folder / "tokenizer.model").open("wb") as target:
        shutil.copyfileobj(source, target)


def config(layers: int, experts: int) -> dict[str, object]:
    """config.json of 7B v0.1, or of 8x7B."""
    sizes: dict[str, object] = {
        "architectures": ["MixtralForCausalLM" if experts else "MistralForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": 32768,
        "model_type": "mixtral" if experts else "mistral",
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0 if experts else 10000.0,
        "sliding_window": None if experts else 4096,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": VOCABULARY,
    }
    return sizes | ({"num_local_experts": experts, "num_experts_per_tok": 2} if experts else {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--experts", type=int, default=0)
    parser.add_argument("--tokenizer", type=Path)
    given = parser.parse_args()
    write_checkpoint(given.folder, given.layers, given.experts, given.tokenizer)
