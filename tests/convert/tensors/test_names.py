"""Every spelling of a tensor's name leads to one name of the GGUF."""

from __future__ import annotations

import json

import pytest

from chat.errors import DataError
from convert.tensors.names import HUGGING_FACE, ORIGINAL, Meaning, meaning_of
from tests.convert.samples import V01, V03


def test_both_spellings_cover_the_same_parts() -> None:
    def parts(table: object) -> set[str]:
        return {part for part, form in dict(table).values() if form != "ignored"}  # type: ignore[call-overload]

    others = {part for part in parts(HUGGING_FACE) if part.endswith(".bias")} | {"attn_q_norm", "attn_k_norm"}
    assert parts(HUGGING_FACE) - others == parts(ORIGINAL)


def test_the_tiny_checkpoints_names_become_the_references_names() -> None:
    index = json.loads((V03 / "model.safetensors.index.json").read_text())["weight_map"]
    reference = json.loads((V01 / "gguf-BF16.json").read_text())["tensors"]
    assert {meaning_of(name).gguf_name for name in index} == set(reference)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("model.layers.31.self_attn.q_proj.weight", Meaning("attn_q", "rotary", 31)),
        ("layers.31.attention.wq.weight", Meaning("attn_q", "plain", 31)),
        ("model.layers.31.self_attn.k_proj.bias", Meaning("attn_k.bias", "rotary", 31)),
        ("tok_embeddings.weight", Meaning("token_embd", "plain")),
        (
            "model.layers.0.block_sparse_moe.experts.7.w2.weight",
            Meaning("ffn_down_exps", "plain", 0, 7),
        ),
        ("layers.3.feed_forward.experts.7.w1.weight", Meaning("ffn_gate_exps", "plain", 3, 7)),
        ("layers.3.block_sparse_moe.experts.0.w3.weight", Meaning("ffn_up_exps", "plain", 3, 0)),
        ("layers.3.block_sparse_moe.w2", Meaning("ffn_down_exps", "transposed", 3)),
        ("layers.3.feed_forward.gate.weight", Meaning("ffn_gate_inp", "plain", 3)),
        ("model.layers.3.mlp.experts.gate_up_proj", Meaning("ffn_gate_exps", "gate_and_up", 3)),
        ("model.layers.3.mlp.experts.down_proj", Meaning("ffn_down_exps", "experts", 3)),
        ("model.layers.4.self_attn.rotary_emb.inv_freq", Meaning("", "ignored")),
        ("model.layers.4.self_attn.rotary_emb.cos_cached", Meaning("", "ignored")),
        ("model.layers.4.self_attn.rotary_emb.sin_cached", Meaning("", "ignored")),
        ("model.rotary_emb.inv_freq", Meaning("", "ignored")),
        ("model.rotary_emb.original_inv_freq", Meaning("", "ignored")),
        ("rope.freqs", Meaning("", "ignored")),
    ],
)
def test_a_name_says_part_form_layer_and_expert(name: str, meaning: Meaning) -> None:
    assert meaning_of(name) == meaning


@pytest.mark.parametrize(
    "name",
    [
        "",
        "model.layers.0.self_attn.bias",
        "model.layers.#.self_attn.q_proj.weight",
        "model.layers.-1.self_attn.q_proj.weight",
        "model.layers.99999.self_attn.q_proj.weight",
        "model.layers.0.layers.1.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.weight ",
        "model.layers.²..self_attn.q_proj.weight",
        "lm_head.weight\n",
    ],
)
def test_any_other_name_is_unknown(name: str) -> None:
    with pytest.raises(DataError, match="unknown tensor"):
        meaning_of(name)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.base_layer.weight",
        "model.layers.0.self_attn.q_proj.lora_A.default.weight",
        "model.embed_tokens.modules_to_save.default.weight",
    ],
)
def test_a_model_with_an_adapter_in_it_is_to_be_merged_first(name: str) -> None:
    with pytest.raises(DataError, match="is of a model with an adapter in it") as caught:
        meaning_of(name)
    assert caught.value.hint == "merge it with PEFT's `merge_and_unload()`, save the model and convert that"
