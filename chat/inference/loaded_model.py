"""Load a model, or only its vocabulary, with everything that is needed to answer."""

from __future__ import annotations

import importlib
import platform
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.core.backend import ModelInfo
from chat.errors import ModelError, UsageError
from chat.gguf.keys import GeneralKey, ModelKey
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from chat.inference.draft_model import select_drafter
from chat.inference.generator import Generator
from chat.inference.grammar import GrammarCompiler
from chat.inference.kv_state_files import KvStateStore, fingerprint_of_file
from chat.inference.load_job import LoadJob, LoadResult, PictureFile
from chat.inference.pictures import Pictures
from chat.llama.hardware import devices, host_free_bytes, usable_gpus
from chat.llama.kv_snapshots import Snapshots
from chat.llama.library import build_name
from chat.llama.model import LoadSettings, Model
from chat.llama.picture_encoder import PictureEncoder
from chat.llama.sliding_window import Window, choose_window, known_context, missing_window_notice
from chat.llama.tokenizer.tokenizer import Tokenizer
from chat.prompts.default_system import default_system_prompt
from chat.prompts.detect import Detected, UnknownFormatError, detect_format
from chat.prompts.model_settings import reasoning_efforts
from chat.prompts.own_template import confirmed
from chat.prompts.registry import FORMATS, stop_texts
from chat.prompts.segments import PICTURE, PICTURE_BREAK, PICTURE_END, ChatTemplate
from chat.prompts.thinking import refused_wishes, thinking_control

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.core.request import EngineOptions, Request
    from chat.gguf.reader import GgufFile
    from chat.prompts.builder import BuiltPrompt

SNAPSHOT_SHARE = 0.25  # of the free memory is for snapshots, but no more than this:
SNAPSHOT_BYTES = 2 << 30
REQUESTED = "asked for"


@dataclass(frozen=True)
class LoadedVocabulary:
    """What encoding and rendering prompts needs: a model that may have no weights.

    Attributes:
        limit: how many tokens prompt and answer may have together; None: no limit, as with a rolling window.
    """

    options: EngineOptions
    file: GgufFile
    model: Model
    vocabulary: Tokenizer
    prompt_format: str
    limit: int | None
    info: ModelInfo

    @cached_property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts that end an answer where the vocabulary has no control piece for them."""
        return stop_texts(self.prompt_format, self.vocabulary.template, self.vocabulary.special_names)

    def own_system_prompt(self) -> str:
        """The system prompt that the model was released with, with the dates of today; empty for none."""
        return default_system_prompt(self.file.metadata, self.prompt_format, date.today())

    def close(self) -> None:
        """Free the model."""
        self.model.close()


@dataclass
class PendingReports:
    """What is reported once of a loaded model, with the next answer for which it matters."""

    notices: list[str]  # with the next answer
    base_model_notice: str  # with the first conversation; empty: none
    load_seconds: float
    refused_wishes: tuple[str, ...] = ()  # the last sentences about wishes for reasoning that the model cannot follow
    is_beyond_training: bool = False  # the user has been warned of a prompt longer than the model was trained on


@dataclass(frozen=True)
class LoadedModel(LoadedVocabulary):
    """A loaded model and what answers with it; what belongs to the current session is in `generator.cache`."""

    generator: Generator
    load_seconds: float
    reports: PendingReports = field(repr=False)

    @cached_property
    def grammars(self) -> GrammarCompiler:
        """Compiles constraints; made at first use, since its table of pieces takes a moment."""
        return GrammarCompiler(self.vocabulary)

    def take_notices(self, request: Request, prompt: BuiltPrompt, *, has_marks: bool) -> list[str]:
        """The sentences about the model that the user has not seen and that matter with this request.

        Args:
            request: the request.
            prompt: its ids.
            has_marks: the model marks any reasoning.
        """
        reports = self.reports
        notices, reports.notices = reports.notices, []
        if request.prompt.messages is not None and reports.base_model_notice:
            notices.append(reports.base_model_notice)
            reports.base_model_notice = ""
        length, trained = len(prompt.ids), self.info.trained_context
        if self.limit is None and length > trained and not reports.is_beyond_training:
            notices.append(f"the prompt has {length:,} tokens, more than the {trained:,} the model was trained on")
            reports.is_beyond_training = True
        refused = refused_wishes(request, self.info, has_marks=has_marks)
        notices += [sentence for sentence in refused if sentence not in reports.refused_wishes]
        reports.refused_wishes = refused
        return notices

    def take_load_seconds(self) -> float:
        """How long loading took, for the first answer; 0 for every other."""
        seconds, self.reports.load_seconds = self.reports.load_seconds, 0.0
        return seconds

    def close(self) -> None:
        """Free the contexts and the models."""
        self.generator.close()
        super().close()


def load_vocabulary(options: EngineOptions) -> LoadedVocabulary:
    """Load the vocabulary alone, which takes no memory for weights.

    Raises:
        ModelError: the file cannot be used.
        UsageError: an option does not fit the model.
    """
    file, detected = _open(options)
    window = choose_window(file, options.window)
    info = _info(file, window, detected.name)
    pictures = PictureFile.open(options.mmproj, file, options) if options.mmproj else None
    model = Model(str(file.path), LoadSettings(vocab_only=True))
    vocabulary = Tokenizer(model.vocab, file.metadata)
    _give_eyes(pictures, model, vocabulary)
    return LoadedVocabulary(options, file, model, vocabulary, detected.name, None, info)


def load_model(options: EngineOptions, on_progress: Callable[[float], bool] | None = None) -> LoadedModel:
    """Check the file and the memory, then load the model.

    Args:
        options: how to load it.
        on_progress: gets the loaded fraction in 0..1; False stops the loading.

    Raises:
        ModelError: the file, an adapter, the picture encoder or the draft model cannot be used.
        MemoryLimitError: there is not enough memory.
        UsageError: an option does not fit the model.
    """
    started = time.perf_counter()
    file, detected = _open(options)
    # numpy takes a tenth of a second to import: do it while the weights are mapped
    threading.Thread(target=importlib.import_module, args=("numpy",), daemon=True).start()
    job = LoadJob.prepare(options, file)
    result = job.run(on_progress)
    context, plan = result.context, result.plan
    limit = None if plan.rolling else min(context.cells, known_context(file, options.window))
    drafter, draft_description = select_drafter(options, file, plan, context, job.draft)
    details = _details(result) | {"draft": draft_description, "prompt_format_reason": detected.reason}
    if job.pictures is not None:
        details |= {"mmproj": str(job.pictures.file.path), "mmproj_bytes": job.pictures.bytes}
    if job.draft is not None:
        details["draft_bytes"] = job.draft.host_bytes
    info = _info(file, job.window, detected.name)
    vocabulary = Tokenizer(context.model.vocab, file.metadata)
    _give_eyes(job.pictures, context.model, vocabulary, result)
    load_seconds = time.perf_counter() - started
    budget = min(SNAPSHOT_BYTES, int(host_free_bytes() * SNAPSHOT_SHARE))
    window_notice = missing_window_notice(file, options.window, context.cells)
    notices = [*result.notices, *([window_notice] if window_notice else [])]
    return LoadedModel(
        options=options,
        file=file,
        model=context.model,
        vocabulary=vocabulary,
        prompt_format=detected.name,
        limit=limit,
        info=replace(info, context=limit or info.trained_context, details=details),
        generator=Generator(context, Snapshots(budget), _state_store(job, result), drafter),
        load_seconds=load_seconds,
        reports=PendingReports(notices, _base_model_notice(detected), load_seconds),
    )


def _open(options: EngineOptions) -> tuple[GgufFile, Detected]:
    """Read and check the file, and find its prompt format."""
    file = read_gguf(Path(options.model_path))
    if file.is_adapter:
        raise ModelError(f"{file.path}: is an adapter, not a model", hint="`--lora FILE` adds it to its model")
    check_model(file)
    if options.prompt_format is None:
        try:
            return file, confirmed(detect_format(file.metadata), file.metadata)
        except UnknownFormatError:
            if options.needs_format:
                raise
            return file, Detected("raw", "the prompts are not made of messages")
    if options.prompt_format not in FORMATS:
        raise UsageError(f"unknown prompt format `{options.prompt_format}`", hint=f"one of {', '.join(FORMATS)}")
    return file, Detected(options.prompt_format, REQUESTED, is_named=True)


def _state_store(job: LoadJob, result: LoadResult) -> KvStateStore | None:
    """The state files whose bytes this model, build and machine would write in the same way."""
    options, file, plan = job.options, job.file, result.plan
    if options.state_folder is None or options.state_cache_bytes <= 0:
        return None
    samples = [(tensor.offset, tensor.bytes) for tensor in file.tensors.values()]
    fingerprint = {
        "build": build_name(),
        "machine": platform.machine(),
        "model": fingerprint_of_file(file.path, samples),
        "lora": [[fingerprint_of_file(Path(path), ()), scale] for path, scale in options.lora],
        "window": job.window.size,
        "rolling": plan.rolling,
        "cells": result.context.cells,
        "kv_type": options.kv_type,
        "flash_attention": options.flash_attention,
        "gpu_layers": plan.gpu_layers,
        "gpus": [gpu.description for gpu in usable_gpus(devices())] if plan.gpu_layers else [],
    }
    if job.pictures is not None:
        samples = [(tensor.offset, tensor.bytes) for tensor in job.pictures.file.tensors.values()]
        fingerprint["mmproj"] = fingerprint_of_file(job.pictures.file.path, samples)
    return KvStateStore(Path(options.state_folder), fingerprint, options.state_cache_bytes)


def _give_eyes(
    pictures: PictureFile | None, model: Model, vocabulary: Tokenizer, result: LoadResult | None = None
) -> None:
    """Let a model read pictures, if it has a picture encoder and its vocabulary the pieces for them.

    Args:
        pictures: the file of its picture encoder.
        model: loaded.
        vocabulary: of it.
        result: how the model was loaded; without it pictures are only counted.
    """
    pieces = [vocabulary.control_id(each.piece) for each in (PICTURE, PICTURE_BREAK, PICTURE_END)]
    if pictures is None or pieces[0] is None or pieces[1] is None or pieces[2] is None:
        return

    def open_encoder(is_cancelled: Callable[[], bool]) -> PictureEncoder:
        assert result is not None  # else nothing asks for rows
        return PictureEncoder(
            pictures.file,
            model,
            pictures.sizes,
            is_cancelled,
            threads=result.context.settings.threads,
            uses_gpu=result.plan.gpu_layers > 0,
            flash_attention=result.context.settings.flash_attention,
        )

    known = Pictures(pictures.sizes, (pieces[0], pieces[1]), open_encoder)
    vocabulary.pictures = model.pictures = known


def _base_model_notice(detected: Detected) -> str:
    """A sentence for a user who has a conversation with a base model without having asked for the format raw."""
    if detected.name != "raw" or detected.reason == REQUESTED:
        return ""
    return "This is a base model: it continues text instead of answering."


def _info(file: GgufFile, window: Window, prompt_format: str) -> ModelInfo:
    trained = file.key(ModelKey.CONTEXT_LENGTH)
    efforts = reasoning_efforts(file.metadata, prompt_format)
    system = default_system_prompt(file.metadata, prompt_format, date.today())
    return ModelInfo(
        path=str(file.path),
        size=file.size,
        type=file.type_name,
        architecture=file.architecture,
        window=window.size,
        context=trained,
        trained_context=trained,
        prompt_format=prompt_format,
        name=str(file.metadata.get(GeneralKey.NAME, "")),
        system_prompt=system,
        efforts=efforts.values if efforts is not None else (),
        thinking_control=thinking_control(prompt_format, ChatTemplate.of_metadata(file.metadata).text, efforts, system),
    )


def _details(result: LoadResult) -> dict[str, Any]:
    settings, plan = result.context.settings, result.plan
    return {
        "cells": result.context.cells,
        "rolling": settings.rolling,
        "threads": settings.threads,
        "kv_type": settings.kv_type,
        "flash_attention": settings.flash_attention,
        "flash_attention_used": result.context.uses_flash_attention,
        "batch": settings.batch,
        "gpu_layers": plan.gpu_layers,
        "repack": plan.repack,
        "weights_bytes": plan.weights_bytes,
        "cache_bytes": plan.cache_bytes,
        "work_bytes": plan.work_bytes,
        "copied_bytes": plan.copied_bytes,
        "host_bytes": plan.host_bytes,
        "gpu_bytes": plan.gpu_bytes,
        "reason": plan.reason,
    }
