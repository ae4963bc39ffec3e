"""Lay the sources of settings over one another, from the defaults up to the flags, and remember each value's origin."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.config.conflicts import check_conflicts, superseded_by
from chat.config.option_types import checked, option_specs
from chat.config.options import Settings
from chat.config.settings_file import persistent_names, placed, read_settings_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENVIRONMENT_PREFIX = "MISTRAL_CHAT_"


@dataclass(frozen=True)
class ResolvedSettings:
    """The effective settings, and where each value that is no default came from, in words."""

    settings: Settings
    origins: Mapping[str, str]
    presets: tuple[str, ...] = ()


def resolve_settings(
    flags: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
    template: Mapping[str, Any] = MappingProxyType({}),
) -> ResolvedSettings:
    """Settle every option: defaults < file < preset < environment < template < flags.

    Of options that are alternatives the last layer's is the one that holds.

    Args:
        flags: values given on the command line, by setting name; those not given are absent.
        environment: variables, the process's own by default.
        file: a TOML file that may be missing.
        template: checked values that a prompt template brings; they lie between the environment and the flags.

    Raises:
        FileError: the file is there, but cannot be read.
        UsageError: an unknown name, a wrong value, or a flag that would do nothing; the message says in which file and
            line, or which variable.
    """
    environment = os.environ if environment is None else environment
    stored = read_settings_file(file)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def lay(more: Mapping[str, Any], origin_of: Mapping[str, str]) -> None:
        for name in superseded_by(more):
            values.pop(name, None)
            origins.pop(name, None)
        values.update(more)
        origins.update(origin_of)

    lay(*stored.values())
    variables = _from_environment(environment)
    preset = flags.get("preset", variables[0].get("preset"))
    if preset is not None:
        lay(*stored.preset(preset))
    lay(*variables)
    lay(template, dict.fromkeys(template, "template"))
    given = {name: checked(option_specs()[name], value) for name, value in flags.items()}
    lay(given, dict.fromkeys(flags, "flag"))
    settings = Settings(**values)
    check_conflicts(given, settings, origins)
    return ResolvedSettings(settings, origins, tuple(stored.presets))


def _from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in persistent_names():
        variable = ENVIRONMENT_PREFIX + name.upper()
        text = environment.get(variable)
        if text:
            values[name] = placed(option_specs()[name], text, f"${variable}")
            origins[name] = f"${variable}"
    return values, origins


def check_presets(resolved: ResolvedSettings, file: Path | None) -> None:
    """Lay each preset of the file over it, as if it was used.

    Raises:
        UsageError: one of them cannot be used.
    """
    for name in resolved.presets:
        resolve_settings({"preset": name}, file=file)
