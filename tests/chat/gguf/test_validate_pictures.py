"""A picture encoder that libmtmd would abort on, misread or call incomplete is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.errors import ChatError, DataError, ModelError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_pictures import PictureSizes, check_picture_encoder, picture_sizes
from tests.chat.seeing import write_encoder


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("small3", PictureSizes(28, 280, 256)),
        ("ministral3", PictureSizes(28, 280, 256)),
        ("pixtral", PictureSizes(16, 256, 256)),
    ],
)
def test_encoders_of_mistrals_models_are_accepted(kind: str, sizes: PictureSizes, tmp_path: Path) -> None:
    file = read_gguf(write_encoder(tmp_path / "mmproj.gguf", kind))
    check_picture_encoder(file)
    assert picture_sizes(file) == sizes


KEY_FAULTS: tuple[tuple[str, Any, str], ...] = (
    ("clip.projector_type", "qwen2vl_merger", "is a picture encoder of the kind 'qwen2vl_merger', which"),
    ("clip.projector_type", None, "is a picture encoder of the kind '', which"),
    ("clip.projector_type", 3, "key 'clip.projector_type' is u32, but must be str"),
    ("clip.has_audio_encoder", True, "is an encoder of sound, which"),
    ("clip.has_vision_encoder", False, "says that it reads no pictures"),
    ("clip.has_vision_encoder", None, "key 'clip.has_vision_encoder' is missing"),
    ("clip.use_gelu", True, "says both GELU and SiLU"),
    ("clip.vision.patch_size", 0, "key 'clip.vision.patch_size' is 0, but must be 1 to 512"),
    ("clip.vision.patch_size", 300, "a token of 600 pixels is larger than the limit of 512"),
    ("clip.vision.image_size", 1 << 20, "key 'clip.vision.image_size' is 1048576, but must be 1 to 16384"),
    ("clip.vision.image_size", "280", "key 'clip.vision.image_size' is str, but must be u32"),
    ("clip.vision.attention.head_count", 3, "64 columns cannot be 3 heads of 21 numbers"),
    ("clip.vision.attention.head_count", 0, "is 0, but must be 1 to 4096"),
    ("clip.vision.attention.head_count_kv", 1, "64 columns cannot be 2 heads of 32 numbers, with 1 heads of keys"),
    ("clip.vision.attention.layer_norm_epsilon", float("nan"), "layer_norm_epsilon' is nan"),
    ("clip.vision.block_count", 9, ".attn_q.weight' is missing"),
    ("clip.vision.block_count", 1, "tensor 'v.blk.1.ln1.weight' is not known of this kind"),
    ("clip.vision.image_mean", [0.5, 0.5], "key 'clip.vision.image_mean' must have 3 numbers"),
    ("clip.vision.image_std", [0.5, 0.0, 0.5], "key 'clip.vision.image_std' must have 3 numbers"),
    ("clip.vision.spatial_merge_size", 4, "tensor 'mm.patch_merger.weight' has shape"),
    ("clip.vision.projection_dim", 128, "has shape"),
    ("clip.minicpmv_version", 3, "key 'clip.minicpmv_version' is u32, but must be i32"),
    ("clip.minicpmv_query_num", "3", "key 'clip.minicpmv_query_num' is str, but must be u32"),
    ("clip.vision.mm_patch_merge_type", 3, "key 'clip.vision.mm_patch_merge_type' is u32, but must be str"),
    ("clip.vision.feature_layer", [1], "key 'clip.vision.feature_layer' is not known"),
)


@pytest.mark.parametrize(("key", "value", "message"), KEY_FAULTS)
def test_faulty_keys_are_named(key: str, value: Any, message: str, tmp_path: Path) -> None:
    _refuse(write_encoder(tmp_path / "mmproj.gguf", keys={key: value}), message)


TENSOR_FAULTS: tuple[tuple[str, Any, str], ...] = (
    ("v.token_embd.img_break", None, "tensor 'v.token_embd.img_break' is missing"),
    ("mm.input_norm.weight", None, "tensor 'mm.input_norm.weight' is missing"),
    ("mm.2.weight", np.zeros((256, 128), np.float32), "'mm.2.weight' has shape [128, 256], but must have [256, 256]"),
    ("mm.1.bias", np.zeros(7, np.float32), "tensor 'mm.1.bias' has shape [7], but must have [256]"),
    ("v.pre_ln.weight", np.ones(64, np.float16), "tensor 'v.pre_ln.weight' has type F16, which cannot be"),
    ("v.class_embd", np.ones(64, np.float32), "tensor 'v.class_embd' is not known of this kind"),
    ("v.blk.0.attn_q.bias", np.ones(3, np.float32), "tensor 'v.blk.0.attn_q.bias' is not known of this kind"),
)


@pytest.mark.parametrize(("name", "array", "message"), TENSOR_FAULTS)
def test_faulty_tensors_are_named(name: str, array: Any, message: str, tmp_path: Path) -> None:
    _refuse(write_encoder(tmp_path / "mmproj.gguf", tensors={name: array}), message)


def _refuse(path: Path, message: str) -> None:
    with pytest.raises((DataError, ModelError)) as caught:
        check_picture_encoder(read_gguf(path))
    assert isinstance(caught.value, ChatError)
    assert caught.value.message.startswith(f"{path}: ")
    assert message in caught.value.message
