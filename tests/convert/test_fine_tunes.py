"""What fine-tuning and saving do to a checkpoint's weights and settings, each with what transformers makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convert.options import ConversionOptions
from convert.pipeline import convert
from tests.convert.samples import (
    Array,
    Sizes,
    hugging_face_tensors,
    make_checkpoint,
    tensor_bytes,
)

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
