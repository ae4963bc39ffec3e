"""Compute what a model needs and where its layers go, before anything loads. Knows sizes, not devices' names."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.engine.lost_window import known_context
from chat.engine.placement import Parts, most_layers, on_gpus, split
from chat.engine.window import Window, padded, rolling_cells, windowed_layers
from chat.ground.errors import MemoryLimitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.ground.gguf_reader import GgufFile
    from chat.request import EngineOptions, KvType

GIB = 1 << 30
CELL_BYTES: dict[KvType, float] = {"f32": 4, "f16": 2, "q8_0": 34 / 32, "q4_0": 18 / 32}  # of one number
PROCESS_BYTES = 48 << 20  # Python, the libraries, the vocabulary
SMALLEST_CONTEXT = 4096
CACHE_SHARE = 0.25  # of the memory left beside the weights: what a default context may take
BATCH = 256  # larger reads no faster on a CPU, and its steps would pass half a second before a cancel is seen
GPU_BATCH = 512
OUTPUTS = 8  # rows of logits: a draft and one more
# what ggml has another order of rows for (repack.cpp): with AVX2, and on ARM
REPACKED_ON_X86 = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
REPACKED_ON_ARM = REPACKED_ON_X86 | {"Q5_K", "Q6_K", "Q8_0"}
REPACKED_ROWS = 8  # at a time
RAN_OUT = ": the GPU's memory ran out with more"
REPACK_TOKENS_PER_THREAD = 100  # a prompt this long earns back what one core spends on repacking at load


@dataclass(frozen=True)
class Sizes:
    """What of a model takes memory. Bytes, and numbers of one cell of one layer's cache."""

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
    repacked_bytes: int = 0  # of the weights, rows that are copied where rows are repacked
    tied_bytes: int = 0  # of the input, what a GPU holds once more for the output

    @property
    def weights(self) -> int:
        """Bytes of all tensors."""
        return sum(self.layer_bytes) + self.input_bytes + self.output_bytes


@dataclass(frozen=True)
class Host:
    """What the machine offers: free memory of the host and of each GPU, and threads."""

    free_bytes: int
    gpu_free_bytes: tuple[int, ...] = ()
    threads: int = 1
    is_shared: bool = False  # the GPUs' memory is the host's own


@dataclass(frozen=True)
class Fit:
    """How a model is loaded, what that takes, and why, in words."""

    cells: int
    batch: int
    rolling: bool
    gpu_layers: int
    repack: bool
    weights_bytes: int
    cache_bytes: int
    work_bytes: int
    copied_bytes: int  # of the weights, in another order beside them
    host_bytes: int  # of the above what lies in the host's memory, with copies and the process itself
    gpu_bytes: int  # what lies in the memory of all GPUs, their work included
    gpu_split: tuple[int, ...]  # how the layers there are divided among them
    reason: str


def sizes_of(file: GgufFile, wanted_window: str = "auto") -> Sizes:
    """The sizes of a checked file; the context it knows depends on the window that is asked for."""
    layers = max(_most(file.key("block_count")), 1)
    layer_bytes = [0] * layers
    rest = {"token_embd": 0}
    for tensor in file.tensors.values():
        head, _, tail = tensor.name.partition(".")
        number = tail.partition(".")[0]
        if head == "blk" and number.isdigit() and int(number) < layers:
            layer_bytes[int(number)] += tensor.bytes
        else:
            rest[head] = rest.get(head, 0) + tensor.bytes
    heads = _most(file.key("attention.head_count", 1))
    hidden = max(_most(file.key("embedding_length")), 1)
    head_size = hidden // max(heads, 1)
    keys, values = (_most(file.key(f"attention.{kind}_length", head_size)) for kind in ("key", "value"))
    return Sizes(
        path=str(file.path),
        layer_bytes=tuple(layer_bytes),
        input_bytes=rest.pop("token_embd"),
        output_bytes=sum(rest.values()),
        cell_numbers=_most(file.key("attention.head_count_kv", heads)) * (keys + values),
        windowed=windowed_layers(file, layers),
        hidden=hidden,
        feed_forward=_most(file.key("feed_forward_length", 0)) * max(_most(file.key("expert_used_count")), 1),
        heads=heads,
        vocabulary=file.vocabulary_size,
        trained_context=known_context(file, wanted_window),
        repacked_bytes=_repacked_bytes(file),
        tied_bytes=_tied_bytes(file),
    )


def _tied_bytes(file: GgufFile) -> int:
    tied = "output.weight" not in file.tensors and file.tensors.get("token_embd.weight")
    return tied.bytes if tied else 0


def _repacked_bytes(file: GgufFile, machine: str = platform.machine()) -> int:
    """Bytes of matrices that llama.cpp multiplies by, of types and widths that it has another order for."""
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


def fit(sizes: Sizes, options: EngineOptions, window: Window, host: Host, prompt_tokens: int = 0) -> Fit:
    """Decide context, layers on GPUs and repacking, and refuse what does not fit.

    Args:
        prompt_tokens: about how long the first prompt is; 0 where nobody knows.

    Raises:
        MemoryLimitError: with need, free memory and three ways out.
        UsageError: `--gpu-layers` is no number.
    """
    batch = GPU_BATCH if host.gpu_free_bytes and options.wants_gpus else BATCH
    rolling = window.rolling and window.size is not None and (options.context is None or options.context > window.size)
    if rolling:
        cells, why = rolling_cells(window.size or 0, batch), f"a rolling window of {window.size:,} tokens"
    else:
        cells, why = _context(sizes, options, window, host)
    batch = min(batch, cells)
    parts = _parts(sizes, options, window, cells, batch)
    gpu_layers, where = _gpu_layers(sizes.path, parts, options, host)
    gpu_bytes = sum(on_gpus(parts, host.gpu_free_bytes, gpu_layers))
    cache = cache_bytes(sizes, options.kv_type, cells, window, batch)
    resident = sizes.weights + cache + PROCESS_BYTES
    if gpu_layers:
        moved = sum((*parts.layers, sizes.output_bytes)[-gpu_layers:])
        resident += gpu_bytes - moved if host.is_shared else -moved
    scores = options.flash_attention == "off"
    resident += handed_bytes(sizes, batch, cells, scores) if gpu_layers == parts.most else parts.work
    copies = round(sizes.repacked_bytes * (1 - gpu_share(sizes, gpu_layers)))
    helps = copies > 0 and resident + copies <= host.free_bytes
    repack = _repack(options, prompt_tokens, host.threads, helps)
    copies = copies if repack else 0
    host_bytes = resident + copies
    if host_bytes > host.free_bytes:
        raise _too_large(sizes, host_bytes, host.free_bytes, cache, parts.work, rolling)
    return Fit(
        cells=cells,
        batch=batch,
        rolling=rolling,
        gpu_layers=gpu_layers,
        repack=repack,
        weights_bytes=sizes.weights,
        cache_bytes=cache,
        work_bytes=parts.work,
        copied_bytes=copies,
        host_bytes=host_bytes,
        gpu_bytes=gpu_bytes,
        gpu_split=split(parts, host.gpu_free_bytes),
        reason=f"{why}; {where}",
    )


def _parts(sizes: Sizes, options: EngineOptions, window: Window, cells: int, batch: int) -> Parts:
    caches = _layer_caches(sizes, options.kv_type, cells, window, batch)
    scores = options.flash_attention == "off"
    return Parts(
        layers=tuple(weights + cache for weights, cache in zip(sizes.layer_bytes, caches, strict=True)),
        output=sizes.output_bytes + sizes.tied_bytes,
        work=work_bytes(sizes, batch, cells, scores, casts=options.kv_type == "f32" and not scores),
    )


def cache_bytes(sizes: Sizes, kv_type: KvType, cells: int, window: Window, batch: int) -> int:
    """Bytes of the cache: layers with a window hold the window and a batch, the others every cell."""
    return sum(_layer_caches(sizes, kv_type, cells, window, batch))


def _layer_caches(sizes: Sizes, kv_type: KvType, cells: int, window: Window, batch: int) -> tuple[int, ...]:
    held = min(cells, rolling_cells(window.size, batch)) if window.size is not None else cells
    per_cell = sizes.cell_numbers * CELL_BYTES[kv_type]
    return tuple(round((held if windowed else cells) * per_cell) for windowed in sizes.windowed)


def work_bytes(sizes: Sizes, batch: int, cells: int, scores: bool, casts: bool = False) -> int:
    """Bytes that one batch computes in, as measured on llama.cpp's graphs.

    Args:
        scores: attention scores are written out, which flash attention avoids.
        casts: a layer's float32 cells are copied as float16, for flash attention.
    """
    feed_forward = batch * (16 * sizes.feed_forward + 2 * sizes.hidden + 2 * cells)
    attention = 0
    if scores:
        attention = batch * (4 * sizes.heads * cells + 4 * cells + 20 * sizes.hidden)
    elif casts:
        attention = batch * (2 * cells + 20 * sizes.hidden) + 2 * cells * sizes.cell_numbers
    return max(feed_forward, attention) + OUTPUTS * sizes.vocabulary * 4


def handed_bytes(sizes: Sizes, batch: int, cells: int, scores: bool) -> int:
    """Bytes of the host that one batch is handed over in where a GPU computes it all: embeddings, mask and logits."""
    return batch * (4 * sizes.hidden + (4 if scores else 2) * cells) + OUTPUTS * sizes.vocabulary * 4


def gpu_share(sizes: Sizes, gpu_layers: int) -> float:
    """The part of the weights that are multiplied by that lies on GPUs: all but the embeddings may."""
    movable = (*sizes.layer_bytes, sizes.output_bytes)
    return sum(movable[len(movable) - gpu_layers :]) / max(sum(movable), 1)


def _context(sizes: Sizes, options: EngineOptions, window: Window, host: Host) -> tuple[int, str]:
    if options.context is not None:
        wanted = min(options.context, max(sizes.trained_context, 1))
        return padded(wanted), f"a context of {padded(wanted):,} tokens, as asked"

    def stays_on_gpus(context: int) -> bool:
        parts = _parts(sizes, options, window, context, min(GPU_BATCH, context))
        return options.wants_gpus and most_layers(parts, host.gpu_free_bytes) == parts.most

    own = 0 if host.is_shared else sum(host.gpu_free_bytes)
    left = host.free_bytes + own - sizes.weights - PROCESS_BYTES
    context, of = padded(sizes.trained_context), "the model's own"
    fits_gpus = stays_on_gpus(min(context, SMALLEST_CONTEXT))
    while context > SMALLEST_CONTEXT:
        if cache_bytes(sizes, options.kv_type, context, window, BATCH) > left * CACHE_SHARE:
            of = "its cache takes a quarter of what is free at most"
        elif fits_gpus and not stays_on_gpus(context):
            of = "with more not all layers would fit on the GPU"
        else:
            break
        context = padded(max(context // 2, SMALLEST_CONTEXT))
    return context, f"a context of {context:,} tokens ({of})"


def _gpu_layers(path: str, parts: Parts, options: EngineOptions, host: Host) -> tuple[int, str]:
    """How many layers go to GPUs, as llama.cpp counts, and that in words.

    Raises:
        MemoryLimitError: a number was asked for that does not fit.
        UsageError: what was asked for is no number.
    """
    wanted, free = options.gpu_layers, host.gpu_free_bytes
    if wanted not in ("auto", "all") and not (wanted.isascii() and wanted.isdigit()):
        raise UsageError(f"`--gpu-layers {wanted}` is neither auto, all nor a number of layers")
    if not options.wants_gpus:
        return 0, "everything on the processor" + (RAN_OUT if options.most_gpu_layers == 0 else "")
    if not free:
        return 0, "everything on the processor: this build or machine has no GPU"
    if wanted == "auto":
        count, why = most_layers(parts, free), ", as many as its free memory takes"
        if count == 0:
            return 0, "everything on the processor: the GPU's free memory takes no layer"
        if options.most_gpu_layers is not None and options.most_gpu_layers < count:
            count, why = options.most_gpu_layers, RAN_OUT
    else:
        count, why = parts.most if wanted == "all" else min(int(wanted), parts.most), ", as asked"
        _require_gpu_memory(path, on_gpus(parts, free, count), free)
    if count == parts.most:
        return count, "all layers on the GPU" + (", as asked" if wanted != "auto" else "")
    return count, f"{count} of {parts.most} layers (the output is one) on the GPU{why}"


def _require_gpu_memory(path: str, taken: Sequence[int], free_bytes: Sequence[int]) -> None:
    for need, free in zip(taken, free_bytes, strict=True):
        if need > free:
            raise MemoryLimitError(
                f"{path} needs {need / GIB:.1f} GiB of a GPU's memory with as many layers on it, "
                f"but {free / GIB:.1f} GiB are free",
                hint="use fewer `--gpu-layers` or `auto`, a smaller `--context`, or `--kv-type q8_0`",
            )


def _repack(options: EngineOptions, prompt_tokens: int, threads: int, helps: bool) -> bool:
    if options.repack != "auto":
        return options.repack == "on"
    return helps and prompt_tokens >= REPACK_TOKENS_PER_THREAD * threads


def _too_large(sizes: Sizes, need: int, free: int, cache: int, work: int, rolling: bool) -> MemoryLimitError:
    smaller = "`--window` of fewer tokens" if rolling else "a smaller `--context`"
    return MemoryLimitError(
        f"{sizes.path} needs {need / GIB:.1f} GiB of memory (weights {sizes.weights / GIB:.1f}, "
        f"cache {cache / GIB:.1f}, work {work / GIB:.1f}), but {free / GIB:.1f} GiB are free",
        hint=f"close other programs or use a smaller quantization, {smaller}, or `--kv-type q8_0`",
    )


def _most(value: object) -> int:
    """The largest of a number per layer, or the one number for all."""
    if isinstance(value, tuple):
        return max((int(each) for each in value), default=0)
    return int(value) if isinstance(value, (int, float)) else 0
