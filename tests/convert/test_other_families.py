"""Llama 3 and Qwen: adapters, windows, biases and what their graphs lack. `test_families.py` compares their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.errors import DataError, ModelError, UsageError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_lora import check_adapter_fits
from chat.gguf.validate_model import check_model
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.pipeline import convert
from convert.quantize.recipes import Facts, find_recipe, make_plan
from tests.convert.adapters import linear_modules, merged, pairs_for, write_peft
from tests.convert.families import FAMILIES, LAYERS, OTHERS, make_family, tensors_of
from tests.convert.samples import tensor_bytes, write_safetensors
from tests.convert.tokenizer.byte_level_files import references, tokenizer_json


def made_of(folder: Path, **options: Any) -> Path:
    out = folder.parent / f"{folder.name}.gguf"
    convert(ConversionOptions(folder, out, "F32", show_progress=False, verify=False, overwrite=True, **options))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_adapters_are_merged_and_written(name: str, tmp_path: Path) -> None:
    """Qwen's rows of queries and keys stay in Hugging Face's order, and so does what is added to them."""
    tensors = tensors_of(FAMILIES[name])
    pairs = pairs_for(tensors, linear_modules(tensors))
    adapter = write_peft(tmp_path / "adapter", pairs)
    wanted = tensor_bytes(made_of(make_family(tmp_path / "merged", name, merged(tensors, pairs, 2.0))))[1]
    folder = make_family(tmp_path / "base", name)
    assert tensor_bytes(made_of(folder, adapters=((adapter, 1.0),)))[1] == wanted
    base, out = made_of(folder), tmp_path / "merged-again.gguf"
    convert(ConversionOptions(base, out, None, show_progress=False, verify=False, adapters=((adapter, 1.0),)))
    assert tensor_bytes(out)[1] == wanted
    files = []
    for source in (base, folder):
        files.append(tmp_path / f"lora-{len(files)}.gguf")
        convert(ConversionOptions(adapter, files[-1], base=source, show_progress=False))
        check_adapter_fits(read_gguf(files[-1]), read_gguf(base))
    assert tensor_bytes(files[0])[1] == tensor_bytes(files[1])[1]


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_a_window_of_qwen_is_used_only_where_it_is_switched_on(name: str, tmp_path: Path) -> None:
    """config.json names one of every Qwen, which `use_sliding_window` switches off."""
    folder = make_family(tmp_path / "off", name)
    assert make_draft(ConversionOptions(folder)).architecture == name
    folder = make_family(tmp_path / "on", name, use_sliding_window=True)
    with pytest.raises(ModelError, match="a model of Qwen cannot be converted with its window of 8") as caught:
        make_draft(ConversionOptions(folder))
    assert caught.value.hint == "`--window off` converts it without the window"
    assert make_draft(ConversionOptions(folder, window="off")).architecture == name
    folder = make_family(tmp_path / "late", name, use_sliding_window=True, max_window_layers=LAYERS)
    assert make_draft(ConversionOptions(folder)).architecture == name
    with pytest.raises(UsageError, match=f"llama.cpp runs {name} without a sliding window$"):
        make_draft(ConversionOptions(folder, window="64"))


def test_a_type_without_architectures_names_the_model(tmp_path: Path) -> None:
    """It was taken for a Mistral, whose rows are permuted."""
    for name, architecture in (("qwen3", "qwen3"), ("llama3", "llama")):
        folder = make_family(tmp_path / name, name)
        config = json.loads((folder / "config.json").read_text())
        del config["architectures"]
        (folder / "config.json").write_text(json.dumps(config))
        assert make_draft(ConversionOptions(folder)).architecture == architecture


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("qwen3", {"attention_bias": True}, "Qwen 3 with `attention_bias` cannot be converted"),
        ("qwen2", {"head_dim": 64, "num_attention_heads": 4, "hidden_size": 128}, "are not the width 128"),
        (
            "qwen2-yarn",
            {"rope_parameters": FAMILIES["qwen2-yarn"]["rope_parameters"] | {"beta_fast": 4.0}},
            "llama.cpp's qwen2 graph lacks this kind of attention",
        ),
        ("qwen2", {"hidden_act": "gelu"}, "the activation gelu cannot be converted; only silu can"),
    ],
)
def test_what_a_graph_lacks_is_refused(name: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = make_family(tmp_path / "folder", name, tensors_of(FAMILIES[name]), **changes)
    with pytest.raises(ModelError, match=words):
        make_draft(ConversionOptions(folder))


def test_biases_are_those_of_the_configuration(tmp_path: Path) -> None:
    tensors = tensors_of(FAMILIES["llama3"])
    bias = "model.layers.1.self_attn.o_proj.bias"
    plain = tensor_bytes(made_of(make_family(tmp_path / "plain", "llama3", tensors)))[1]
    zero = make_family(tmp_path / "zero", "llama3", {**tensors, bias: np.zeros(256, np.float32)})
    assert tensor_bytes(made_of(zero))[1] == plain
    folder = make_family(tmp_path / "one", "llama3", {**tensors, bias: np.ones(256, np.float32)})
    with pytest.raises(DataError, match=r"o_proj\.bias` is a bias, which the model's configuration does not have"):
        make_draft(ConversionOptions(folder))
    qwen = tensors_of(FAMILIES["qwen2"])
    del qwen["model.layers.2.self_attn.v_proj.bias"]
    with pytest.raises(DataError, match=r"the checkpoint lacks what becomes `blk\.2\.attn_v\.bias`"):
        make_draft(ConversionOptions(make_family(tmp_path / "lacking", "qwen2", qwen)))


def test_a_folder_as_hugging_face_has_it_keeps_ids_and_template(tmp_path: Path) -> None:
    folder = make_family(tmp_path / "qwen", "qwen3", vocab_size=1024, tie_word_embeddings=True)
    config = FAMILIES["qwen3"] | {"vocab_size": 1024, "tie_word_embeddings": True}
    write_safetensors(folder / "model.safetensors", tensors_of(config))
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json("qwen2", references()["merges"])))
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|eot_id|>{% endfor %}"
    stated = {"eos_token": "<|eot_id|>", "bos_token": None, "add_bos_token": False, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    file = read_gguf(made_of(folder))
    check_model(file)
    pieces = file.metadata["tokenizer.ggml.tokens"]
    wanted = {
        "general.architecture": "qwen3",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.bos_token_id": 1,  # of config.json
        "tokenizer.ggml.eos_token_id": pieces.index("<|eot_id|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": template,
        "mistral_chat.normal_form": "NFC",
    }
    assert {name: file.metadata.get(name) for name in wanted} == wanted
    assert "mistral_chat.prompt_format" not in file.metadata
    kinds = file.metadata["tokenizer.ggml.token_type"]
    assert [kinds[pieces.index(name)] for name in ("<|eot_id|>", "<think>", "Hello", "[PAD1023]")] == [3, 4, 1, 5]


@pytest.mark.parametrize(("is_70b", "kind"), [(True, "Q5_K"), (False, "Q4_K")])
def test_the_values_of_70b_get_more_bits(is_70b: bool, kind: str) -> None:
    """As in llama-quantize: eighty layers whose heads share keys and values."""
    names = [(f"blk.{layer}.attn_v.weight", (1024, 8192)) for layer in range(80)]
    plan = make_plan(find_recipe("Q4_K_M"), names, Facts(80, 64, 8, is_70b=is_70b))
    found = {tensor.name: tensor.type.name for tensor in plan.tensors}
    assert (found["blk.11.attn_v.weight"], found["blk.0.attn_v.weight"]) == (kind, "Q6_K")
