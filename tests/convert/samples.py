"""Checkpoints made of a seed, in any shape, for tests of the converter."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chat.gguf.reader import GgufFile, read_gguf
from tests import grids
from tests.folders import CHECKPOINTS

V01 = CHECKPOINTS / "mistral-v0.1"
V03 = CHECKPOINTS / "mistral-v0.3"

Array = npt.NDArray[Any]


def bfloat16(numbers: Array) -> npt.NDArray[np.uint16]:
    """Round float32 to the nearest, ties to even."""
    bits = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def float32(halves: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The numbers that bfloat16 bits mean."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def safetensors_bytes(header: Mapping[str, Any] | bytes, data: bytes, length: int | None = None) -> bytes:
    """A file with this header (given raw or as an object), whose length field says `length`, and this data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """A valid file; uint16 arrays are bfloat16 bits."""
    header, parts, at = {}, [], 0
    for name, array in tensors.items():
        dtype = {"uint16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64", "int8": "I8"}[array.dtype.name]
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    path.write_bytes(safetensors_bytes(header, b"".join(parts)))


def read_safetensors(path: Path) -> dict[str, Array]:
    """Arrays of a small file, bfloat16 as its bits."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, info in header.items():
        begin, end = (8 + length + offset for offset in info["data_offsets"])
        dtype = {"BF16": "<u2", "F32": "<f4", "F16": "<f2"}[info["dtype"]]
        found[name] = np.frombuffer(raw[begin:end], dtype=dtype).reshape(info["shape"])
    return found


@dataclass(frozen=True)
class Sizes:
    """A model's sizes; the vocabulary is that of the tiny v0.1 tokenizer unless it is larger."""

    layers: int = 2
    width: int = 256
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 32
    hidden: int = 512
    vocabulary: int = 512
    experts: int = 0
    window: int | None = None
    is_tied: bool = False


def hugging_face_tensors(sizes: Sizes, seed: int = 1) -> dict[str, Array]:
    """Random bfloat16 weights under Hugging Face's names."""
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return bfloat16(generator.standard_normal(shape, dtype=np.float32) * np.float32(0.05))

    s = sizes
    tensors = {"model.embed_tokens.weight": normal(s.vocabulary, s.width), "model.norm.weight": normal(s.width)}
    if not s.is_tied:
        tensors["lm_head.weight"] = normal(s.vocabulary, s.width)
    for layer in range(s.layers):
        at = f"model.layers.{layer}."
        tensors[at + "input_layernorm.weight"] = normal(s.width)
        tensors[at + "post_attention_layernorm.weight"] = normal(s.width)
        tensors[at + "self_attn.q_proj.weight"] = normal(s.heads * s.head_dim, s.width)
        tensors[at + "self_attn.k_proj.weight"] = normal(s.kv_heads * s.head_dim, s.width)
        tensors[at + "self_attn.v_proj.weight"] = normal(s.kv_heads * s.head_dim, s.width)
        tensors[at + "self_attn.o_proj.weight"] = normal(s.width, s.heads * s.head_dim)
        if s.experts:
            tensors[at + "block_sparse_moe.gate.weight"] = normal(s.experts, s.width)
        for own in [at + f"block_sparse_moe.experts.{expert}." for expert in range(s.experts)]:
            tensors[own + "w1.weight"] = normal(s.hidden, s.width)
            tensors[own + "w2.weight"] = normal(s.width, s.hidden)
            tensors[own + "w3.weight"] = normal(s.hidden, s.width)
        if not s.experts:
            tensors[at + "mlp.gate_proj.weight"] = normal(s.hidden, s.width)
            tensors[at + "mlp.up_proj.weight"] = normal(s.hidden, s.width)
            tensors[at + "mlp.down_proj.weight"] = normal(s.width, s.hidden)
    return tensors


def with_few_rows(tensors: Mapping[str, Array], step: int = 8) -> dict[str, Array]:
    """The same tensors with zeros in all rows of a matrix but each `step`th: those take no time to quantize."""
    filled = {}
    for name, tensor in tensors.items():
        filled[name] = tensor.copy()
        if tensor.ndim == 2 and len(tensor) > step:
            filled[name][np.arange(len(tensor)) % step != 0] = 0
    return filled


def params_of(sizes: Sizes) -> dict[str, Any]:
    """params.json of a release, what all have."""
    return {
        "dim": sizes.width,
        "n_layers": sizes.layers,
        "head_dim": sizes.head_dim,
        "hidden_dim": sizes.hidden,
        "n_heads": sizes.heads,
        "n_kv_heads": sizes.kv_heads,
        "norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "vocab_size": sizes.vocabulary,
    }


def config_of(sizes: Sizes) -> dict[str, Any]:
    """config.json."""
    plain: dict[str, Any] = {
        "architectures": ["MixtralForCausalLM" if sizes.experts else "MistralForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": sizes.head_dim,
        "hidden_act": "silu",
        "hidden_size": sizes.width,
        "intermediate_size": sizes.hidden,
        "max_position_embeddings": 32768,
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.kv_heads,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "sliding_window": sizes.window,
        "tie_word_embeddings": sizes.is_tied,
        "vocab_size": sizes.vocabulary,
    }
    if sizes.experts:
        plain |= {"num_local_experts": sizes.experts, "num_experts_per_tok": 2}
    return plain


def make_checkpoint(
    folder: Path, sizes: Sizes | None = None, tensors: Mapping[str, Array] | None = None, **config: Any
) -> Path:
    """A Hugging Face folder of one file; `config` replaces values of config.json, None removes one."""
    sizes = sizes or Sizes()
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", hugging_face_tensors(sizes) if tensors is None else tensors)
    values = {name: value for name, value in {**config_of(sizes), **config}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(values))
    shutil.copy(V01 / "tokenizer.model", folder / "tokenizer.model")
    return folder


def quantizable_checkpoint(folder: Path, sizes: Sizes) -> Path:
    """A Hugging Face folder whose weights are quantized fast; with `--full` of weights that are all random."""
    tensors = hugging_face_tensors(sizes)
    return make_checkpoint(folder, sizes, tensors if grids.FULL else with_few_rows(tensors))


def copy_checkpoint(source: Path, folder: Path) -> Path:
    """A checkpoint of its own to spoil, without the references' files."""
    skipped = shutil.ignore_patterns("gguf-*.json", "logits.npz")
    shutil.copytree(source, folder, ignore=skipped)
    return folder


def tensor_bytes(path: Path) -> tuple[GgufFile, dict[str, bytes]]:
    """A GGUF's header and each tensor's bytes."""
    file, raw = read_gguf(path), path.read_bytes()
    return file, {name: raw[info.offset : info.offset + info.bytes] for name, info in file.tensors.items()}
