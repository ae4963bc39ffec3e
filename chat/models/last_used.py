"""Remember the model of the last terminal session, and use it where none is named.

What decides which model answers, the first that names one: `-m`, a template, the environment, a preset, the settings
file; but a session that continues keeps its own model against all but the command line. Where nothing names one: the
model of the last session if its file is still here, else the only pulled model, else in a terminal session the user's
choice, and elsewhere the guide if no model was pulled.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import ChatError, FileError
from chat.guide import PATH as GUIDE_FILE
from chat.system.paths import data_folder, make_private_folder

if TYPE_CHECKING:
    from chat.config.resolve import ResolvedSettings

FILE_NAME = "last-model.json"  # beside the history
ORIGIN = "last session"
_KEY = "model"
_MAX_BYTES = 1 << 16


def remember_model(path: Path) -> None:
    """Store which model a session uses; the guide is not stored, so that the choice comes again.

    A file that cannot be written is no error: the history, in the same folder, reports what is wrong there.
    """
    if path == GUIDE_FILE:
        return
    name = model_name(str(path))
    if name == last_model():
        return
    from chat.system.text_files import write_file

    with suppress(ChatError, OSError):
        file = data_folder() / FILE_NAME
        make_private_folder(file.parent)
        write_file(file, json.dumps({_KEY: name}) + "\n", overwrite=True)


def last_model() -> str | None:
    """The model of the last session as `-m` takes it; None where none is stored, or the file is damaged."""
    try:
        with (data_folder() / FILE_NAME).open("rb") as file:
            name = json.loads(file.read(_MAX_BYTES))[_KEY]
    except (OSError, ValueError, LookupError, TypeError, RecursionError, FileError):
        return None
    return name if isinstance(name, str) and name else None


def with_last_model(resolved: ResolvedSettings) -> ResolvedSettings:
    """The settings with the model of the last session, if they name neither a model nor a server and it is here."""
    settings = resolved.settings
    if settings.model is not None or settings.remote:
        return resolved
    name = last_model()
    if name is None or not _is_here(name):
        return resolved
    return replace(resolved, settings=replace(settings, model=name), origins={**resolved.origins, "model": ORIGIN})


def missing_last_model(resolved: ResolvedSettings) -> str | None:
    """The model of the last session if it would be used, but is gone."""
    if resolved.settings.model is not None or resolved.settings.remote:
        return None
    name = last_model()
    return name if name is not None and not _is_here(name) else None


@lru_cache(maxsize=64)
def model_name(path: str) -> str:
    """A model as `-m` takes it everywhere: its path, but for a blob of Ollama the name that Ollama gives it."""
    if Path(path).suffix or Path(path).parent.name != "blobs":
        return path
    from chat.models.stores import ollama_files

    return next((file.name for file in ollama_files() if str(file.path) == path), path)


def short_name(path: str) -> str:
    """A model for the screen: its file's name without `.gguf`, or Ollama's name of it."""
    name = model_name(path)
    return Path(path).stem if name == path else name


def _is_here(name: str) -> bool:
    from chat.models.stores import OLLAMA_PREFIX, ollama_files

    if name.startswith(OLLAMA_PREFIX):
        return any(file.name == name for file in ollama_files())
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False
