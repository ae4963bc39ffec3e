"""Tiny models that see: their files, pictures for them, and the sizes and questions that references were made with."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from PIL import Image

from chat.core.conversation import Message, Picture
from tests.chat.tiny_models import Array, write_out
from tests.convert import families, vision_samples
from tests.convert.vision_samples import KINDS, Eyes

WINDOW = 20  # tokens; of the model that sees and has a window
QUESTION = "hello there"
# per kind of model, the (width, height, seed) of the pictures of each question; all are whole numbers of tokens
QUESTIONS: Mapping[str, tuple[tuple[tuple[int, int, int], ...], ...]] = {
    "small3": (((112, 84, 1),), ((56, 28, 2),), ((112, 84, 21), (56, 140, 23))),
    "ministral3": (((112, 84, 21),),),
    "pixtral": (((112, 80, 1),), ((64, 144, 12), (16, 16, 13))),
    "windowed": (((112, 84, 1),), ((112, 84, 131), (56, 140, 133))),
}
_NAMES = (
    ("vision_tower.patch_conv", "v.patch_embd"),
    ("vision_tower.ln_pre", "v.pre_ln"),
    ("vision_tower.transformer.layers.", "v.blk."),
    ("attention_norm", "ln1"),
    ("ffn_norm", "ln2"),
    ("attention.q_proj", "attn_q"),
    ("attention.k_proj", "attn_k"),
    ("attention.v_proj", "attn_v"),
    ("attention.o_proj", "attn_out"),
    ("feed_forward.gate_proj", "ffn_gate"),
    ("feed_forward.up_proj", "ffn_up"),
    ("feed_forward.down_proj", "ffn_down"),
    ("multi_modal_projector.norm", "mm.input_norm"),
    ("multi_modal_projector.patch_merger.merging_layer", "mm.patch_merger"),
    ("multi_modal_projector.linear_1", "mm.1"),
    ("multi_modal_projector.linear_2", "mm.2"),
)


def checkpoint_kind(kind: str) -> str:
    """The kind of checkpoint that a model is made from."""
    return "small3" if kind == "windowed" else kind


def make_folder(folder: Path, kind: str) -> Path:
    """The checkpoint of a kind of model that sees."""
    changes: dict[str, Any] = {}
    if kind == "windowed":
        changes["text_config"] = {**KINDS["small3"].text, "sliding_window": WINDOW}
    return vision_samples.make_seeing(folder, checkpoint_kind(kind), **changes)


def picture_of_noise(width: int, height: int, seed: int) -> Array:
    """(height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)  # type: ignore[return-value]


def file_of(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    """The file of a picture, from its pixels or Pillow's picture."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


def picture(data: bytes, name: str = "photo.png", media_type: str = "image/png", place: int = 0) -> Picture:
    """A picture of a message, from its file's bytes."""
    return Picture(hashlib.sha256(data).hexdigest(), media_type, name, place, data)


def noise(width: int, height: int, seed: int) -> Picture:
    """A picture of noise."""
    return picture(file_of(picture_of_noise(width, height, seed)), f"{seed}.png")


def question(*pictures: Picture, text: str = QUESTION) -> Message:
    """A question about pictures."""
    return Message("user", text, pictures=pictures)


def encoder_tensors(kind: str) -> dict[str, Array]:
    """The tensors of a picture encoder's GGUF, float32, with the rows of queries and keys as llama.cpp wants them."""
    made = KINDS[kind]
    embeddings = _float32(families.tensors_of(made.text)["model.embed_tokens.weight"])
    tensors = {}
    for name, stored in vision_samples.vision_tensors(made.eyes, made.text["hidden_size"]).items():
        array = _float32(stored)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            halves = array.reshape(made.eyes.heads, 2, -1, array.shape[1])
            array = halves.swapaxes(1, 2).reshape(array.shape)
        for theirs, ours in _NAMES:
            name = name.replace(theirs, ours)
        tensors[name] = np.ascontiguousarray(array)
    return tensors | {"v.token_embd.img_break": embeddings[vision_samples.IMAGE_BREAK]}


def _float32(array: Any) -> Array:
    array = np.asarray(array)
    if array.dtype == np.uint16:  # bfloat16
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def encoder_keys(eyes: Eyes, text_width: int) -> dict[str, Any]:
    """The keys of a picture encoder's GGUF."""
    keys: dict[str, Any] = {
        "clip.projector_type": "pixtral",
        "clip.has_vision_encoder": True,
        "clip.use_silu" if eyes.activation == "silu" else "clip.use_gelu": True,
        "clip.vision.projection_dim": text_width,
        "clip.vision.image_size": eyes.largest,
        "clip.vision.patch_size": eyes.patch,
        "clip.vision.embedding_length": eyes.width,
        "clip.vision.feed_forward_length": eyes.hidden,
        "clip.vision.block_count": eyes.layers,
        "clip.vision.attention.head_count": eyes.heads,
        "clip.vision.image_mean": vision_samples.MEAN,
        "clip.vision.image_std": vision_samples.DEVIATION,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
    }
    return keys | ({} if eyes.merge is None else {"clip.vision.spatial_merge_size": eyes.merge})


def write_encoder(
    path: Path, kind: str = "small3", *, keys: Mapping[str, Any] = {}, tensors: Mapping[str, Array | None] = {}
) -> Path:
    """Write a picture encoder's GGUF.

    Args:
        path: of the file.
        kind: of the model.
        keys: replace keys; None removes one.
        tensors: replace tensors; None removes one.
    """
    made = KINDS[kind]
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    for name, value in {**encoder_keys(made.eyes, made.text["hidden_size"]), **keys}.items():
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif value is not None:
            writer.add_array(name, value)
    written = {name: array for name, array in {**encoder_tensors(kind), **tensors}.items() if array is not None}
    return write_out(writer, written, path)
