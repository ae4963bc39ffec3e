"""Resolve the settings from their sources, from the defaults up to the flags, and record where each value is from."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.config.conflicts import check_conflicts, superseded_by
from chat.config.option_types import checked, option_specs
from chat.config.options import Settings
from chat.config.settings_file import checked_at, persistent_names, read_settings_file
from chat.errors import ChatError
from chat.system.environment import ACCESSIBLE, is_set
from chat.system.secrets import withhold

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENVIRONMENT_PREFIX = "MISTRAL_CHAT_"


@dataclass(frozen=True)
class CommonSettings:
    """The settings that hold for every command, not for answers only.

    Attributes:
        offline: what keeps the command from the network, in words; None where nothing does.
        accessible: whether the output is for a screen reader.
    """

    offline: str | None
    accessible: bool


@dataclass(frozen=True)
class ResolvedSettings:
    """The effective settings.

    Attributes:
        settings: their values; `settings.given` holds the names in `origins`.
        origins: where each value that is no default came from, in words, by the setting's name.
        presets: the names of the presets in the settings file.
        missing_model: the model of the last session, where nothing names another one and its file is gone.
    """

    settings: Settings
    origins: Mapping[str, str]
    presets: tuple[str, ...] = ()
    missing_model: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", replace(self.settings, given=frozenset(self.origins)))

    @property
    def common(self) -> CommonSettings:
        """The settings that hold for every command."""
        origin = self.origins.get("offline")
        offline = "`--offline`" if origin == "flag" else origin
        return CommonSettings(offline if self.settings.offline else None, self.settings.accessible)


def resolve_settings(
    flags: Mapping[str, Any],
    variables: Mapping[str, str] | None = None,
    file: Path | None = None,
    template: Mapping[str, Any] = MappingProxyType({}),
) -> ResolvedSettings:
    """Resolve every option: defaults < file < preset < variables < template < flags.

    Of options that are alternatives, the one from the last source holds.

    Args:
        flags: values given on the command line, by setting name.
        variables: environment variables, the process's own by default.
        file: a TOML file that may be missing.
        template: checked values that a prompt template sets.

    Raises:
        FileError: the file is there, but cannot be read.
        UsageError: an unknown name, a wrong value, or a flag that would do nothing; the message says in which file and
            line, or which variable.
    """
    stored = read_settings_file(file)
    remotes = stored.remotes()
    withhold(*(remote.key_variable for remote in remotes))
    own_models = {remote.name for remote in remotes if remote.model}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def apply(source: Mapping[str, Any], source_origins: Mapping[str, str]) -> None:
        for name in superseded_by(source):
            values.pop(name, None)
            origins.pop(name, None)
        if source.get("remote") in own_models:  # an earlier model belongs to another server
            values.pop("remote_model", None)
            origins.pop("remote_model", None)
        values.update(source)
        origins.update(source_origins)

    apply(*stored.values())
    variable_values, variable_origins = _from_variables(os.environ if variables is None else variables)
    preset = flags.get("preset", variable_values.get("preset"))
    if preset is not None:
        apply(*stored.preset(preset))
    apply(variable_values, variable_origins)
    apply(template, dict.fromkeys(template, "template"))
    given = {name: checked(option_specs()[name], value) for name, value in flags.items()}
    apply(given, dict.fromkeys(flags, "flag"))
    settings = Settings(**values, remotes=remotes, tool_table=stored.tool_table())
    check_conflicts(given, settings, origins)
    return ResolvedSettings(settings, origins, tuple(stored.presets))


def _from_variables(variables: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in persistent_names():
        variable = ENVIRONMENT_PREFIX + name.upper()
        text = variables.get(variable)
        if not text and name == "accessible" and is_set(variables, ACCESSIBLE):
            variable, text = ACCESSIBLE, "on"
        if text:
            values[name] = checked_at(option_specs()[name], text, f"${variable}")
            origins[name] = f"${variable}"
    return values, origins


def common_settings(variables: Mapping[str, str], file: Path | None) -> CommonSettings:
    """Read the settings that hold for every command; faults of other settings do not count.

    Args:
        variables: environment variables.
        file: the settings file, which may be missing. One that cannot be read may say `offline`, and counts as if.

    Raises:
        UsageError: the value of a variable is none.
    """
    names = ("offline", "accessible")
    asked = (ACCESSIBLE, *(ENVIRONMENT_PREFIX + name.upper() for name in names))
    values, origins = _from_variables({name: variables.get(name, "") for name in asked})
    try:
        stored = read_settings_file(file)
        in_file = {name: stored.place(name) for name in names if stored.table.get(name, False) is not False}
    except ChatError:
        in_file = {"offline": f"{file}, which cannot be read,"}
    values, origins = {**dict.fromkeys(in_file, True), **values}, {**in_file, **origins}
    return CommonSettings(origins["offline"] if values.get("offline") else None, bool(values.get("accessible")))


def check_presets(resolved: ResolvedSettings, file: Path | None) -> None:
    """Check each preset of the file by applying it.

    Raises:
        FileError: the file cannot be read.
        UsageError: a preset holds an unknown name or a wrong value.
    """
    for name in resolved.presets:
        resolve_settings({"preset": name}, file=file)
