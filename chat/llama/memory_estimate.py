"""Estimate how many bytes the parts of a model take: weights, cache, and the buffers of a batch."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.gguf.keys import ModelKey, PictureKey
from chat.llama.sliding_window import Window, known_context, rolling_cells, windowed_layers

if TYPE_CHECKING:
    from chat.core.request import KvType
    from chat.gguf.reader import GgufFile
    from chat.gguf.validate_pictures import PictureSizes

CELL_BYTES: dict[KvType, float] = {"f32": 4, "f16": 2, "q8_0": 34 / 32, "q4_0": 18 / 32}  # per number in a cell
OUTPUTS = 8  # rows of logits: for a draft and the id before it, and one more, which the bench compares
# Types that ggml repacks (repack.cpp): with AVX2, and on ARM
REPACKED_ON_X86 = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
REPACKED_ON_ARM = REPACKED_ON_X86 | {"Q5_K", "Q6_K", "Q8_0"}
REPACKED_ROWS = 8  # are interleaved at a time


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a model that decide how much memory it takes.

    Attributes:
        path: of its file.
        layer_bytes: weights of each layer.
        input_bytes: the embeddings.
        output_bytes: all other weights.
        cell_numbers: numbers in one cell of one layer's cache, keys and values.
        windowed: for each layer whether its cache holds no more than the window.
        hidden: columns of a token's state.
        feed_forward: columns within the feed-forward layers, those of all experts in use together.
        heads: attention heads.
        vocabulary: pieces.
        trained_context: tokens that the context may have.
        repacked_bytes: weights that are copied where rows are repacked.
        tied_bytes: embeddings that a GPU holds a second time as the output.
        latent_columns: of each head, what latent attention computes beside its scores; 0 for ordinary attention.
        outputs: rows of logits of a batch.
    """

    path: str
    layer_bytes: tuple[int, ...]
    input_bytes: int
    output_bytes: int
    cell_numbers: int
    windowed: tuple[bool, ...]
    hidden: int
    feed_forward: int
    heads: int
    vocabulary: int
    trained_context: int
    repacked_bytes: int = 0
    tied_bytes: int = 0
    latent_columns: int = 0
    outputs: int = OUTPUTS

    @property
    def weights(self) -> int:
        """Bytes of all tensors."""
        return sum(self.layer_bytes) + self.input_bytes + self.output_bytes


def sizes_of(file: GgufFile, wanted_window: str = "auto") -> ModelSizes:
    """The sizes of a checked file; `wanted_window` is the value of `--window`, on which the context depends."""
    layers = max(_most(file.key(ModelKey.BLOCK_COUNT)), 1)
    layer_bytes = [0] * layers
    rest = {"token_embd": 0}
    for tensor in file.tensors.values():
        head, _, tail = tensor.name.partition(".")
        number = tail.partition(".")[0]
        if head == "blk" and number.isdigit() and int(number) < layers:
            layer_bytes[int(number)] += tensor.bytes
        else:
            rest[head] = rest.get(head, 0) + tensor.bytes
    heads = _most(file.key(ModelKey.HEAD_COUNT, 1))
    hidden = max(_most(file.key(ModelKey.EMBEDDING_LENGTH)), 1)
    head_size = hidden // max(heads, 1)
    keys, values = (_most(file.key(key, head_size)) for key in (ModelKey.KEY_LENGTH, ModelKey.VALUE_LENGTH))
    if _is_latent(file):
        values = 0  # are the first columns of the keys
    return ModelSizes(
        path=str(file.path),
        layer_bytes=tuple(layer_bytes),
        input_bytes=rest.pop("token_embd"),
        output_bytes=sum(rest.values()),
        cell_numbers=_most(file.key(ModelKey.HEAD_COUNT_KV, heads)) * (keys + values),
        windowed=windowed_layers(file, layers),
        hidden=hidden,
        feed_forward=_feed_forward(file),
        heads=heads,
        vocabulary=file.vocabulary_size,
        trained_context=known_context(file, wanted_window),
        repacked_bytes=_repacked_bytes(file),
        tied_bytes=_tied_bytes(file),
        latent_columns=2 * keys + _most(file.key(ModelKey.KEY_LENGTH_MLA)) if _is_latent(file) else 0,
    )


def _is_latent(file: GgufFile) -> bool:
    """Whether the cache holds one latent vector for each token, as llama.cpp decides it (`is_mla`)."""
    return bool(file.key(ModelKey.KEY_LENGTH_MLA, 0)) and bool(file.key(ModelKey.VALUE_LENGTH_MLA, 0))


def _feed_forward(file: GgufFile) -> int:
    """Columns within a feed-forward layer, those of all experts in use together."""
    used = max(_most(file.key(ModelKey.EXPERT_USED_COUNT)), 1)
    dense = _most(file.key(ModelKey.FEED_FORWARD_LENGTH, 0))
    own = _most(file.key(ModelKey.EXPERT_FEED_FORWARD_LENGTH, 0))  # of one expert; `dense` where it is not given
    shared = _most(file.key(ModelKey.EXPERT_SHARED_COUNT, 0))
    return max(dense, own * (used + shared)) if own else dense * used


def _tied_bytes(file: GgufFile) -> int:
    tied = "output.weight" not in file.tensors and file.tensors.get("token_embd.weight")
    return tied.bytes if tied else 0


def _repacked_bytes(file: GgufFile, machine: str = platform.machine()) -> int:
    """Bytes of the matrices that ggml repacks: of certain types and numbers of rows, and not the embeddings."""
    types = REPACKED_ON_ARM if machine in ("arm64", "aarch64") else REPACKED_ON_X86
    is_tied = "output.weight" not in file.tensors
    return sum(
        tensor.bytes
        for name, tensor in file.tensors.items()
        if tensor.type in types
        and len(tensor.shape) > 1
        and tensor.shape[1] % REPACKED_ROWS == 0
        and (is_tied or name != "token_embd.weight")
    )


def cache_bytes(sizes: ModelSizes, kv_type: KvType, cells: int, window: Window, batch: int) -> int:
    """Bytes of the whole cache; for the arguments see `layer_caches`."""
    return sum(layer_caches(sizes, kv_type, cells, window, batch))


def layer_caches(sizes: ModelSizes, kv_type: KvType, cells: int, window: Window, batch: int) -> tuple[int, ...]:
    """Bytes of each layer's cache: layers with a window hold the window and a batch, the others every cell.

    Args:
        sizes: of the model.
        kv_type: of the numbers in a cell.
        cells: of the context.
        window: the model is run with.
        batch: tokens read at once.
    """
    held = min(cells, rolling_cells(window.size, batch)) if window.size is not None else cells
    per_cell = sizes.cell_numbers * CELL_BYTES[kv_type]
    return tuple(round((held if windowed else cells) * per_cell) for windowed in sizes.windowed)


def work_bytes(sizes: ModelSizes, batch: int, cells: int, scores: bool, casts: bool = False) -> int:
    """Bytes of the buffers that a batch is computed in, as measured on llama.cpp's graphs.

    Args:
        sizes: of the model.
        batch: tokens read at once.
        cells: of the context.
        scores: attention scores are written to memory, which flash attention avoids.
        casts: the float32 cells of a layer are copied as float16, for flash attention.
    """
    feed_forward = batch * (16 * sizes.feed_forward + 2 * sizes.hidden + 2 * cells)
    attention = 0
    if sizes.latent_columns:
        attention = batch * (4 * sizes.heads * sizes.latent_columns + 14 * sizes.hidden)
        attention += batch * (4 * sizes.heads + 4) * cells if scores else batch * 2 * cells
        attention += 2 * cells * sizes.cell_numbers if casts else 0
    elif scores:
        attention = batch * (4 * sizes.heads * cells + 4 * cells + 20 * sizes.hidden)
    elif casts:
        attention = batch * (2 * cells + 20 * sizes.hidden) + 2 * cells * sizes.cell_numbers
    logits = min(sizes.outputs, batch) * sizes.vocabulary * 4  # within the graph, and their copy for the caller
    return max(feed_forward, attention, logits) + logits


def transfer_bytes(sizes: ModelSizes, batch: int, cells: int, scores: bool) -> int:
    """Bytes of the host's buffers where a GPU computes the whole batch: for embeddings, mask and logits."""
    return batch * (4 * sizes.hidden + (4 if scores else 2) * cells) + min(sizes.outputs, batch) * sizes.vocabulary * 4


def gpu_share(sizes: ModelSizes, gpu_layers: int) -> float:
    """The share of the weights on GPUs, 0 to 1; the embeddings, which stay on the host, do not count."""
    movable = (*sizes.layer_bytes, sizes.output_bytes)
    return sum(movable[len(movable) - gpu_layers :]) / max(sum(movable), 1)


def _most(value: object) -> int:
    """The largest value of a key that has one number, or one for each layer."""
    if isinstance(value, tuple):
        return max((int(number) for number in value), default=0)
    return int(value) if isinstance(value, (int, float)) else 0


def picture_encoder_bytes(file: GgufFile, sizes: PictureSizes, *, scores: bool) -> int:
    """What a picture encoder takes: its weights, and the buffers for the largest picture, as measured.

    Args:
        file: that `check_picture_encoder` accepts.
        sizes: of it.
        scores: attention scores of each patch for each other one are in memory, which flash attention avoids.
    """
    metadata = file.metadata
    patches: int = (sizes.largest // metadata[PictureKey.PATCH]) ** 2
    numbers: int = 2 * metadata[PictureKey.HIDDEN] + 14 * metadata[PictureKey.WIDTH]  # of one patch, at a time
    if scores:
        numbers += metadata[PictureKey.HEADS] * patches
    return sum(tensor.bytes for tensor in file.tensors.values()) + 4 * patches * numbers
