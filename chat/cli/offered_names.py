"""Names that completion offers: of sessions, models, templates and presets. Knows where they are kept, not shells."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def _sessions() -> Iterable[str]:
    from chat.history.store import FILE_NAME, open_history
    from chat.system.paths import data_folder

    if not (data_folder() / FILE_NAME).exists():  # looking for names begins no history
        return ()
    with open_history() as store:
        return [record.name for record in store.list() if record.name]


def _models() -> Iterable[str]:
    from chat.hub.catalogue import official_names
    from chat.models.inventory import local_files

    return ["guide", *(each.name for each in local_files()), *official_names()]


def _templates() -> Iterable[str]:
    from chat.templates import store

    return store.names()


def _presets() -> Iterable[str]:
    from chat.system.paths import config_folder

    try:
        table = tomllib.loads((config_folder() / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(table.get("preset", ()))


NAMES: Mapping[str, Callable[[], Iterable[str]]] = {
    "sessions": _sessions,
    "models": _models,
    "templates": _templates,
    "presets": _presets,
}


def offered(kind: str) -> tuple[str, ...]:
    """The names of one kind that fit on a line each, without repeats.

    Raises:
        ChatError: they cannot be read.
    """
    return tuple(dict.fromkeys(name for name in NAMES[kind]() if name.isprintable()))
