"""Turn settings into what an engine is asked: load options, sampling, constraint; reads the files that options name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.config.schema_shorthand import WAYS, schema_of
from chat.core.request import Constraint, EngineOptions, Prompt, Request, Sampling
from chat.errors import DataError, FileError, ModelError, UsageError
from chat.system.paths import expand_path

if TYPE_CHECKING:
    from chat.config.options import Settings

GIBIBYTE = 1 << 30


def engine_options(settings: Settings, model_path: Path, *, session: bool, state_folder: Path | None) -> EngineOptions:
    """How the model is to be loaded.

    Raises:
        UsageError: values that contradict each other or cannot be read as numbers.
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


def build_request(prompt: Prompt, settings: Settings, *, session: str | None = None) -> Request:
    """The prompt, with how it is to be answered; `session` is whose saved state it goes on from.

    Raises:
        ChatError: a constraint or a file of functions that cannot be used.
    """
    return Request(
        prompt=replace(prompt, tools=_tools(settings)),
        sampling=_sampling(settings),
        max_tokens=settings.max_tokens,
        stop=settings.stop,
        constraint=_constraint(settings),
        logprobs=settings.logprobs,
        session=session,
    )


def _sampling(settings: Settings) -> Sampling:
    return Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=settings.min_p,
        repeat_penalty=settings.repeat_penalty,
        seed=settings.seed,
    )


def _constraint(settings: Settings) -> Constraint | None:
    """What the answer must match, if anything.

    Raises:
        UsageError: more than one constraint, or one that is no JSON where JSON is needed.
        FileError: a named file cannot be read.
    """
    given = [
        name
        for name, value in (
            ("--schema", settings.schema),
            ("--grammar", settings.grammar),
            ("--regex", settings.regex),
            ("--choice", settings.choice),
        )
        if value not in (None, ())
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other", hint="give one of them")
    if settings.choice and settings.logprobs:
        raise UsageError("--choice and --logprobs exclude each other", hint="--json tells the chances of each choice")
    if "" in (settings.schema, settings.grammar, settings.regex):  # an unset variable of a script is no permission
        raise UsageError(f"{given[0]} is empty", hint="leave it out for a free answer")
    if settings.schema:
        return Constraint("schema", _schema_text(settings.schema))
    if settings.grammar:
        text = read_text(Path(settings.grammar)) if _is_file(settings.grammar) else settings.grammar
        return Constraint("gbnf" if "::=" in text else "lark", text)
    if settings.regex:
        return Constraint("regex", settings.regex)
    if settings.choice:
        return Constraint("choice", json.dumps(list(dict.fromkeys(settings.choice))))
    return None


def _tools(settings: Settings) -> tuple[dict[str, Any], ...]:
    """The functions the model may call, from the file of `--tools`.

    Raises:
        DataError: not a JSON list of objects.
    """
    if settings.tools is None:
        return ()
    text = read_text(settings.tools)
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{settings.tools}: is not JSON: {error}") from error
    if not isinstance(plain, list) or not all(isinstance(each, dict) for each in plain):
        raise DataError(f"{settings.tools}: needs a JSON list of functions")
    return tuple(plain)


def system_prompt(settings: Settings) -> str | None:
    """The system prompt, given as text or as a file.

    Raises:
        UsageError: both are given.
        FileError: the file cannot be read.
    """
    if settings.system is not None and settings.system_file is not None:
        raise UsageError("--system and --system-file exclude each other", hint="give one of them")
    if settings.system_file is not None:
        return read_text(settings.system_file).rstrip("\n") or None
    return settings.system or None


def read_text(path: Path) -> str:
    """The text of a small UTF-8 file that an option names.

    Raises:
        FileError: it cannot be read.
        DataError: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def _is_file(value: str) -> bool:
    try:
        return Path(value).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def _schema_text(value: str) -> str:
    """JSON text of a schema that was given as JSON, as a file with JSON, or in the short form."""
    if not value.lstrip().startswith("{") and not _is_file(value):
        return json.dumps(schema_of(value))
    text = value if value.lstrip().startswith("{") else read_text(Path(value))
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--schema is not JSON: {error}", hint=WAYS) from error
    return text


def _adapter(text: str) -> tuple[str, float]:
    path, colon, scale = text.rpartition(":")
    if colon and not Path(text).exists():
        try:
            return path, float(scale)
        except ValueError:
            pass
    return text, 1.0


def _draft(value: str) -> str:
    """A word, or the path of a small model.

    Raises:
        ModelError: no such file.
    """
    if value in ("lookup", "off"):
        return value
    path = expand_path(value)
    if not _is_file(str(path)):
        raise ModelError(f"{value}: no such file", hint="`--draft` is lookup, off, or a small model's GGUF file")
    return str(path)


def _require_number_or(value: str, flag: str, words: tuple[str, ...]) -> None:
    if value not in words and not (value.isdecimal() and value.isascii()):
        raise UsageError(f"{flag} is {', '.join(words)} or a number, not {value!r}")
