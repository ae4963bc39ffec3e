"""The spec of each option, from the fields of `Settings`, and the check of values against it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from chat.config.options import Option, Settings
from chat.errors import UsageError

LONGEST_SHOWN = 60  # characters of a wrong value


@dataclass(frozen=True)
class OptionSpec:
    """An option and the type of its values.

    Attributes:
        name: the setting's name.
        kind: str, int, float, bool or Path.
        many: whether the value is a tuple of that type.
        choices: the only values of a text; empty if any text will do.
    """

    name: str
    option: Option
    kind: type
    default: Any
    many: bool = False
    choices: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a text may be in place of a number."""
        parts = (self.option.metavar or "").split("|") if self.kind is str else ()
        return tuple(part for part in parts if part.islower())

    @property
    def names_file(self) -> bool:
        """Whether a value may be the path of a file."""
        return not {"FILE", "PATH"}.isdisjoint(re.findall(r"\w+", self.option.metavar or ""))


@cache
def option_specs() -> dict[str, OptionSpec]:
    """The specs of all settings by name, in the order of `--help`."""
    types = get_type_hints(
        Settings, localns={"Remote": object, "ToolTable": object}
    )  # no option has that type, and it loads slowly
    return {
        field.name: _spec(field.name, field.metadata["option"], types[field.name], field.default)
        for field in fields(Settings)
        if "option" in field.metadata
    }


def _spec(name: str, option: Option, annotation: Any, default: Any) -> OptionSpec:
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return OptionSpec(name, option, str, default, choices=get_args(annotation))
    if get_origin(annotation) is tuple:
        return OptionSpec(name, option, get_args(annotation)[0], default, many=True)
    return OptionSpec(name, option, annotation, default)


def checked(spec: OptionSpec, value: Any) -> Any:
    """A value of the setting's type.

    Args:
        value: from TOML, JSON, a variable or the command line.

    Raises:
        UsageError: it has the wrong type, is outside the limits, or is not one of the choices.
    """
    if spec.many:
        parts = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_checked_one(spec, part) for part in parts)
    return _checked_one(spec, value)


def _checked_one(spec: OptionSpec, value: Any) -> Any:
    name = spec.option.flag
    if spec.kind is bool:
        return _truth(name, value)
    if spec.kind in (int, float):
        return _number(spec, spec.kind, value)
    if isinstance(value, (bool, list, dict, NoneType)):
        raise UsageError(f"{name} must be a text, not {_shown(value)}")
    if spec.option.lowest is not None:
        return str(value) if str(value) in spec.words else str(_number(spec, int, value))
    if spec.choices and value not in spec.choices:
        raise UsageError(f"{name} must be one of {', '.join(spec.choices)}, not {_shown(value)}")
    return spec.kind(value)


def _number(spec: OptionSpec, kind: type[int | float], value: Any) -> int | float:
    """A number within the option's limits, in ASCII digits if it is a text; NaN is never within limits.

    Raises:
        UsageError: it is none; the message has the limits.
    """
    lowest, highest = spec.option.lowest, spec.option.highest
    number: int | float | None = None
    if not isinstance(value, (bool, list, dict, NoneType)) and not (kind is int and isinstance(value, float)):
        with suppress(TypeError, ValueError, OverflowError):
            is_plain = not isinstance(value, str) or (value.isascii() and "_" not in value)
            number = kind(value) if is_plain else None
    if number is None or lowest is None or highest is None or not lowest <= number <= highest:
        words = [*spec.words, "a whole number" if kind is int else "a number"]
        phrase = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
        limits = "" if lowest is None or highest is None else f" from {_limit(lowest)} to {_limit(highest)}"
        found = _shown(value) if number is None else _shown(str(value)).strip("'")
        raise UsageError(f"{spec.option.flag} must be {phrase}{limits}, not {found}")
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _limit(number: float) -> str:
    """A limit without rounding: 4294967295 rather than 4.29497e+09."""
    return str(int(number)) if number == int(number) else str(number)


def _truth(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if str(value).lower() not in words:
        raise UsageError(f"{name} must be on or off, not {_shown(value)}")
    return words[str(value).lower()]
