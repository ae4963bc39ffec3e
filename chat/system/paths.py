"""The folders of the program and how they are made, for their owner only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER_MODE = 0o700
_APP = "mistral-chat"
_HOME_VARIABLE = "MISTRAL_CHAT_HOME"


def data_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """The folder of data that cannot be made again: the history, pulled models.

    Raises:
        FileError: there is no home folder.
    """
    return _folder("data", variables)


def config_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """The folder of the settings file and the prompt templates.

    Raises:
        FileError: there is no home folder.
    """
    return _folder("config", variables)


def cache_folder() -> Path:
    """The folder of data that can be made again; it may be emptied at any time.

    Raises:
        FileError: there is no home folder.
    """
    return _folder("cache", os.environ)


def models_folder() -> Path:
    """The folder of pulled and converted models.

    Raises:
        FileError: there is no home folder.
    """
    return data_folder() / "models"


def state_folder() -> Path:
    """The folder of the engine's saved states, in files whose names begin with a session's id.

    Raises:
        FileError: there is no home folder.
    """
    return cache_folder() / "states"


def make_private_folder(folder: Path) -> None:
    """Make `folder` and its missing parents, for the owner only.

    Raises:
        OSError: it cannot be made, or a file has its name.
    """
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=FOLDER_MODE, exist_ok=True)


def require_private_folder(folder: Path) -> None:
    """Make `folder` as `make_private_folder` does, for what cannot be done without it.

    Raises:
        FileError: it cannot be made.
    """
    try:
        make_private_folder(folder)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {error.strerror}") from error


def expand_path(text: str) -> Path:
    """The path that a user wrote, with `~` replaced; a `~` that names no user's home stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _folder(kind: str, variables: Mapping[str, str]) -> Path:
    """The folder for `kind`, below MISTRAL_CHAT_HOME if that is set, else where the platform wants it.

    Raises:
        FileError: there is no home folder.
    """
    if home := variables.get(_HOME_VARIABLE):
        return Path(home).absolute() / kind
    import platformdirs

    finders = {
        "data": platformdirs.user_data_path,
        "config": platformdirs.user_config_path,
        "cache": platformdirs.user_cache_path,
    }
    try:
        folder = finders[kind](_APP, appauthor=False)
    except RuntimeError:
        folder = Path("~")
    if folder.is_absolute():
        return folder
    # A user without a home: new versions of platformdirs raise, older ones leave the `~` in the path.
    raise FileError(
        f"there is no home folder for the {kind} of {_APP}", hint=f"set {_HOME_VARIABLE} to a folder of your own"
    )
