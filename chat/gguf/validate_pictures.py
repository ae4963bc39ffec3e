"""Refuse a picture encoder (an `mmproj` file) that llama.cpp would abort on or misread, and know its sizes.

libmtmd asserts on the types of keys and on shapes when it loads a file or builds a graph (clip.cpp,
models/pixtral.cpp), so a wrong one would end the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from chat.errors import ModelError
from chat.gguf.cursor import shown
from chat.gguf.keys import PICTURE_ARCHITECTURE, ModelKey, PictureKey
from chat.gguf.types import MATRIX_TYPES

if TYPE_CHECKING:
    from chat.gguf.reader import GgufFile

PROJECTOR = "pixtral"  # Mistral's models with a picture encoder all have this one
LARGEST_SIDE = 16384  # pixels
LARGEST_PATCH = 512
MOST_LAYERS = 512
MOST_WIDTH = 1 << 20
CHANNELS = 3
BREAK_TENSOR = "v.token_embd.img_break"  # the embedding of [IMG_BREAK]
HINT = "get the file again, or convert the checkpoint"
KEYS: dict[str, str] = {
    PictureKey.PROJECTOR: "str",
    PictureKey.VISION_PROJECTOR: "str",
    PictureKey.HAS_VISION: "bool",
    PictureKey.HAS_AUDIO: "bool",
    PictureKey.HAS_SPEECH: "bool",
    PictureKey.GELU: "bool",
    PictureKey.SILU: "bool",
    PictureKey.SIDE: "u32",
    PictureKey.PATCH: "u32",
    PictureKey.MERGE: "u32",
    PictureKey.WIDTH: "u32",
    PictureKey.HIDDEN: "u32",
    PictureKey.LAYERS: "u32",
    PictureKey.HEADS: "u32",
    PictureKey.KV_HEADS: "u32",
    PictureKey.HEAD_WIDTH: "u32",
    PictureKey.TEXT_WIDTH: "u32",
    PictureKey.EPSILON: "f32",
    PictureKey.MEAN: "[f32]",
    PictureKey.DEVIATION: "[f32]",
    PictureKey.MINICPM_VERSION: "i32",
    PictureKey.MINICPM_QUERIES: "u32",
    PictureKey.MERGE_TYPE: "str",
}
_NEEDED = (
    *(PictureKey.HAS_VISION, PictureKey.SIDE, PictureKey.PATCH, PictureKey.WIDTH, PictureKey.HIDDEN),
    *(PictureKey.LAYERS, PictureKey.HEADS, PictureKey.TEXT_WIDTH, PictureKey.EPSILON),
    *(PictureKey.MEAN, PictureKey.DEVIATION),
)
_LIMITS = {
    PictureKey.SIDE: LARGEST_SIDE,
    PictureKey.PATCH: LARGEST_PATCH,
    PictureKey.MERGE: 16,
    PictureKey.WIDTH: MOST_WIDTH,
    PictureKey.HIDDEN: MOST_WIDTH,
    PictureKey.LAYERS: MOST_LAYERS,
    PictureKey.HEADS: 4096,
    PictureKey.TEXT_WIDTH: MOST_WIDTH,
}


@dataclass(frozen=True)
class PictureSizes:
    """How a picture encoder cuts pictures.

    Attributes:
        cell: pixels on a side of the square that becomes one token.
        largest: pixels of a picture's longer side; larger pictures are scaled down.
        text_width: numbers of one token's embedding.
    """

    cell: int
    largest: int
    text_width: int

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of tokens of a picture, as mistral-common counts them (tokenizers/image.py).

        Args:
            width: of the picture, in pixels.
            height: of the picture, in pixels.
        """
        ratio = max(height / self.largest, width / self.largest)
        if ratio > 1:
            width, height = max(round(width / ratio), 1), max(round(height / ratio), 1)
        return (width - 1) // self.cell + 1, (height - 1) // self.cell + 1


def picture_sizes(file: GgufFile) -> PictureSizes:
    """The sizes in a file that `check_picture_encoder` accepts."""
    metadata = file.metadata
    cell = metadata[PictureKey.PATCH] * metadata.get(PictureKey.MERGE, 1)
    return PictureSizes(cell, metadata[PictureKey.SIDE], metadata[PictureKey.TEXT_WIDTH])


def check_picture_encoder(file: GgufFile) -> None:
    """Refuse a picture encoder that libmtmd would abort on, or that is not of Mistral's kind.

    Raises:
        DataError: a rule is broken; the message names the file, the key or tensor, and the rule.
        ModelError: it is no picture encoder, or one of another family.
    """
    if file.architecture != PICTURE_ARCHITECTURE:
        raise ModelError(f"{file.path}: is not a picture encoder", hint="`--mmproj` takes the model's mmproj GGUF")
    for name, expected in KEYS.items():
        found = file.types.get(name, expected)
        if found != expected:
            raise file.fault(f"key '{name}' is {found}, but must be {expected}")
    metadata = file.metadata
    kind = metadata.get(PictureKey.PROJECTOR) or metadata.get(PictureKey.VISION_PROJECTOR) or ""
    if kind != PROJECTOR:
        raise ModelError(
            f"{file.path}: is a picture encoder of the kind {shown(kind)}, which cannot be used here",
            hint=f"Mistral's models have the kind '{PROJECTOR}'",
        )
    if metadata.get(PictureKey.HAS_AUDIO) or metadata.get(PictureKey.HAS_SPEECH):
        raise ModelError(f"{file.path}: is an encoder of sound, which cannot be used here")
    for name in _NEEDED:
        if name not in metadata:
            raise file.fault(f"key '{name}' is missing", hint=HINT)
    if not metadata[PictureKey.HAS_VISION]:
        raise ModelError(f"{file.path}: says that it reads no pictures")
    for name, most in _LIMITS.items():
        if not 1 <= metadata.get(name, 1) <= most:
            raise file.fault(f"key '{name}' is {metadata[name]}, but must be 1 to {most}")
    _check_numbers(file)
    _check_tensors(file)


def check_fits(file: GgufFile, model: GgufFile) -> None:
    """Refuse a picture encoder of another model.

    Raises:
        ModelError: its embeddings have another size than the model's.
    """
    own, width = file.metadata[PictureKey.TEXT_WIDTH], model.key(ModelKey.EMBEDDING_LENGTH)
    if own != width:
        raise ModelError(
            f"{file.path}: belongs to another model: its embeddings have {own:,} numbers, the model's {width:,}",
            hint="`--mmproj` takes the mmproj GGUF of the same release",
        )


def _check_numbers(file: GgufFile) -> None:
    metadata = file.metadata
    width, heads = metadata[PictureKey.WIDTH], metadata[PictureKey.HEADS]
    head, kv_heads = metadata.get(PictureKey.HEAD_WIDTH, width // heads), metadata.get(PictureKey.KV_HEADS, heads)
    if head * heads != width or head % 4 or kv_heads != heads:
        raise file.fault(f"{width} columns cannot be {heads} heads of {head} numbers, with {kv_heads} heads of keys")
    cell = metadata[PictureKey.PATCH] * metadata.get(PictureKey.MERGE, 1)
    if cell > LARGEST_PATCH:
        raise file.fault(f"a token of {cell} pixels is larger than the limit of {LARGEST_PATCH}")
    if metadata.get(PictureKey.GELU) and metadata.get(PictureKey.SILU):
        raise file.fault("says both GELU and SiLU")
    if not 0 <= metadata[PictureKey.EPSILON] < 1:
        raise file.fault(f"key '{PictureKey.EPSILON}' is {metadata[PictureKey.EPSILON]}")
    if any(isinstance(value, tuple) and value for value in (metadata.get(PictureKey.FEATURE_LAYERS),)):
        raise file.fault(f"key '{PictureKey.FEATURE_LAYERS}' is not known of this kind")
    for name in (PictureKey.MEAN, PictureKey.DEVIATION):
        values = tuple(metadata[name])
        is_usable = len(values) == CHANNELS and all(map(isfinite, values))
        if not is_usable or (name == PictureKey.DEVIATION and min(values) <= 0):
            raise file.fault(f"key '{name}' must have {CHANNELS} numbers, one for each colour")


def _check_tensors(file: GgufFile) -> None:
    needed, optional = _shapes(file)
    for name in needed:
        if name not in file.tensors:
            raise file.fault(f"tensor {shown(name)} is missing", hint=HINT)
    for name, tensor in file.tensors.items():
        shape = needed.get(name) or optional.get(name)
        if shape is None:
            if name.startswith(("v.", "mm.")):
                raise file.fault(f"tensor {shown(name)} is not known of this kind of picture encoder")
            continue
        if tensor.shape != shape:
            raise file.fault(f"tensor {shown(name)} has shape {list(tensor.shape)}, but must have {list(shape)}")
        kinds = ("F32",) if len(shape) == 1 else ("F32", "F16") if len(shape) > 2 else MATRIX_TYPES
        if tensor.type not in kinds:
            raise file.fault(f"tensor {shown(name)} has type {tensor.type}, which cannot be computed with")


def _shapes(file: GgufFile) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """The tensors that the file must hold, and those that it may; shapes as GGUF lists them, the innermost first."""
    metadata = file.metadata
    width, hidden, text = (metadata[name] for name in (PictureKey.WIDTH, PictureKey.HIDDEN, PictureKey.TEXT_WIDTH))
    patch, merge = metadata[PictureKey.PATCH], metadata.get(PictureKey.MERGE, 1)
    needed: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (patch, patch, CHANNELS, width),
        "v.pre_ln.weight": (width,),
        BREAK_TENSOR: (text,),
        "mm.1.weight": (width, text),
        "mm.2.weight": (text, text),
    }
    for layer in range(metadata[PictureKey.LAYERS]):
        at = f"v.blk.{layer}."
        needed |= {f"{at}attn_{part}.weight": (width, width) for part in ("q", "k", "v", "out")}
        needed |= {f"{at}ffn_{part}.weight": (width, hidden) for part in ("gate", "up")}
        needed |= {f"{at}ln{number}.weight": (width,) for number in (1, 2)}
        needed[f"{at}ffn_down.weight"] = (hidden, width)
    merger = {"mm.patch_merger.weight": (width * merge**2, width), "mm.input_norm.weight": (width,)}
    optional: dict[str, tuple[int, ...]] = {"mm.1.bias": (text,), "mm.2.bias": (text,)}
    if merge > 1 or any(name in file.tensors for name in merger):
        return needed | merger, optional
    return needed, optional
