"""Every kind of hostile source that `convert` is tried with, and seeded broken adapters and importance matrices."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.chat.gguf import gguf_samples
from tests.chat.gguf.gguf_mutants import mutants
from tests.convert import vision_samples
from tests.convert.adapters import linear_modules, make_original, pairs_for, write_mistral, write_peft
from tests.convert.hostile_folders import TINY, Folder, Kind, content, spoil_json
from tests.convert.hostile_json import ODD_VALUES, broken_bytes
from tests.convert.hostile_tokenizers import (
    make_bomb_folder,
    make_byte_level,
    make_tekken,
    make_tuned,
    spoil_sentencepiece,
    spoil_tekken,
    spoil_template,
    spoil_tokenizer,
    spoil_with_bomb,
)
from tests.convert.hostile_weights import (
    make_plain,
    make_shards,
    make_torch,
    spoil_archive,
    spoil_pickle,
    spoil_safetensors,
    spoil_shards,
)
from tests.convert.samples import (
    V01,
    Sizes,
    hugging_face_tensors,
    make_checkpoint,
    params_of,
    write_safetensors,
)


def make_mixture(folder: Path) -> str:
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192, "rope_theta": 1e6}
    kinds = ["sliding_attention", "full_attention"]
    sizes = Sizes(experts=4, window=64, width=64, heads=2, kv_heads=1, head_dim=32, hidden=64)
    make_checkpoint(folder, sizes, rope_parameters=rope, layer_types=kinds, rope_theta=None)
    return "."


def make_seeing(folder: Path) -> str:
    packing = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]}
    vision_samples.make_seeing(folder, quantization_config=packing)
    return "."


def make_original_seeing(folder: Path) -> str:
    vision_samples.make_original_seeing(folder, "pixtral")
    return "."


def make_original_release(folder: Path) -> str:
    more = {"rope_theta": 1e6, "sliding_window": [64], "moe": None}
    make_original(folder, hugging_face_tensors(TINY), 32, {**params_of(TINY), **more})
    shutil.copy(V01 / "tokenizer.model", folder)
    return "."


def make_adapted(folder: Path) -> str:
    make_checkpoint(folder, TINY)
    tensors = hugging_face_tensors(TINY)
    pairs = pairs_for(tensors, ["model.layers.0.self_attn.q_proj", "lm_head"])
    patterns = {"rank_pattern": {"lm_head": 4}, "alpha_pattern": {"q_proj": 3}, "target_modules": ["q_proj", "lm_head"]}
    write_peft(folder / "adapter", pairs, use_rslora=True, use_dora=False, modules_to_save=None, **patterns)
    return "."


def spoil_adapter(files: Folder, random: Random) -> None:
    """Matrices of any shape, rank, type and number, under any names, and the settings of others."""
    tensors = hugging_face_tensors(TINY)
    modules = random.sample(linear_modules(tensors), random.choice((1, 2, 4)))
    held: dict[str, Any] = {}
    for module in modules:
        rows, columns = tensors[f"{module}.weight"].shape
        rank = random.choice((0, 1, 4, 4, 4, 4, 4, 5, 64, 300))
        shapes = {"A": (rank, columns), "B": (rows, rank)}
        for half, shape in shapes.items():
            odd = random.choice((*[shape] * 30, shape[::-1], (*shape, 1), shape[:1], (), (1, 1), (0, 0), (7, 9)))
            array = np.full(odd, random.choice((*[0.1] * 9, 0.0, np.nan, np.inf, 3e38, 1e-40)), np.float32)
            kind = random.choice((*[np.float32] * 9, np.float16, np.float64, np.int8))
            with np.errstate(all="ignore"):
                held[half_name(random, module, half)] = array.astype(kind)
        if random.random() < 0.2:
            held.pop(random.choice(list(held)))
    with tempfile.TemporaryDirectory() as place:
        write_safetensors(Path(place) / "x", held)
        files["adapter/adapter_model.safetensors"] = (Path(place) / "x").read_bytes()
    settings = json.loads(content(files, "adapter/adapter_config.json"))
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        key = random.choice(("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out"))
        odd = random.choice((*ODD_VALUES, {"(a+)+b": 4}, {"q_proj": -1}, {"(": 1}, {"q_proj": 2**70}, {".*.*.*q": 4}))
        settings[key] = odd
    files["adapter/adapter_config.json"] = json.dumps(settings).encode()


def half_name(random: Random, module: str, half: str) -> str:
    """Mostly the right name."""
    odd = (
        f"x.{module}.lora_C",
        f"{module}.lora_{half}",
        f"lora_{half}",
        f"{module}.weight",
        f"\x1b[2J.lora_{half}.weight",
    )
    right = f"base_model.model.{module}.lora_{half}.weight"
    return random.choice((*[right] * 40, f"base_model.model.{module}.lora_{half}.x.weight", *odd))


def make_adapted_alone(folder: Path) -> str:
    make_adapted(folder)
    return "adapter"


def make_mistral_adapter(folder: Path) -> str:
    make_checkpoint(folder, TINY)
    tensors = hugging_face_tensors(TINY)
    write_mistral(folder / "adapter", pairs_for(tensors, linear_modules(tensors)[:2]), 32, lora={"scaling": 2.0})
    return "."


def make_ggufs(folder: Path) -> str:
    for name, write in gguf_samples.SAMPLES.items():
        write(folder / f"{name}.gguf")
    (folder / "m.gguf").write_bytes((folder / "llama.gguf").read_bytes())
    return "m.gguf"


def spoil_gguf(files: Folder, random: Random) -> None:
    samples = {name.removesuffix(".gguf"): content(files, name) for name in files if name != "m.gguf"}
    files.clear()
    _, files["m.gguf"] = next(iter(mutants(samples, 1, random.randrange(1 << 40))))


def make_importance(folder: Path) -> str:
    make_checkpoint(folder, TINY)
    values = {f"blk.0.{name}.weight": np.full(64, 2.0, np.float32) for name in ("attn_q", "attn_k", "ffn_up")}
    raw = struct.pack("<i", len(values))
    for name, numbers in values.items():
        raw += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 5, numbers.size) + numbers.tobytes()
    (folder / "matrix.dat").write_bytes(raw + struct.pack("<ii", 12, 4) + b"text")
    return "."


def spoil_importance(files: Folder, random: Random) -> None:
    """False counts, and numbers that are none."""
    raw = bytearray(content(files, "matrix.dat"))
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.choice((0, 4, random.randrange(len(raw) // 4) * 4))
        odd = random.choice((0, 1, 2, -1, 64, 63, 2**31 - 1, -(2**31), 0x7FC00000, 0x7F800000, 0x7F7FFFFF, 0x00000001))
        raw[at : at + 4] = struct.pack("<i", odd)
    change = random.randrange(4)
    made = bytes(raw[: random.randrange(len(raw))]) if change == 0 else bytes(raw)
    files["matrix.dat"] = broken_bytes(made or b"x", random) if change == 1 else made


def make_importance_gguf(folder: Path) -> str:
    from chat.gguf.writer import KeyValue, encode_header
    from convert.quantize.kernels import BLOCK_TYPES
    from convert.quantize.recipes import PlannedTensor

    make_checkpoint(folder, TINY)
    keys = [
        KeyValue("general.type", "str", "imatrix"),
        KeyValue("imatrix.datasets", "str", ("wiki.txt",)),
        KeyValue("imatrix.chunk_count", "u32", 12),
        KeyValue("imatrix.chunk_size", "u32", 512),
    ]
    planned, data, at = [], b"", 0
    for name in ("attn_q", "attn_k", "ffn_up"):
        for suffix, array in ((".in_sum2", np.ones((1, 64), "<f4")), (".counts", np.full((1, 1), 5, "<f4"))):
            part = array.tobytes()
            full = f"blk.0.{name}.weight{suffix}"
            planned.append(PlannedTensor(full, array.shape, BLOCK_TYPES["F32"], at, len(part)))
            data += part + bytes(-len(part) % 32)
            at = len(data)
    (folder / "matrix.dat").write_bytes(encode_header(keys, planned) + data)
    return "."


def spoil_importance_gguf(files: Folder, random: Random) -> None:
    _, files["matrix.dat"] = next(iter(mutants({"m": content(files, "matrix.dat")}, 1, random.randrange(1 << 40))))


KINDS: dict[str, Kind] = {
    "index": Kind(make_shards, spoil_json("model.safetensors.index.json")),
    "shards": Kind(make_shards, spoil_shards),
    "safetensors": Kind(make_plain, spoil_safetensors),
    "pickle": Kind(make_torch, spoil_pickle),
    "archive": Kind(make_torch, spoil_archive),
    "config": Kind(make_plain, spoil_json("config.json")),
    "config of a mixture": Kind(make_mixture, spoil_json("config.json")),
    "config with images": Kind(make_seeing, spoil_json("config.json")),
    "preparing of images": Kind(make_seeing, spoil_json("preprocessor_config.json")),
    "params with images": Kind(make_original_seeing, spoil_json("params.json")),
    "params": Kind(make_original_release, spoil_json("params.json")),
    "tokenizer_config": Kind(make_tuned, spoil_json("tokenizer_config.json")),
    "generation_config": Kind(make_tuned, spoil_json("generation_config.json")),
    "templates": Kind(make_tuned, spoil_template),
    "tokenizer.json": Kind(make_byte_level, spoil_tokenizer),
    "sentencepiece": Kind(make_plain, spoil_sentencepiece),
    "tekken": Kind(make_tekken, spoil_tekken),
    "adapter_config": Kind(make_adapted, spoil_json("adapter/adapter_config.json"), ("--lora", "{folder}/adapter")),
    "adapter": Kind(make_adapted, spoil_adapter, ("--lora", "{folder}/adapter")),
    "adapter alone": Kind(make_adapted_alone, spoil_adapter, ("--base", "{folder}"), ("F32", "F16")),
    "adapter of mistral-finetune": Kind(
        make_mistral_adapter,
        lambda files, random: spoil_safetensors(files, random, "adapter/lora.safetensors"),
        ("--lora", "{folder}/adapter:0.5"),
    ),
    "gguf": Kind(make_ggufs, spoil_gguf),
    "importance": Kind(make_importance, spoil_importance, ("--imatrix", "{folder}/matrix.dat"), ("Q4_0", "Q8_0")),
    "importance gguf": Kind(
        make_importance_gguf, spoil_importance_gguf, ("--imatrix", "{folder}/matrix.dat"), ("Q4_0", "Q8_0")
    ),
    "bombs": Kind(make_bomb_folder, spoil_with_bomb),
}
