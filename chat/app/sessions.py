"""Find or create the stored session that the settings name, and apply the options that are stored with it.

A session stores the options that it was started with and those that `/set` changed. When it continues, they override
the settings file and the environment; options on the command line override them, for this run alone.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.app import request_builder
from chat.config.option_types import checked, option_specs
from chat.config.options import Group
from chat.core.conversation import Conversation
from chat.errors import ModelError, UsageError
from chat.models.last_used import with_last_model
from chat.models.resolve import resolve
from chat.system.paths import expand_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chat.config.resolve import ResolvedSettings
    from chat.history.open_session import OpenSession
    from chat.history.records import SessionRecord
    from chat.history.store import Store

ORIGIN = "session"
BY_COMMAND = ("/set", "/preset", "/model", "/system")  # origins of what commands set in a session
OF_THE_MODEL = (
    "remote",
    "remote_model",
    "lora",
    "mmproj",
    "prompt_format",
    "effort",
)  # dropped when another model is chosen
OF_THE_CONTEXT = ("context", "window", "overflow", "picture_size")


def is_persisted(name: str) -> bool:
    """Whether an option is stored with a session; options of the machine or the terminal are not."""
    option = option_specs()[name].option
    return name in (*OF_THE_MODEL, *OF_THE_CONTEXT) or (option.group is Group.ANSWER and option.live)


def persisted_options(resolved: ResolvedSettings, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The given options that a session stores, as JSON values.

    Args:
        names: the options to look at; all by default.
    """
    names = resolved.origins if names is None else names
    given = (name for name in names if is_persisted(name) and _is_given(resolved, name))
    return {name: _json_value(name, getattr(resolved.settings, name)) for name in given}


def apply_session(resolved: ResolvedSettings, record: SessionRecord) -> ResolvedSettings:
    """The settings with the model and the options of a session, except what the command line sets."""
    values = {**_model(resolved, record), **_options(resolved, record.settings), **_system(resolved, record)}
    if _is_given_now(resolved, "model") or _is_given_now(resolved, "remote"):
        values = {name: value for name, value in values.items() if name not in OF_THE_MODEL}
    elif values.get("remote"):
        values.pop("model", None)
    origins = {**resolved.origins, **dict.fromkeys(values, ORIGIN)}
    return replace(resolved, settings=replace(resolved.settings, **values), origins=origins)


def with_answer_options(resolved: ResolvedSettings, other: ResolvedSettings) -> ResolvedSettings:
    """The settings with those stored options of `other` that need no reload of the model."""
    names = [name for name, spec in option_specs().items() if is_persisted(name) and spec.option.live]
    values = {name: getattr(other.settings, name) for name in names}
    origins = {name: origin for name, origin in resolved.origins.items() if name not in names}
    origins |= {name: origin for name, origin in other.origins.items() if name in names}
    return replace(resolved, settings=replace(resolved.settings, **values), origins=origins)


def session_options_text(resolved: ResolvedSettings) -> str:
    """The options that came from the session, as `/set` takes them; empty if there are none."""
    values = {name: getattr(resolved.settings, name) for name, origin in resolved.origins.items() if origin == ORIGIN}
    for name in ("model", "system", "system_file"):  # shown elsewhere
        values.pop(name, None)
    return ", ".join(f"{name.replace('_', '-')} {_word(value)}" for name, value in values.items())


def _is_given(resolved: ResolvedSettings, name: str) -> bool:
    """Whether the user set a value for this session: it comes from no file, variable or default."""
    origin = resolved.origins.get(name, "")
    return origin == ORIGIN or origin.split(" ")[0] in BY_COMMAND or _is_given_now(resolved, name)


def _is_given_now(resolved: ResolvedSettings, name: str) -> bool:
    """Whether the command line sets the value, directly or by a preset or a template."""
    origin = resolved.origins.get(name, "")
    by_preset = origin.startswith("preset ") and resolved.origins.get("preset") == "flag"
    return origin in ("flag", "template") or by_preset


def _model(resolved: ResolvedSettings, record: SessionRecord) -> dict[str, Any]:
    """The model of the session, by its name if the file is gone."""
    if not record.model_path or _is_given_now(resolved, "model") or _is_given_now(resolved, "remote"):
        return {}
    path = record.model_path if Path(record.model_path).exists() else record.model or record.model_path
    return {"model": path, **({"remote": None} if resolved.settings.remote else {})}


def _system(resolved: ResolvedSettings, record: SessionRecord) -> dict[str, Any]:
    if _is_given_now(resolved, "system") or _is_given_now(resolved, "system_file"):
        return {}
    return {"system": record.system, **({"system_file": None} if resolved.settings.system_file else {})}


def _options(resolved: ResolvedSettings, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The stored options that this version knows and allows, without those that the command line sets."""
    values: dict[str, Any] = {}
    for name, value in stored.items():
        spec = option_specs().get(name)
        if spec is None or not is_persisted(name) or _is_given_now(resolved, name):
            continue
        with suppress(UsageError):  # stored by a version with other limits
            values[name] = checked(spec, value) if value is not None else None
    return values


def _json_value(name: str, value: Any) -> Any:
    """The value of an option in JSON types."""
    from chat.config.remotes import public_value

    if name == "lora":
        return [_absolute_adapter(adapter) for adapter in value]
    if name == "mmproj" and value not in ("auto", "off"):
        return str(expand_path(value).absolute())
    return list(value) if isinstance(value, tuple) else public_value(name, value)


def _absolute_adapter(adapter: str) -> str:
    """An adapter `PATH[:SCALE]` with an absolute path, so that it is valid in any folder."""
    path, colon, scale = adapter.rpartition(":")
    is_scaled = colon and not Path(adapter).exists()
    return f"{Path(path).absolute()}:{scale}" if is_scaled else str(Path(adapter).absolute())


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(repr, value)) or "none"
    return "default" if value is None else str(value)


@contextmanager
def open_named_session(resolved: ResolvedSettings) -> Iterator[tuple[OpenSession, ResolvedSettings]]:
    """Open the stored session that the settings name.

    Yields:
        The session, and the settings with its stored options and its model, or the last session's.

    Raises:
        UsageError: the session's name is not allowed.
        ModelError: the session's model is missing.
    """
    from chat.history.open_session import OpenSession
    from chat.history.store import open_history

    with open_history(enabled=not resolved.settings.no_history) as store:
        record, resolved = find_session(store, resolved)
        conversation = load_conversation(store, record, resolved)
        yield OpenSession(store, conversation, record, persisted_options(resolved)), resolved


def find_session(store: Store, resolved: ResolvedSettings) -> tuple[SessionRecord | None, ResolvedSettings]:
    """Find the session that the settings name, and apply its stored options; name the last model if nothing names one.

    A new name creates a session. With `--continue` and no session, or without either option, there is none.

    Raises:
        ModelError: the session's model is missing.
        UsageError: the name is not allowed.
    """
    settings = resolved.settings
    record = None
    if settings.session is not None:
        record = store.find_named(settings.session)
        if record is None:
            resolved = with_last_model(resolved)
            system = Conversation(system=request_builder.system_prompt(settings))
            options = persisted_options(resolved)
            created = store.create(
                name=settings.session, model=resolved.settings.model or "", settings=options, conversation=system
            )
            return created, resolved
    elif settings.continue_last:
        record = store.latest()
    if record is not None:
        resolved = _checked_model(apply_session(resolved, record))
    return record, with_last_model(resolved)


def load_conversation(store: Store, record: SessionRecord | None, resolved: ResolvedSettings) -> Conversation:
    """The conversation of a session, with the system prompt of the settings.

    Raises:
        FileError: the system prompt's file cannot be read.
        DataError: that file is not UTF-8.
    """
    conversation = store.load(record.id)[1] if record else Conversation()
    return conversation.with_system(request_builder.system_prompt(resolved.settings))


def _checked_model(resolved: ResolvedSettings) -> ResolvedSettings:
    """The settings of a continued session.

    Raises:
        ModelError: its model is missing.
    """
    settings = resolved.settings
    if resolved.origins.get("model") == ORIGIN and not settings.remote:
        try:
            resolve(settings.model)
        except ModelError as error:
            hint = "`-m NAME` continues it with another model"
            raise ModelError(f"the session's model is gone: {error.message}", hint=hint) from error
    return resolved
