"""Load everything that answers: file, memory, model, vocabulary, context. Knows the order in which it happens."""

from __future__ import annotations

import hashlib
import importlib
import platform
import threading
import time
from array import array
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.core.backend import ModelInfo
from chat.errors import MemoryLimitError, ModelError, UsageError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from chat.inference.draft_model import DraftModelPlan, bytes_of, left_beside, make_drafter, plan_draft_model
from chat.inference.generator import Generator
from chat.inference.grammar import GrammarCompiler
from chat.inference.kv_state_files import KvStateStore, fingerprint_of_file
from chat.llama.context import ContextSettings, LlamaContext
from chat.llama.hardware import HostResources, devices, host_free_bytes, machine, usable_gpus, worker_threads
from chat.llama.kv_snapshots import Snapshots
from chat.llama.library import build_name
from chat.llama.memory_estimate import OUTPUTS, sizes_of
from chat.llama.memory_plan import MemoryPlan, plan_memory
from chat.llama.model import Adapters, LoadSettings, Model
from chat.llama.sliding_window import (
    Window,
    choose_window,
    known_context,
    missing_window,
    missing_window_notice,
    missing_window_remedy,
)
from chat.llama.tokenizer.tokenizer import Tokenizer
from chat.prompts.detect import Detected, detect_format
from chat.prompts.registry import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.core.request import EngineOptions
    from chat.gguf.reader import GgufFile

BYTES_PER_TOKEN = 4  # of ordinary text, about
LONG_PROMPT_TOKENS = 1024  # without a session, what is worth a saved state: a document that is asked about again
SNAPSHOT_SHARE = 0.25  # of the free memory is for saved states, but no more than this:
SNAPSHOT_BYTES = 2 << 30
ASKED = "asked for"


@dataclass
class LoadedModel:
    """A loaded model and all that is needed to answer with it; `engine` is None with the vocabulary alone.

    `limit` is the number of tokens that prompt and answer may have together; None where a window makes it endless.
    `notices` are for the person, with the next reply.
    """

    options: EngineOptions
    file: GgufFile
    model: Model
    vocabulary: Tokenizer
    prompt_format: str
    engine: Generator | None
    limit: int | None
    info: ModelInfo
    load_seconds: float
    notices: list[str] = field(default_factory=list)
    format_notice: str = ""  # for the person, with the first conversation
    is_beyond_training: bool = False  # a prompt was longer than the model knows, and the person was told
    session: str | None = None  # whose turns the cache holds
    prompt: tuple[int, ...] = ()  # the last one that was read
    lasting: int = 0  # how many ids of it the next turn's begins with

    @cached_property
    def grammars(self) -> GrammarCompiler:
        """What constrains answers; its table of pieces takes a moment to make, so it waits to be asked for."""
        return GrammarCompiler(self.vocabulary)

    def save_state(self) -> None:
        """Keep the cache on disk for the next time, under the session's name or for questions after a long prompt."""
        if self.engine is None:
            return
        if self.session is not None:
            changes = self.lasting < len(self.prompt)
            self.engine.save(self.session, self.prompt[: self.lasting + 1] if changes else ())
        elif len(self.prompt) >= LONG_PROMPT_TOKENS:
            first = array("i", self.prompt[:LONG_PROMPT_TOKENS]).tobytes()
            shared = max(len(self.prompt) - self.engine.decoder.settings.batch // 2, 1)  # see chunk_bounds
            key = self.engine.restored_from or f"prompt {hashlib.sha256(first).hexdigest()}"
            self.engine.save(key, self.prompt[: shared + 1])

    def close(self) -> None:
        """Free all of it."""
        if self.engine is not None:
            self.engine.close()
        self.model.close()


def load_model(options: EngineOptions, on_progress: Callable[[float], bool] | None = None) -> LoadedModel:
    """Check the file and the memory, then load it.

    Raises:
        ChatError: the file, the options or the memory do not allow it.
    """
    begun = time.perf_counter()
    file = read_gguf(Path(options.model_path))
    if file.metadata.get("general.type") == "adapter":
        raise ModelError(f"{file.path}: is an adapter, not a model", hint="`-m MODEL --lora` adds it to its model")
    check_model(file)
    detected = _format(options, file)
    prompt_format = detected.name
    window = choose_window(file, options.window)
    info = _info(file, window, prompt_format)
    if options.vocab_only:
        model = Model(str(file.path), LoadSettings(vocab_only=True))
        vocabulary = Tokenizer(model.vocab, file.metadata)
        return LoadedModel(
            options, file, model, vocabulary, prompt_format, None, None, info, time.perf_counter() - begun
        )
    # numpy takes a tenth of a second to import: meanwhile the weights are mapped
    threading.Thread(target=importlib.import_module, args=("numpy",), daemon=True).start()
    host = machine(options)
    small = plan_draft_model(options, file, host)
    notices = _missing_gpu_notices(options, host)
    model, decoder, chosen = _load(options, file, window, small, host, notices, on_progress)
    notices += filter(None, [missing_window_notice(file, options.window, decoder.cells)])
    limit = None if chosen.rolling else min(decoder.cells, known_context(file, options.window))
    drafter, drafting = make_drafter(small, options, file, model, chosen, decoder.settings.threads)
    details = _details(decoder, chosen) | {"draft": drafting} | ({"draft_bytes": bytes_of(small)} if small else {})
    details["prompt_format_reason"] = detected.reason
    info = replace(info, context=limit or info.trained_context, details=details)
    vocabulary = Tokenizer(model.vocab, file.metadata)
    seconds = time.perf_counter() - begun
    budget = min(SNAPSHOT_BYTES, int(host_free_bytes() * SNAPSHOT_SHARE))
    engine = Generator(decoder, Snapshots(budget), _states(options, file, window, decoder, chosen), drafter)
    notice = _format_notice(detected)
    return LoadedModel(options, file, model, vocabulary, prompt_format, engine, limit, info, seconds, notices, notice)


def _missing_gpu_notices(options: EngineOptions, host: HostResources) -> list[str]:
    """What to tell who asked for layers on a GPU where none is."""
    if options.gpu_layers == "auto" or not options.wants_gpus or host.gpu_free_bytes:
        return []
    reason = "this build of llama.cpp or this machine has no GPU"
    return [f"`--gpu-layers {options.gpu_layers}` has no effect: {reason}, so everything is on the processor"]


def _fit(
    options: EngineOptions, file: GgufFile, window: Window, small: DraftModelPlan | None, host: HostResources
) -> MemoryPlan:
    sizes = sizes_of(file, options.window)
    if options.context is not None and options.context > sizes.trained_context:
        hint = (
            f"{missing_window_remedy(file)}; `--window off` does without"
            if sizes.trained_context == missing_window(file)
            else None
        )
        raise UsageError(
            f"`--context {options.context}` is more than the {sizes.trained_context:,} the model knows", hint=hint
        )
    try:
        return plan_memory(
            sizes, options, window, left_beside(small, host), options.first_prompt_bytes // BYTES_PER_TOKEN
        )
    except MemoryLimitError as error:
        if small is None:
            raise
        hint = f"leave out `--draft`, {error.hint}"
        raise MemoryLimitError(f"{error.message} beside {small.file.path}", hint=hint) from error


def _load(
    options: EngineOptions,
    file: GgufFile,
    window: Window,
    small: DraftModelPlan | None,
    host: HostResources,
    notices: list[str],
    on_progress: Callable[[float], bool] | None,
) -> tuple[Model, LlamaContext, MemoryPlan]:
    """Load what fits; where a GPU has less memory than it said, with fewer layers on it.

    Raises:
        MemoryLimitError: no memory for it, or not for what a GPU does not take.
        UsageError: a context longer than the model knows.
    """
    chosen = _fit(options, file, window, small, host)
    while True:
        model: Model | None = None
        try:
            model = Model(str(file.path), _load_settings(options, file, window, chosen), on_progress)
            if options.lora:
                model.adapters = Adapters(model, file, options.lora)
            return model, LlamaContext(model, _decoder_settings(options, chosen)), chosen
        except MemoryLimitError as error:
            if model is not None:
                model.close()
            if chosen.gpu_layers == 0:
                raise
            if options.gpu_layers != "auto":
                hint = f"use fewer `--gpu-layers`, {(error.hint or '').removeprefix('use ')}"
                raise MemoryLimitError(error.message, hint=hint) from error
            fewer = chosen.gpu_layers * 3 // 4
            chosen = _fit(replace(options, most_gpu_layers=fewer), file, window, small, host)
            notices[:] = [f"the GPU's memory ran out: {fewer} layers are on it now, the others on the processor"]


def _load_settings(options: EngineOptions, file: GgufFile, window: Window, chosen: MemoryPlan) -> LoadSettings:
    key = f"{file.architecture}.attention.sliding_window"
    return LoadSettings(
        gpu_layers=chosen.gpu_layers,
        gpu_split=chosen.gpu_split,
        repack=chosen.repack,
        mlock=options.mlock,
        overrides=() if window.override is None else ((key, window.override),),
    )


def _decoder_settings(options: EngineOptions, chosen: MemoryPlan) -> ContextSettings:
    return ContextSettings(
        cells=chosen.cells,
        batch=chosen.batch,
        outputs=OUTPUTS,
        rolling=chosen.rolling,
        kv_type=options.kv_type,
        flash_attention=options.flash_attention,
        threads=options.threads or worker_threads(),
    )


def _states(
    options: EngineOptions, file: GgufFile, window: Window, decoder: LlamaContext, chosen: MemoryPlan
) -> KvStateStore | None:
    """The folder of saved states, and all that their bytes depend on."""
    if options.state_folder is None or options.state_cache_bytes <= 0:
        return None
    places = [(tensor.offset, tensor.bytes) for tensor in file.tensors.values()]
    fingerprint = {
        "build": build_name(),
        "machine": platform.machine(),
        "model": fingerprint_of_file(file.path, places),
        "lora": [[fingerprint_of_file(Path(path), ()), scale] for path, scale in options.lora],
        "window": window.size,
        "rolling": chosen.rolling,
        "cells": decoder.cells,
        "kv_type": options.kv_type,
        "flash_attention": options.flash_attention,
        "gpu_layers": chosen.gpu_layers,
        "gpus": [gpu.description for gpu in usable_gpus(devices())] if chosen.gpu_layers else [],
    }
    return KvStateStore(Path(options.state_folder), fingerprint, options.state_cache_bytes)


def _format(options: EngineOptions, file: GgufFile) -> Detected:
    if options.prompt_format is None:
        return detect_format(file.metadata)
    if options.prompt_format not in FORMATS:
        raise UsageError(f"unknown prompt format `{options.prompt_format}`", hint=f"one of {', '.join(FORMATS)}")
    return Detected(options.prompt_format, ASKED)


def _format_notice(detected: Detected) -> str:
    """What to tell who holds a conversation with a base model without having asked for it."""
    if detected.name != "raw" or detected.reason == ASKED:
        return ""
    return f"prompt format raw ({detected.reason}): this model goes on with a text and does not answer"


def _info(file: GgufFile, window: Window, prompt_format: str) -> ModelInfo:
    trained = file.key("context_length")
    return ModelInfo(
        path=str(file.path),
        size=file.size,
        type=file.type_name,
        architecture=file.architecture,
        window=window.size,
        context=trained,
        trained_context=trained,
        prompt_format=prompt_format,
        name=str(file.metadata.get("general.name", "")),
    )


def _details(decoder: LlamaContext, chosen: MemoryPlan) -> dict[str, Any]:
    settings = decoder.settings
    return {
        "cells": decoder.cells,
        "rolling": settings.rolling,
        "threads": settings.threads,
        "kv_type": settings.kv_type,
        "flash_attention": settings.flash_attention,
        "batch": settings.batch,
        "gpu_layers": chosen.gpu_layers,
        "repack": chosen.repack,
        "weights_bytes": chosen.weights_bytes,
        "cache_bytes": chosen.cache_bytes,
        "work_bytes": chosen.work_bytes,
        "copied_bytes": chosen.copied_bytes,
        "host_bytes": chosen.host_bytes,
        "gpu_bytes": chosen.gpu_bytes,
        "reason": chosen.reason,
    }
