"""The names of sessions, models, templates, presets and servers that completion offers."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from chat.system.environment import Environment

REMOTE_MODELS = "remote-models"  # names that depend on the rest of the line
MODELS_SECONDS = 2.0  # for a server to list its models


def offered_names(kind: str, environment: Environment) -> tuple[str, ...]:
    """The names of one kind that fit on one line each, without repeats; some with a tab and a title behind them.

    Args:
        kind: a key of `NAMES`.

    Raises:
        ChatError: they cannot be read.
    """
    return tuple(dict.fromkeys(name for name in NAMES[kind](environment) if name.replace("\t", "", 1).isprintable()))


def _session_names(environment: Environment) -> Iterable[str]:
    from chat.history.records import MAX_TITLE_LENGTH
    from chat.history.store import FILE_NAME, open_history
    from chat.rendering.styled_text import cut
    from chat.system.terminal_text import escape_line

    if not (environment.data_folder / FILE_NAME).exists():  # completion must not create a history
        return ()
    with open_history() as store:
        records = store.list()
    titles = [cut(escape_line(record.title), MAX_TITLE_LENGTH) for record in records]
    return [f"{record.label}\t{title}".rstrip("\t") for record, title in zip(records, titles, strict=True)]


def _model_names(_: Environment) -> Iterable[str]:
    from chat.hub.names import official_names
    from chat.models.stores import found_files

    return ["guide", *(file.name for file in found_files() if file.where != "current folder"), *official_names()]


def _template_names(_: Environment) -> Iterable[str]:
    from chat.templates import store

    return store.names()


def _preset_names(environment: Environment) -> Iterable[str]:
    return _tables(environment, "preset")


def _remote_names(environment: Environment) -> Iterable[str]:
    return _tables(environment, "remote")


def _tables(environment: Environment, kind: str) -> Iterable[str]:
    """The names of the tables `[kind.NAME]` in the settings file."""
    try:
        tables = tomllib.loads(environment.config_file.read_text(encoding="utf-8")).get(kind)
    except (OSError, ValueError):
        return ()
    return tuple(tables) if isinstance(tables, dict) else ()


def server_model_names(words: Sequence[str], environment: Environment) -> tuple[str, ...]:
    """The models of the server that a command line names by `--remote`; none if it does not answer at once.

    Args:
        words: the words of the command line.
    """
    from chat.app.remotes import named_options, server_models
    from chat.errors import ChatError

    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--remote=") else [word])]
    parts = [part for part in parts if part != "="]  # bash has it as a word
    after = [part for before, part in pairwise(parts) if before == "--remote"]
    try:
        return server_models(named_options(after[-1] if after else None, environment), MODELS_SECONDS)
    except ChatError:
        return ()


NAMES: Mapping[str, Callable[[Environment], Iterable[str]]] = {
    "sessions": _session_names,
    "models": _model_names,
    "templates": _template_names,
    "presets": _preset_names,
    "remotes": _remote_names,
}
