"""Load everything that answers: file, model, vocabulary, context. Knows the order, and the reasons for the defaults."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.engine.decoder import Decoder, DecoderSettings
from chat.engine.engine import Engine
from chat.engine.model import LoadSettings, Model
from chat.engine.prompt import FORMATS, detect_format
from chat.engine.threads import worker_threads
from chat.engine.vocab import Vocabulary
from chat.engine.window import Window, choose_window, padded, rolling_cells
from chat.events import ModelInfo
from chat.ground.errors import UsageError
from chat.ground.gguf_reader import read_gguf
from chat.ground.gguf_rules import check_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.ground.gguf_reader import GgufFile
    from chat.request import EngineOptions

DEFAULT_CONTEXT = 8192  # where nothing else is asked for: its cache is 1 GiB for a 7B
BATCH = 256  # larger reads no faster on a CPU, and its steps would pass half a second before a cancel is seen


@dataclass
class Room:
    """A loaded model and all that is needed to answer with it; `engine` is None with the vocabulary alone.

    `limit` is the number of tokens that prompt and answer may have together; None where a window makes it endless.
    """

    options: EngineOptions
    file: GgufFile
    model: Model
    vocabulary: Vocabulary
    prompt_format: str
    engine: Engine | None
    limit: int | None
    info: ModelInfo
    load_seconds: float

    def close(self) -> None:
        """Free all of it."""
        if self.engine is not None:
            self.engine.decoder.close()
        self.model.close()


def load_room(options: EngineOptions, on_progress: Callable[[float], bool] | None = None) -> Room:
    """Check the file, then load it.

    Raises:
        ChatError: the file, the options or the memory do not allow it.
    """
    begun = time.perf_counter()
    file = read_gguf(Path(options.model_path))
    check_model(file)
    prompt_format = _prompt_format(options, file)
    window = choose_window(file, options.window)
    overrides = () if window.override is None else ((f"{file.architecture}.attention.sliding_window", window.override),)
    settings = LoadSettings(
        repack=options.repack == "on", mlock=options.mlock, vocab_only=options.vocab_only, overrides=overrides
    )
    model = Model(str(file.path), settings, on_progress)
    vocabulary = Vocabulary(model.vocab, file.metadata)
    trained = _trained_context(file)
    info = ModelInfo(
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
    if options.vocab_only:
        return Room(options, file, model, vocabulary, prompt_format, None, None, info, time.perf_counter() - begun)
    shape = decoder_settings(options, window, trained)
    decoder = Decoder(model, shape)
    limit = None if shape.rolling else decoder.cells
    info = replace(info, context=limit or trained, details=_details(decoder))
    seconds = time.perf_counter() - begun
    return Room(options, file, model, vocabulary, prompt_format, Engine(decoder), limit, info, seconds)


def decoder_settings(options: EngineOptions, window: Window, trained_context: int) -> DecoderSettings:
    """The shape of the context: constant where the window rolls, else as large as asked for.

    A context no larger than the window never needs to roll: every token sees all.
    """
    wanted = options.context or min(trained_context, DEFAULT_CONTEXT)
    rolling = window.rolling and window.size is not None and (options.context is None or options.context > window.size)
    cells = rolling_cells(window.size or 0, BATCH) if rolling else padded(wanted)
    return DecoderSettings(
        cells=cells,
        batch=min(BATCH, cells),
        rolling=rolling,
        kv_type=options.kv_type,
        flash_attention=options.flash_attention,
        threads=options.threads or worker_threads(),
    )


def _prompt_format(options: EngineOptions, file: GgufFile) -> str:
    if options.prompt_format is None:
        return detect_format(file.metadata).name
    if options.prompt_format not in FORMATS:
        raise UsageError(f"unknown prompt format `{options.prompt_format}`", hint=f"one of {', '.join(FORMATS)}")
    return options.prompt_format


def _trained_context(file: GgufFile) -> int:
    length = file.key("context_length")
    return length if isinstance(length, int) and length > 0 else DEFAULT_CONTEXT


def _details(decoder: Decoder) -> dict[str, Any]:
    settings = decoder.settings
    return {
        "cells": decoder.cells,
        "rolling": settings.rolling,
        "threads": settings.threads,
        "kv_type": settings.kv_type,
        "flash_attention": settings.flash_attention,
        "batch": settings.batch,
    }
