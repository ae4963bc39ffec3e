"""Decide how a model is loaded, from its sizes and the free memory, and refuse what does not fit.

llama.cpp counts the output as one more layer. It is the first to be placed on a GPU, and the last layers follow. Of
several GPUs each gets neighbouring layers, in the proportions that llama.cpp is given; by default by free memory, which
gives a GPU that is nearly full more than it can hold.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from chat.errors import MemoryLimitError, UsageError
from chat.llama.memory_estimate import ModelSizes, cache_bytes, gpu_share, layer_caches, transfer_bytes, work_bytes
from chat.llama.sliding_window import Window, padded, rolling_cells
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.request import EngineOptions
    from chat.llama.hardware import HostResources

RESERVE_BYTES = 384 << 20  # the driver's context, and what other programs take meanwhile
GIB = 1 << 30
PROCESS_BYTES = 48 << 20  # Python, the libraries, the vocabulary
SMALLEST_CONTEXT = 4096
CACHE_SHARE = 0.25  # of the memory left beside the weights, for the cache of a default context
BATCH = 256  # a larger one is no faster on a CPU, and a cancel would take effect after more than half a second
GPU_BATCH = 512
RAN_OUT = ": the GPU's memory ran out with more"
REPACK_TOKENS_PER_THREAD = 100  # reading a prompt this long saves the time that a core spends on repacking


@dataclass(frozen=True)
class Parts:
    """What may be placed on GPUs, in bytes.

    Attributes:
        layers: each layer with its cache.
        output: the output weights.
        work: the buffers that each GPU computes in.
    """

    layers: tuple[int, ...]
    output: int
    work: int

    @property
    def most(self) -> int:
        """How many layers there are, the output included."""
        return len(self.layers) + 1


def split(parts: Parts, free_bytes: Sequence[int]) -> tuple[int, ...]:
    """The proportions in which GPUs share the layers: what is free on each beside the reserve and the work."""
    available = tuple(max(free - RESERVE_BYTES - parts.work, 0) for free in free_bytes)
    return next(filter(any, (available, tuple(free_bytes))), (1,) * len(free_bytes))


def on_gpus(parts: Parts, free_bytes: Sequence[int], count: int) -> tuple[int, ...]:
    """The bytes on each GPU with `count` layers on all of them.

    Args:
        parts: of the model.
        free_bytes: of each GPU; at least one GPU where `count` is not 0.
        count: layers, the output included; at most `parts.most`.
    """
    taken = [0] * len(free_bytes)
    if count:
        shares = split(parts, free_bytes)
        bounds = [share / sum(shares) for share in accumulate(shares)]
        for index, size in enumerate((*parts.layers, parts.output)[parts.most - count :]):
            taken[bisect_right(bounds, index / count)] += size
    return tuple(size + parts.work if size else 0 for size in taken)


def most_layers(parts: Parts, free_bytes: Sequence[int]) -> int:
    """How many layers fit on the GPUs, the output included; the reserve stays free on each."""
    counts = range(parts.most, 0, -1) if free_bytes else ()
    return next((count for count in counts if _fits(on_gpus(parts, free_bytes, count), free_bytes)), 0)


def _fits(taken: Sequence[int], free_bytes: Sequence[int]) -> bool:
    return all(not size or size + RESERVE_BYTES <= free for size, free in zip(taken, free_bytes, strict=True))


@dataclass(frozen=True)
class MemoryPlan:
    """How a model is loaded and what that takes.

    Attributes:
        cells: of the context.
        batch: tokens read at once.
        rolling: old cells are freed as the text grows.
        gpu_layers: layers on GPUs, the output included.
        repack: keep another order of rows beside the weights.
        weights_bytes: all weights.
        cache_bytes: the whole cache.
        work_bytes: buffers of a batch.
        copied_bytes: weights that are repacked.
        host_bytes: of all these what is in the host's memory, with the process itself.
        gpu_bytes: what is in the memory of all GPUs.
        gpu_split: the proportions in which GPUs share the layers.
        reason: for context and layers, as clauses for the user.
    """

    cells: int
    batch: int
    rolling: bool
    gpu_layers: int
    repack: bool
    weights_bytes: int
    cache_bytes: int
    work_bytes: int
    copied_bytes: int
    host_bytes: int
    gpu_bytes: int
    gpu_split: tuple[int, ...]
    reason: str


def plan_memory(
    sizes: ModelSizes, options: EngineOptions, window: Window, host: HostResources, prompt_tokens: int = 0
) -> MemoryPlan:
    """Decide context, layers on GPUs and repacking, and refuse what does not fit.

    Args:
        sizes: of the model.
        options: what the user requested.
        window: the model is run with.
        host: what the machine offers.
        prompt_tokens: about how long the first prompt is; 0 where that is not known.

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
    resident = sizes.input_bytes + sum((*parts.layers, sizes.output_bytes)[: parts.most - gpu_layers]) + PROCESS_BYTES
    resident += gpu_bytes if host.is_shared else 0
    scores = options.flash_attention == "off"
    resident += transfer_bytes(sizes, batch, cells, scores) if gpu_layers == parts.most else parts.work
    copies = round(sizes.repacked_bytes * (1 - gpu_share(sizes, gpu_layers)))
    helps = copies > 0 and resident + copies <= host.free_bytes
    repack = _repack(options, prompt_tokens, host.threads, helps)
    copies = copies if repack else 0
    host_bytes = resident + copies
    if host_bytes > host.free_bytes:
        raise _too_large(sizes, host_bytes, host.free_bytes, cache, parts.work, rolling)
    return MemoryPlan(
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


def _parts(sizes: ModelSizes, options: EngineOptions, window: Window, cells: int, batch: int) -> Parts:
    caches = layer_caches(sizes, options.kv_type, cells, window, batch)
    scores = options.flash_attention == "off"
    return Parts(
        layers=tuple(weights + cache for weights, cache in zip(sizes.layer_bytes, caches, strict=True)),
        output=sizes.output_bytes + sizes.tied_bytes,
        work=work_bytes(sizes, batch, cells, scores, casts=options.kv_type == "f32" and not scores),
    )


def _context(sizes: ModelSizes, options: EngineOptions, window: Window, host: HostResources) -> tuple[int, str]:
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


def _gpu_layers(path: str, parts: Parts, options: EngineOptions, host: HostResources) -> tuple[int, str]:
    """How many layers to place on GPUs, the output included, and a clause for the user.

    Raises:
        MemoryLimitError: the requested number does not fit.
        UsageError: `--gpu-layers` is no number.
    """
    wanted, free = options.gpu_layers, host.gpu_free_bytes
    if wanted not in ("auto", "all") and not (wanted.isascii() and wanted.isdigit()):
        raise UsageError(f"`--gpu-layers` must be auto, all or a number of layers, not `{wanted}`")
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
        _require_gpu_memory(path, parts, count, free)
    if count == parts.most:
        return count, "all layers on the GPU" + (", as asked" if wanted != "auto" else "")
    return count, f"{count} of {parts.most} layers (the output is one) on the GPU{why}"


def _require_gpu_memory(path: str, parts: Parts, count: int, free_bytes: Sequence[int]) -> None:
    for need, free in zip(on_gpus(parts, free_bytes, count), free_bytes, strict=True):
        if need > free:
            raise MemoryLimitError(
                f"{path} needs {need / GIB:.1f} GiB of a GPU's memory with {counted(count, 'layer')} on it, "
                f"but {free / GIB:.1f} GiB are free",
                hint=f"`--gpu-layers {most_layers(parts, free_bytes)}` fits, which `auto` chooses; "
                "or use a smaller `--context`, or `--kv-type q8_0`",
            )


def _repack(options: EngineOptions, prompt_tokens: int, threads: int, helps: bool) -> bool:
    if options.repack != "auto":
        return options.repack == "on"
    return helps and prompt_tokens >= REPACK_TOKENS_PER_THREAD * threads


def _too_large(sizes: ModelSizes, need: int, free: int, cache: int, work: int, rolling: bool) -> MemoryLimitError:
    smaller = "`--window` of fewer tokens" if rolling else "a smaller `--context`"
    return MemoryLimitError(
        f"{sizes.path} needs {need / GIB:.1f} GiB of memory (weights {sizes.weights / GIB:.1f}, "
        f"cache {cache / GIB:.1f}, work {work / GIB:.1f}), but {free / GIB:.1f} GiB are free",
        hint=f"close other programs or use a smaller quantization, {smaller}, or `--kv-type q8_0`",
    )
