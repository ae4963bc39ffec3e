"""Lay the sources of settings over one another, from the defaults up to the flags, and remember each value's origin."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.definitions import Definition, checked, definitions
from chat.ground.errors import UsageError
from chat.settings import Settings
from chat.together import check_together, replaced_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ENVIRONMENT_PREFIX = "MISTRAL_CHAT_"


@dataclass(frozen=True)
class Layered:
    """The effective settings, and where each value that is no default came from, in words."""

    settings: Settings
    origins: Mapping[str, str]
    presets: tuple[str, ...] = ()


def layer(
    flags: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
    template: Mapping[str, Any] = MappingProxyType({}),
) -> Layered:
    """Settle every option: defaults < file < preset < environment < template < flags.

    Of options that are alternatives the last layer's is the one that holds.

    Args:
        flags: values given on the command line, by setting name; those not given are absent.
        environment: variables, the process's own by default.
        file: a TOML file that may be missing.
        template: checked values that a prompt template brings; they lie between the environment and the flags.

    Raises:
        UsageError: an unknown name, a wrong value, or a flag that would do nothing; the message says in which file and
            line, or which variable.
    """
    environment = os.environ if environment is None else environment
    text, table = _read_toml(file)
    presets = table.pop("preset", {})
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def lay(more: Mapping[str, Any], origin_of: Mapping[str, str]) -> None:
        for name in replaced_by(more):
            values.pop(name, None)
            origins.pop(name, None)
        values.update(more)
        origins.update(origin_of)

    lay(*_from_table(table, file, text))
    variables = _from_environment(environment)
    preset = flags.get("preset", variables[0].get("preset", values.get("preset")))
    if preset is not None:
        lay(*_from_preset(presets, preset, file, text))
    lay(*variables)
    lay(template, dict.fromkeys(template, "template"))
    given = {name: checked(definitions()[name], value) for name, value in flags.items()}
    lay(given, dict.fromkeys(flags, "flag"))
    settings = Settings(**values)
    check_together(given, settings, origins)
    return Layered(settings, origins, tuple(presets))


def _read_toml(file: Path | None) -> tuple[str, dict[str, Any]]:
    if file is None:
        return "", {}
    try:
        text = file.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except FileNotFoundError:
        return "", {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: {error}", hint="`mistral-chat config edit` opens it") from error


def _from_table(
    table: Mapping[str, Any], file: Path | None, text: str, section: str | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        place = f"{file}, line {_line_of(text, key, section)}"
        definition = definitions().get(name)
        if definition is None or not definition.option.persistent:
            near = get_close_matches(name, _persistent_names(), 1)
            raise UsageError(f"{place}: unknown setting `{key}`", hint=f"did you mean `{near[0]}`?" if near else None)
        values[name] = _placed(definition, value, place)
        origins[name] = place if section is None else f"preset {section}"
    return values, origins


def _from_preset(
    presets: Mapping[str, Any], name: str, file: Path | None, text: str
) -> tuple[dict[str, Any], dict[str, str]]:
    if name not in presets:
        there = f"presets: {', '.join(presets)}" if presets else "there are none; `mistral-chat config edit` adds one"
        raise UsageError(f"no preset `{name}` in {file}", hint=there)
    return _from_table(presets[name], file, text, section=name)


def _from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in _persistent_names():
        variable = ENVIRONMENT_PREFIX + name.upper()
        text = environment.get(variable)
        if text:
            values[name] = _placed(definitions()[name], text, f"${variable}")
            origins[name] = f"${variable}"
    return values, origins


def _persistent_names() -> Iterable[str]:
    return [name for name, definition in definitions().items() if definition.option.persistent]


def _placed(definition: Definition, value: Any, place: str) -> Any:
    try:
        return checked(definition, value)
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}", hint=error.hint) from error


def _line_of(text: str, key: str, section: str | None) -> int:
    """The line on which `key` is set; 1 where it cannot be told (a dotted or inline table)."""
    current: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*preset\s*\.\s*[\"']?([^\]\"']+?)[\"']?\s*\]", line):
            current = header[1]
        elif current == section and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return 1
