"""Say which options belong to a conversation, and lay them over a person's other settings. Knows no store.

A session keeps the options that it was begun with and those that `/set` gave it. When it goes on they lie above the
settings file and the environment; what the command line says now lies above them, for this run alone.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.config.option_types import checked, option_specs
from chat.config.options import Group
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chat.config.resolve import ResolvedSettings
    from chat.history.records import SessionRecord

ORIGIN = "session"
BY_COMMAND = ("/set", "/preset", "/model", "/system")  # origins of what was given while talking
OF_THE_MODEL = ("remote", "remote_model", "lora", "prompt_format")  # another model does away with them
OF_THE_CONTEXT = ("context", "window", "overflow")


def is_persisted(name: str) -> bool:
    """Whether an option belongs to a conversation, rather than to a machine or a terminal."""
    option = option_specs()[name].option
    return name in (*OF_THE_MODEL, *OF_THE_CONTEXT) or (option.group is Group.ANSWER and option.live)


def persisted_options(resolved: ResolvedSettings, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The options that a session begun now keeps, or those of `names` that any session keeps, as plain values."""
    names = resolved.origins if names is None else names
    given = (name for name in names if is_persisted(name) and _is_given(resolved, name))
    return {name: _plain(name, getattr(resolved.settings, name)) for name in given}


def apply_session(resolved: ResolvedSettings, record: SessionRecord) -> ResolvedSettings:
    """The settings with the model and the options of a session that goes on, where the command line says nothing."""
    values = {**_model(resolved, record), **_options(resolved, record.settings), **_system(resolved, record)}
    if _is_given_now(resolved, "model") or _is_given_now(resolved, "remote"):
        values = {name: value for name, value in values.items() if name not in OF_THE_MODEL}
    elif values.get("remote"):
        values.pop("model", None)
    origins = {**resolved.origins, **dict.fromkeys(values, ORIGIN)}
    return replace(resolved, settings=replace(resolved.settings, **values), origins=origins)


def with_answer_options(resolved: ResolvedSettings, other: ResolvedSettings) -> ResolvedSettings:
    """The settings with those options of others that a session keeps and that need no other engine."""
    names = [name for name, each in option_specs().items() if is_persisted(name) and each.option.live]
    values = {name: getattr(other.settings, name) for name in names}
    origins = {name: origin for name, origin in resolved.origins.items() if name not in names}
    origins |= {name: origin for name, origin in other.origins.items() if name in names}
    return replace(resolved, settings=replace(resolved.settings, **values), origins=origins)


def own_words(resolved: ResolvedSettings) -> str:
    """The options that came from the session, as a person would set them; empty if there are none."""
    values = {name: getattr(resolved.settings, name) for name, origin in resolved.origins.items() if origin == ORIGIN}
    for name in ("model", "system", "system_file"):  # they are shown elsewhere
        values.pop(name, None)
    return ", ".join(f"{name.replace('_', '-')} {_word(value)}" for name, value in values.items())


def _is_given(resolved: ResolvedSettings, name: str) -> bool:
    """Whether a person gave a value to this conversation: it comes from no file, variable or default."""
    origin = resolved.origins.get(name, "")
    return origin == ORIGIN or origin.split(" ")[0] in BY_COMMAND or _is_given_now(resolved, name)


def _is_given_now(resolved: ResolvedSettings, name: str) -> bool:
    """Whether the command line gives the value, itself or by a preset or a template that it names."""
    origin = resolved.origins.get(name, "")
    by_preset = origin.startswith("preset ") and resolved.origins.get("preset") == "flag"
    return origin in ("flag", "template") or by_preset


def _model(resolved: ResolvedSettings, record: SessionRecord) -> dict[str, Any]:
    """The model that the session was held with, by its name where the file has gone."""
    if not record.model_path or _is_given_now(resolved, "model") or _is_given_now(resolved, "remote"):
        return {}
    path = record.model_path if Path(record.model_path).exists() else record.model or record.model_path
    return {"model": path, **({"remote": None} if resolved.settings.remote else {})}


def _system(resolved: ResolvedSettings, record: SessionRecord) -> dict[str, Any]:
    if _is_given_now(resolved, "system") or _is_given_now(resolved, "system_file"):
        return {}
    return {"system": record.system, **({"system_file": None} if resolved.settings.system_file else {})}


def _options(resolved: ResolvedSettings, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The stored options that this version knows and allows, less those that are given now."""
    values: dict[str, Any] = {}
    for name, value in stored.items():
        spec = option_specs().get(name)
        if spec is None or not is_persisted(name) or _is_given_now(resolved, name):
            continue
        with suppress(UsageError):  # of a version with other limits
            values[name] = checked(spec, value) if value is not None else None
    return values


def _plain(name: str, value: Any) -> Any:
    """A value as JSON has it."""
    if name == "lora":
        return [_whole_path(each) for each in value]
    return list(value) if isinstance(value, tuple) else value


def _whole_path(adapter: str) -> str:
    """An adapter, with its scale or without, as it is called from any folder."""
    path, colon, scale = adapter.rpartition(":")
    is_scaled = colon and not Path(adapter).exists()
    return f"{Path(path).absolute()}:{scale}" if is_scaled else str(Path(adapter).absolute())


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(repr, value)) or "none"
    return "default" if value is None else str(value)
