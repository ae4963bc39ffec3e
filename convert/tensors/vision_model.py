"""The tensors of a checkpoint's picture encoder and projector, under their names in llama.cpp's mmproj file."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from chat.errors import DataError
from convert.architecture.supported import vision_name
from convert.checkpoint.rows import GatheredRows, SlicedRows
from convert.dequantize.schemes import unpack
from convert.tensors.layout import OutputTensor, SourceTensor, check_shape, only, rotary_order
from convert.tensors.names import Meaning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.architecture.vision import VisionSizes
    from convert.checkpoint.folder import Checkpoint
    from convert.checkpoint.mapped_file import TensorEntry, TensorFile

IMAGE_BREAK = "v.token_embd.img_break"  # the row that stands between two lines of a picture
BIASES = ("mm.1.bias", "mm.2.bias")
# Names without `.weight` and `.bias`; `#` stands for the layer.
_PARTS = {
    "patch_conv": "v.patch_embd",
    "ln_pre": "v.pre_ln",
    "transformer.layers.#.attention_norm": "v.blk.#.ln1",
    "transformer.layers.#.ffn_norm": "v.blk.#.ln2",
}
_HUGGING_FACE = _PARTS | {
    "transformer.layers.#.attention.q_proj": "v.blk.#.attn_q",
    "transformer.layers.#.attention.k_proj": "v.blk.#.attn_k",
    "transformer.layers.#.attention.v_proj": "v.blk.#.attn_v",
    "transformer.layers.#.attention.o_proj": "v.blk.#.attn_out",
    "transformer.layers.#.feed_forward.gate_proj": "v.blk.#.ffn_gate",
    "transformer.layers.#.feed_forward.up_proj": "v.blk.#.ffn_up",
    "transformer.layers.#.feed_forward.down_proj": "v.blk.#.ffn_down",
}
_ORIGINAL = _PARTS | {
    "transformer.layers.#.attention.wq": "v.blk.#.attn_q",
    "transformer.layers.#.attention.wk": "v.blk.#.attn_k",
    "transformer.layers.#.attention.wv": "v.blk.#.attn_v",
    "transformer.layers.#.attention.wo": "v.blk.#.attn_out",
    "transformer.layers.#.feed_forward.w1": "v.blk.#.ffn_gate",
    "transformer.layers.#.feed_forward.w3": "v.blk.#.ffn_up",
    "transformer.layers.#.feed_forward.w2": "v.blk.#.ffn_down",
}
SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        **{f"vision_tower.{name}": own for name, own in _HUGGING_FACE.items()},
        **{f"vision_encoder.{name}": own for name, own in _ORIGINAL.items()},
        "multi_modal_projector.norm": "mm.input_norm",
        "multi_modal_projector.patch_merger.merging_layer": "mm.patch_merger",
        "multi_modal_projector.linear_1": "mm.1",
        "multi_modal_projector.linear_2": "mm.2",
        "pre_mm_projector_norm": "mm.input_norm",
        "patch_merger.merging_layer": "mm.patch_merger",
        "vision_language_adapter.w_in": "mm.1",
        "vision_language_adapter.w_out": "mm.2",
    }
)
_ROTARY = re.compile(r"\.attention\.[qk]_proj$")  # Hugging Face has their rows as two halves
_ROTARY_BUFFERS = re.compile(r"vision_(tower|encoder)\.patch_positional_embedding\.(original_)?inv_freq")
_LAYER = re.compile(r"\.layers\.(\d{1,4})\.")


@dataclass(frozen=True)
class VisionModel:
    """What a checkpoint has of a picture encoder and its projector.

    Attributes:
        tensors: by their names in the GGUF.
        stored: as the checkpoint holds them, by its own names.
        warnings: for the user.
    """

    tensors: Mapping[str, Sequence[SourceTensor]]
    stored: Mapping[str, tuple[TensorFile, TensorEntry]]
    warnings: tuple[str, ...]


def read_vision_model(checkpoint: Checkpoint) -> VisionModel:
    """Take the picture encoder out of a checkpoint and undo its quantization; it has no tensors where there is none.

    Raises:
        ModelError: it is quantized in a way that cannot be read.
        DataError: a tensor is unknown, or they do not fit each other.
    """
    names = {own: plain for own in checkpoint.tensors if (plain := vision_name(own)) is not None}
    names = {own: plain for own, plain in names.items() if not _ROTARY_BUFFERS.fullmatch(plain)}
    stored = {own: checkpoint.tensors[own] for own in names}
    kept = {plain: stored[own] for own, plain in names.items()}
    if len(kept) < len(names):
        raise DataError(f"{checkpoint.folder}: tensors of the picture encoder are there under two names")
    unpacked = unpack(replace(checkpoint, tensors=kept))
    tensors: defaultdict[str, list[SourceTensor]] = defaultdict(list)
    for name, weight in unpacked.tensors.items():
        source = SourceTensor(_meaning_of(name), weight.file, weight.entry, weight.rows)
        tensors[source.meaning.part].append(source)
    return VisionModel(tensors, stored, unpacked.warnings)


def lay_out_vision(
    model: VisionModel, sizes: VisionSizes, embedding: OutputTensor, break_id: int
) -> tuple[OutputTensor, ...]:
    """Make every tensor of the mmproj file.

    Args:
        model: of the checkpoint.
        sizes: that its configuration says.
        embedding: of the text model, (pieces, width).
        break_id: the id of [IMG_BREAK].

    Raises:
        DataError: a tensor is missing, given twice, or of another shape than the sizes say.
    """
    text_width = embedding.shape[-1]
    has_bias = sizes.has_bias if sizes.has_bias is not None else any(name in model.tensors for name in BIASES)
    expected = sizes.shapes(text_width, has_bias=has_bias)
    for name, found in model.tensors.items():
        if name not in expected:
            raise DataError(
                f"{found[0].file.path}: tensor `{found[0].entry.name}` has no place in a picture encoder of "
                f"{sizes.layers} layers and its projector"
            )
    missing = [name for name in expected if name not in model.tensors]
    if missing:
        more = f" and {len(missing) - 1} more tensors" if missing[1:] else ""
        raise DataError(f"the checkpoint lacks what becomes `{missing[0]}`{more} of the picture encoder")
    made = []
    for name, shape in expected.items():
        source = only(model.tensors[name])
        check_shape(source, shape)
        rows = source.rows
        if source.meaning.form == "rotary":
            rows = GatheredRows(rows, rotary_order(shape[0], sizes.head_dim))
        made.append(OutputTensor(name, shape, rows))
    return (*made, OutputTensor(IMAGE_BREAK, (text_width,), SlicedRows(embedding.rows, break_id, 1)))


def _meaning_of(name: str) -> Meaning:
    """What a tensor is; `part` is its whole name in the GGUF."""
    stem, _, suffix = name.rpartition(".")
    layer = _LAYER.search(stem)
    own = SPELLINGS.get(_LAYER.sub(".layers.#.", stem, count=1))
    if own is None or suffix not in ("weight", "bias") or "#" in stem:
        raise DataError(f"unknown tensor `{name[:120]}` in the picture encoder")
    own = own.replace("#", str(int(layer[1]))) if layer else own
    return Meaning(f"{own}.{suffix}", "rotary" if _ROTARY.search(stem) else "plain")
