"""Say where our files live, and make folders for their owner only. The only door to platformdirs."""

from __future__ import annotations

import os
from pathlib import Path

from chat.errors import FileError

FOLDER_MODE = 0o700
_APP = "mistral-chat"
_HOME_VARIABLE = "MISTRAL_CHAT_HOME"


def data_folder() -> Path:
    """Where things live that cannot be made again: the history, pulled models."""
    return _folder("data")


def config_folder() -> Path:
    """Where the settings file lives."""
    return _folder("config")


def cache_folder() -> Path:
    """Where things live that can be made again; it may be emptied at any time."""
    return _folder("cache")


def models_folder() -> Path:
    """Where pulled and converted models live."""
    return data_folder() / "models"


def state_folder() -> Path:
    """Where the engine's saved states live, in files whose names begin with a session's id."""
    return cache_folder() / "states"


def make_private_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it, for the owner only.

    Raises:
        OSError: it cannot be made, or something else has its name.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=FOLDER_MODE, exist_ok=True)


def expand_path(text: str) -> Path:
    """The path that a person wrote: `~` is a home, but where nobody's is meant it is a name like others."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _folder(kind: str) -> Path:
    """The folder for `kind`, below MISTRAL_CHAT_HOME if that is set, else where the platform wants it.

    Raises:
        FileError: there is no home folder to put it in.
    """
    if home := os.environ.get(_HOME_VARIABLE):
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
