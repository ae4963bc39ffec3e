"""Turn settings into load options and requests, and read the files that the settings name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.app.constraint_options import constraint_of
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.errors import DataError, ModelError, UsageError
from chat.system.paths import expand_path
from chat.system.text_files import is_file, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.config.options import Settings

    Tool = dict[str, Any]  # the JSON schema of a function, as OpenAI's API has it

GIBIBYTE = 1 << 30


def engine_options(settings: Settings, model_path: Path, *, session: bool, state_folder: Path | None) -> EngineOptions:
    """How the model is loaded.

    Args:
        session: whether a terminal session uses the model; its overlong prompts lose their oldest messages by default.
        state_folder: the folder for saved states; None to save none.

    Raises:
        UsageError: values that contradict each other or are no numbers.
        ModelError: the draft model is missing.
    """
    if settings.kv_type in ("q8_0", "q4_0") and settings.flash_attention == "off":
        raise UsageError(
            f"--kv-type {settings.kv_type} needs flash attention, but --flash-attention is off",
            hint="leave out `--flash-attention off`, or use `--kv-type f16`",
        )
    _require_number_or(settings.window, "--window", ("auto", "off"))
    _require_number_or(settings.gpu_layers, "--gpu-layers", ("auto", "all"))
    return EngineOptions(
        model_path=str(model_path),
        context=settings.context,
        window=settings.window,
        kv_type=settings.kv_type,
        gpu_layers=settings.gpu_layers,
        threads=settings.threads,
        flash_attention=settings.flash_attention,
        repack=settings.repack,
        mlock=settings.mlock,
        lora=tuple(_adapter(text) for text in settings.lora),
        draft=_draft(settings.draft),
        prompt_format=settings.prompt_format,
        overflow=settings.overflow or ("drop" if session else "error"),
        vocab_only=settings.dry_run,
        state_cache_bytes=int(settings.state_cache * GIBIBYTE),
        state_folder=str(state_folder) if state_folder else None,
    )


def build_request(
    prompt: Prompt, settings: Settings, *, tools: Sequence[Tool] = (), session: str | None = None
) -> Request:
    """A request for one answer.

    Args:
        tools: the functions that the model may call, as `read_tools` gives them.
        session: the id of the session whose saved state the prompt continues.

    Raises:
        UsageError: the constraint cannot be used.
        FileError: a file of the constraint cannot be read.
        DataError: a file of the constraint is not UTF-8.
    """
    return Request(
        prompt=replace(prompt, tools=tuple(tools)),
        sampling=_sampling(settings),
        max_tokens=settings.max_tokens,
        stop=settings.stop,
        constraint=constraint_of(settings),
        logprobs=settings.logprobs,
        session=session,
    )


def read_tools(settings: Settings) -> tuple[Tool, ...]:
    """The functions that the model may call, from the file of `--tools`; read once in a run.

    Raises:
        FileError: it cannot be read.
        DataError: it is not a JSON list of objects.
    """
    if settings.tools is None:
        return ()
    text = read_text(settings.tools)
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{settings.tools}: is not JSON: {error}") from error
    if not isinstance(plain, list) or not all(isinstance(tool, dict) for tool in plain):
        raise DataError(f"{settings.tools}: needs a JSON list of functions")
    return tuple(plain)


def system_prompt(settings: Settings) -> str | None:
    """The system prompt, given as text or as a file; None if there is none.

    Raises:
        UsageError: both are given.
        FileError: the file cannot be read.
        DataError: the file is not UTF-8.
    """
    if settings.system is not None and settings.system_file is not None:
        raise UsageError("--system and --system-file exclude each other", hint="give one of them")
    if settings.system_file is not None:
        return read_text(settings.system_file).rstrip("\n") or None
    return settings.system or None


def _sampling(settings: Settings) -> Sampling:
    return Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=settings.min_p,
        repeat_penalty=settings.repeat_penalty,
        seed=settings.seed,
    )


def _adapter(text: str) -> tuple[str, float]:
    """The path and the scale of `PATH[:SCALE]`."""
    path, colon, scale = text.rpartition(":")
    if colon and not Path(text).exists():
        try:
            return path, float(scale)
        except ValueError:
            pass
    return text, 1.0


def _draft(value: str) -> str:
    """`lookup`, `off`, or the path of a draft model.

    Raises:
        ModelError: there is no such file.
    """
    if value in ("lookup", "off"):
        return value
    path = expand_path(value)
    if not is_file(str(path)):
        raise ModelError(f"{value}: no such file", hint="`--draft` is lookup, off, or a small model's GGUF file")
    return str(path)


def _require_number_or(value: str, flag: str, words: tuple[str, ...]) -> None:
    if value not in words and not (value.isdecimal() and value.isascii()):
        raise UsageError(f"{flag} is {', '.join(words)} or a number, not {value!r}")
