"""Every spelling of a tensor's name leads to one name of the GGUF."""

from __future__ import annotations

import json

import pytest

from chat.ground.errors import DataError
from convert.names import HUGGING_FACE, ORIGINAL, Meaning, meaning_of
from tests.convert.samples import V01, V03


def test_both_spellings_cover_the_same_parts() -> None:
    def parts(table: object) -> set[str]:
        return {part for part, form in dict(table).values() if form != "ignored" and "exps" not in part}  # type: ignore[call-overload]

    assert parts(HUGGING_FACE) - parts(ORIGINAL) == set() or parts(HUGGING_FACE) - parts(ORIGINAL) == {"ffn_gate_inp"}
    assert parts(ORIGINAL) <= parts(HUGGING_FACE)


def test_the_tiny_checkpoints_names_become_the_references_names() -> None:
    index = json.loads((V03 / "model.safetensors.index.json").read_text())["weight_map"]
    reference = json.loads((V01 / "gguf-BF16.json").read_text())["tensors"]
    assert {meaning_of(name).gguf_name for name in index} == set(reference)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("model.layers.31.self_attn.q_proj.weight", Meaning("attn_q", "rotary", 31)),
        ("layers.31.attention.wq.weight", Meaning("attn_q", "plain", 31)),
        ("tok_embeddings.weight", Meaning("token_embd", "plain")),
        (
            "model.layers.0.block_sparse_moe.experts.7.w2.weight",
            Meaning("ffn_down_exps", "plain", 0, 7),
        ),
        ("model.layers.4.self_attn.rotary_emb.inv_freq", Meaning("", "ignored", 4)),
    ],
)
def test_a_name_says_part_form_layer_and_expert(name: str, meaning: Meaning) -> None:
    assert meaning_of(name) == meaning


@pytest.mark.parametrize(
    "name",
    [
        "",
        "model.layers.0.self_attn.q_proj.bias",
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
