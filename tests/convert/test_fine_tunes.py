"""What fine-tuning and saving do to a checkpoint's weights and settings, each with what transformers makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chat.errors import DataError
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.pipeline import convert
from tests.convert.samples import (
    Array,
    Sizes,
    hugging_face_tensors,
    make_checkpoint,
    tensor_bytes,
)

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SIZES = Sizes(layers=1, width=64, heads=2, kv_heads=1, hidden=64)
TENSORS = hugging_face_tensors(SIZES)


def converted_bytes(folder: Path, recipe: str = "F32") -> dict[str, bytes]:
    """The tensors of a folder's GGUF."""
    out = folder.parent / f"{folder.name}.gguf"
    convert(ConversionOptions(folder, out, recipe, show_progress=False))
    return tensor_bytes(out)[1]


def wrapped(prefix: str, part: str = "") -> dict[str, Array]:
    """The tensors with what wraps the model before their names, and with what wraps the layers within them."""
    return {prefix + name.replace(".layers.0.", f".layers.0.{part}"): array for name, array in TENSORS.items()}


@pytest.mark.parametrize(
    ("prefix", "part"),
    [
        ("_orig_mod.", ""),
        ("module.", ""),
        ("base_model.model.", ""),
        ("module._orig_mod.", ""),
        ("_orig_mod.module.", "_checkpoint_wrapped_module."),
        ("base_model.model._orig_mod.", ""),
        ("_fsdp_wrapped_module.", "_fsdp_wrapped_module._checkpoint_wrapped_module."),
        ("", "_orig_mod."),
    ],
)
def test_what_wraps_a_model_is_left_out_of_its_names(prefix: str, part: str, tmp_path: Path) -> None:
    plain = make_checkpoint(tmp_path / "plain", SIZES, TENSORS)
    saved = make_checkpoint(tmp_path / "saved", SIZES, wrapped(prefix, part))
    assert converted_bytes(saved) == converted_bytes(plain)


def test_buffers_of_the_rotary_positions_are_passed_over(tmp_path: Path) -> None:
    plain = make_checkpoint(tmp_path / "plain", SIZES, TENSORS)
    buffers = {
        **dict.fromkeys(("model.rotary_emb.inv_freq", "model.rotary_emb.original_inv_freq"), np.ones(16, np.float32)),
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(16, np.float32),
        "model.layers.0.self_attn.rotary_emb.cos_cached": np.ones((1, 1, 8, 32), np.float32),
        "model.layers.0.self_attn.rotary_emb.sin_cached": np.ones((1, 1, 8, 32), np.float32),
    }
    saved = make_checkpoint(tmp_path / "saved", SIZES, {**TENSORS, **buffers})
    assert converted_bytes(saved) == converted_bytes(plain)


@pytest.mark.parametrize("row", [0, 511])
def test_a_tied_model_with_another_output_layer_keeps_it(row: int, tmp_path: Path) -> None:
    """transformers does not tie them then, and warns; the layer was dropped without a word."""
    head = TENSORS[EMBEDDING].copy()
    head[row, 3] ^= 1  # the last bit of one number
    tied = make_checkpoint(tmp_path / "tied", SIZES, {**TENSORS, HEAD: head}, tie_word_embeddings=True)
    untied = make_checkpoint(tmp_path / "untied", SIZES, {**TENSORS, HEAD: head})
    assert converted_bytes(tied) == converted_bytes(untied)
    assert make_draft(ConversionOptions(tied)).warnings == (
        f"{tied}/model.safetensors: the configuration ties the output layer to the embedding, but `lm_head.weight` "
        "holds other numbers: it is kept as the output layer",
    )


@pytest.mark.parametrize("kept", [EMBEDDING, HEAD])
def test_a_tied_model_is_read_by_whichever_of_the_two_it_holds(kept: str, tmp_path: Path) -> None:
    ends = {EMBEDDING: TENSORS[EMBEDDING], HEAD: TENSORS[EMBEDDING]}
    both = make_checkpoint(tmp_path / "both", SIZES, {**TENSORS, **ends}, tie_word_embeddings=True)
    del ends[HEAD if kept == EMBEDDING else EMBEDDING]
    others = {name: array for name, array in TENSORS.items() if name not in (EMBEDDING, HEAD)}
    one = make_checkpoint(tmp_path / "one", SIZES, {**others, **ends}, tie_word_embeddings=True)
    assert converted_bytes(one) == converted_bytes(both)
    assert make_draft(ConversionOptions(one)).warnings == ()


@pytest.mark.parametrize("stated", [False, None])
def test_a_model_without_output_layer_may_be_tied_and_the_error_says_so(stated: bool | None, tmp_path: Path) -> None:
    others = {name: array for name, array in TENSORS.items() if name != HEAD}
    folder = make_checkpoint(tmp_path / "model", SIZES, others, tie_word_embeddings=stated)
    with pytest.raises(DataError, match="the checkpoint has no output layer") as caught:
        make_draft(ConversionOptions(folder))
    assert "set `tie_word_embeddings` in config.json" in str(caught.value.hint)
    make_draft(ConversionOptions(make_checkpoint(tmp_path / "model", SIZES, others, tie_word_embeddings=True)))
