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
from chat.models import OLLAMA_PREFIX
from chat.system.paths import data_folder, make_private_folder
from chat.system.text_files import is_file, write_file

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
    """The settings with the model of the last session, if they name neither a model nor a server.

    Where that model is gone, the result has its name as `missing_model`.
    """
    settings = resolved.settings
    if settings.model is not None or settings.remote:
        return resolved
    name = last_model()
    if name is None:
        return resolved
    if not _is_here(name):
        return replace(resolved, missing_model=name)
    return replace(resolved, settings=replace(settings, model=name), origins={**resolved.origins, "model": ORIGIN})


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
    return Path(path).stem if name == path and not path.startswith(OLLAMA_PREFIX) else name


def _is_here(name: str) -> bool:
    if not name.startswith(OLLAMA_PREFIX):
        return is_file(name)
    from chat.models.stores import ollama_file

    return ollama_file(name) is not None
