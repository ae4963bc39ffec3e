"""Run all checks in order and yield their findings."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chat.doctor.engine_checks import findings_of
from chat.doctor.machine_checks import (
    ENGINE,
    Finding,
    Terminal,
    check_command,
    check_embedding_model,
    check_engine_library,
    check_extras,
    check_folders,
    check_history,
    check_hub,
    check_pictures,
    check_program,
    check_settings,
    check_terminal,
    installed,
    pinned,
)
from chat.doctor.system_gpu import system_gpu
from chat.errors import ChatError, ModelError
from chat.system.installer import pip_install

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.config.options import Settings

PROBE = "chat.doctor.probe"


def examine(model: str | None, *, online: bool) -> Iterator[Finding]:
    """Check everything, the quick things first.

    Args:
        model: instead of the one that the settings name.
        online: ask the hub whether it answers.
    """
    yield check_program()
    if not getattr(sys, "frozen", False):  # one file has no name of its own on PATH
        yield check_command(shutil.which("mistral-chat"))
    yield check_engine_library(installed(ENGINE), pinned())
    yield check_extras()
    yield check_embedding_model(_embedding_model)
    yield from _check_files(online=online)
    yield from check_terminal(_terminal())
    yield from _check_functions(online=online)
    yield from _engine(model)


def _check_files(*, online: bool) -> Iterator[Finding]:
    from chat.system.paths import data_folder

    yield from check_folders()
    yield check_settings(_settings_file())
    try:
        yield check_history(data_folder() / "history.db")
    except ChatError as error:  # without a home there is none
        yield Finding("history", "problem", error.message, error.hint)
    yield check_hub(online=online)


def _check_functions(*, online: bool) -> Iterator[Finding]:
    """The sources of functions, if the settings name any."""
    settings = _settings(None)
    if settings.tool_table or settings.mcp_config:
        from chat.doctor.tool_checks import check_tools

        yield from check_tools(settings, online=online)


def _embedding_model() -> Path | None:
    """The embedding model that the settings name, else one that is here.

    Raises:
        ChatError: the named one cannot be used.
    """
    from chat.models.embedding import embedding_model

    return embedding_model(_settings(None))


def _engine(model: str | None) -> Iterator[Finding]:
    """What the engine's process finds out; a crash is a finding too."""
    from dataclasses import asdict

    from chat.app.request_builder import engine_options
    from chat.worker.task import run_isolated_task

    question = {}
    try:
        settings = _settings(model)
        path = _local_model(settings.model)
        if path is None:
            words = "no model is named, so its memory was not checked"
            yield Finding("model", "note", words, "`mistral-chat doctor -m MODEL`, or `mistral-chat models pull NAME`")
        else:
            yield Finding("model", "ok", str(path))
            options = engine_options(settings, path, session=True, state_folder=None)
            yield check_pictures(options.mmproj)
            question["options"] = asdict(options)
    except ChatError as error:
        yield Finding("model", "problem", error.message, error.hint)
    seen_gpu, version = system_gpu(), pinned() or ""
    try:
        for message in run_isolated_task(PROBE, question):
            yield from findings_of(message, seen_gpu, version)
    except ChatError as error:
        yield Finding("engine", "problem", error.message, f"`{pip_install(f'--force-reinstall {ENGINE}=={version}')}`")


def _settings(model: str | None) -> Settings:
    """The settings; their defaults if they cannot be read, which another finding reports."""
    from chat.config.options import Settings
    from chat.config.resolve import resolve_settings
    from chat.models.last_used import with_last_model

    try:
        return with_last_model(resolve_settings({"model": model} if model else {}, file=_settings_file())).settings
    except ChatError:
        return Settings(model=model)


def _local_model(name: str | None) -> Path | None:
    """The file of a model that is here; nothing is downloaded.

    Raises:
        ChatError: it is not here, or nothing has this name.
    """
    from chat.hub import PREFIX, gguf_here, read_hub_name
    from chat.models.resolve import resolve

    if name is not None and name.startswith(PREFIX):
        found = gguf_here(read_hub_name(name))
        if found is None:
            raise ModelError(f"{name} is not downloaded yet", hint=f"`mistral-chat models pull {name}` fetches it")
        return found
    try:
        return resolve(name)
    except ModelError:
        if name is None:
            return None
        raise


def _settings_file() -> Path | None:
    from chat.system.paths import config_folder

    try:
        return config_folder() / "config.toml"
    except ChatError:
        return None


def _terminal() -> Terminal:
    columns = shutil.get_terminal_size((80, 24)).columns
    return Terminal(sys.stdout.isatty(), columns, sys.stdout.encoding or "ascii", os.environ)
