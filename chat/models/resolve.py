"""Resolve what `-m` names to a GGUF file: a path, the guide, or a name that `inventory` looks up.

`inventory` searches folders and asks the hub; it is imported only for names: a session with a path starts faster.
"""

from __future__ import annotations

from pathlib import Path

from chat.guide import NAME as GUIDE
from chat.guide import PATH as GUIDE_FILE
from chat.system.paths import expand_path


def resolve(name: str | None) -> Path:
    """The GGUF file that `name` means.

    A path; a name in the models folder, or how one of them begins; `hf:owner/repo[:QUANT]`, which is downloaded where
    it is not here; the name of an official model that was pulled; `guide`. None means the only model that was pulled,
    and the guide inside this program where there is none.

    Raises:
        ModelError: nothing has that name, or several things; the hint says what to do.
        ChatError: a download failed.
    """
    path = None if name is None else _existing(name)
    if path and not path.is_dir():
        return path
    if name == GUIDE:
        return GUIDE_FILE
    from chat.models.inventory import find_model, only_model

    return only_model() if name is None else find_model(name, is_folder=path is not None)


def _existing(name: str) -> Path | None:
    try:
        path = expand_path(name)
        return path if name and path.exists() else None
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return None
