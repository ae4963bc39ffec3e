"""Choose what guesses ids ahead of a model: nothing, a look-up, or a small model. Knows files and memory, not ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import MemoryLimitError, ModelError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from chat.inference.small_model import DraftModel
from chat.inference.speculative import Drafter, PromptLookupDrafter
from chat.llama.batch_invariance import why_rows_differ
from chat.llama.context import ContextSettings, LlamaContext
from chat.llama.memory_estimate import gpu_share, sizes_of
from chat.llama.memory_plan import PROCESS_BYTES, MemoryPlan, plan_memory
from chat.llama.model import LoadSettings, Model
from chat.llama.sliding_window import choose_window

if TYPE_CHECKING:
    from chat.core.request import EngineOptions
    from chat.gguf.reader import GgufFile
    from chat.llama.hardware import HostResources

CONTEXT = 4096  # tokens of a small model at most: a guess needs no more, and the cache stays small
VOCABULARY = ("tokenizer.ggml.model", "tokenizer.ggml.tokens")
HINT = "`--draft` takes a small model of the same vocabulary, lookup or off"


@dataclass(frozen=True)
class DraftModelPlan:
    """A small model's checked file, and what it takes."""

    file: GgufFile
    fit: MemoryPlan


def plan_draft_model(options: EngineOptions, main: GgufFile, host: HostResources) -> DraftModelPlan | None:
    """The small model that `--draft` names, if it names one.

    Args:
        main: the file of the model that it drafts for.
        host: what is free before both are there.

    Raises:
        ModelError: it cannot be used, or its ids mean other pieces.
        MemoryLimitError: there is no room for it.
    """
    if options.draft in ("lookup", "off"):
        return None
    file = read_gguf(Path(options.draft))
    check_model(file)
    if any(file.metadata.get(key) != main.metadata.get(key) for key in VOCABULARY):
        raise ModelError(
            f"{file.path} cannot draft for {main.path}: it has another vocabulary "
            f"({file.vocabulary_size:,} pieces, the model {main.vocabulary_size:,})",
            hint=HINT,
        )
    gpu_layers = "auto" if options.wants_gpus else "0"  # a number of layers is meant for the model itself
    context = min(CONTEXT, options.context or CONTEXT)
    wanted = replace(options, context=context, window="auto", repack="off", gpu_layers=gpu_layers, most_gpu_layers=None)
    try:
        return DraftModelPlan(file, plan_memory(sizes_of(file), wanted, choose_window(file, "auto"), host))
    except MemoryLimitError as error:
        raise MemoryLimitError(error.message, hint="leave out `--draft`") from error


def left_beside(small: DraftModelPlan | None, host: HostResources) -> HostResources:
    """What a small model leaves of the memory."""
    if small is None:
        return host
    on_gpus = gpu_share(sizes_of(small.file), small.fit.gpu_layers)
    taken = round((small.fit.weights_bytes + small.fit.cache_bytes) * on_gpus)
    most = max(host.gpu_free_bytes, default=0)
    gpus = tuple(free - taken if free == most else free for free in host.gpu_free_bytes)
    return replace(host, free_bytes=host.free_bytes - bytes_of(small), gpu_free_bytes=gpus)


def bytes_of(small: DraftModelPlan) -> int:
    """What it takes of the host's memory, beside the process that is there anyway."""
    return small.fit.host_bytes - PROCESS_BYTES


def make_drafter(
    small: DraftModelPlan | None, options: EngineOptions, file: GgufFile, model: Model, chosen: MemoryPlan, threads: int
) -> tuple[Drafter | None, str]:
    """What guesses, and that in words.

    A look-up only guesses where that cannot change an answer by a bit; a small model, which somebody asked for, also
    elsewhere.

    Raises:
        ModelError: llama.cpp refuses the small model, or one of both is of a kind that cannot take ids back.
        MemoryLimitError: no memory for it after all.
    """
    if options.draft == "off":
        return None, "off"
    differs = why_rows_differ(options, file, chosen)
    if small is not None:
        if not model.can_rewind:
            raise ModelError(f"{file.path} is a recurrent model, which takes no drafts back", hint="`--draft off`")
        words = f"; {differs} may tip a choice between nearly equal tokens" if differs else ""
        return _load(small, options, threads), f"{small.file.path.name}{words}"
    if not model.can_rewind:
        differs = "a recurrent model"
    if differs:
        return None, f"off: {differs} would not compute drafts bit for bit like single tokens"
    return PromptLookupDrafter(), "lookup"


def _load(small: DraftModelPlan, options: EngineOptions, threads: int) -> DraftModel:
    path, chosen = small.file.path, small.fit
    model = Model(str(path), LoadSettings(gpu_layers=chosen.gpu_layers, mlock=options.mlock))
    try:
        if not model.can_rewind:
            raise ModelError(f"{path} cannot draft: a recurrent model takes no ids back", hint=HINT)
        settings = ContextSettings(
            cells=chosen.cells,
            batch=chosen.batch,
            outputs=1,
            rolling=chosen.rolling,
            kv_type=options.kv_type,
            flash_attention=options.flash_attention,
            threads=threads,
        )
        return DraftModel(LlamaContext(model, settings))
    except BaseException:
        model.close()
        raise
