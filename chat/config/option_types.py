"""Read off the settings what values each takes, and check values by it. Knows no layer, file or command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from chat.config.options import Option, Settings
from chat.errors import UsageError


@dataclass(frozen=True)
class OptionSpec:
    """A setting's name, how it is written, and the plain type of its values.

    `kind` is str, int, float, bool or Path; `many` tells a tuple of them, `choices` a closed set of texts.
    """

    name: str
    option: Option
    kind: type
    default: Any
    many: bool = False
    choices: tuple[str, ...] = ()


@cache
def option_specs() -> dict[str, OptionSpec]:
    """Every setting by name, in the order of help."""
    types = get_type_hints(Settings)
    return {
        each.name: _define(each.name, each.metadata["option"], types[each.name], each.default)
        for each in fields(Settings)
    }


def _define(name: str, option: Option, annotation: Any, default: Any) -> OptionSpec:
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return OptionSpec(name, option, str, default, choices=get_args(annotation))
    if get_origin(annotation) is tuple:
        return OptionSpec(name, option, get_args(annotation)[0], default, many=True)
    return OptionSpec(name, option, annotation, default)


def checked(spec: OptionSpec, value: Any) -> Any:
    """`value` as the setting's type, taken from text, TOML or the command line alike.

    Raises:
        UsageError: wrong type, outside the limits, or not one of the choices.
    """
    if spec.many:
        parts = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_checked_one(spec, part) for part in parts)
    return _checked_one(spec, value)


def _checked_one(spec: OptionSpec, value: Any) -> Any:
    name, option = spec.option.flag, spec.option
    if spec.kind is bool:
        return _truth(name, value)
    try:
        if isinstance(value, (bool, list, dict, NoneType)) or (spec.kind is int and isinstance(value, float)):
            raise ValueError
        converted = spec.kind(value)
    except (TypeError, ValueError):
        words = {int: "a whole number", float: "a number"}.get(spec.kind, "a text")
        raise UsageError(f"{name} needs {words}, not {value!r}") from None
    if spec.choices and converted not in spec.choices:
        raise UsageError(f"{name} is one of {', '.join(spec.choices)}, not {value!r}")
    if option.lowest is not None and not converted >= option.lowest:  # written so that NaN is refused as well
        raise UsageError(f"{name} is at least {_limit(option.lowest)}, not {value}")
    if option.highest is not None and not converted <= option.highest:
        raise UsageError(f"{name} is at most {_limit(option.highest)}, not {value}")
    return converted


def _limit(number: float) -> str:
    """A limit without rounding: 4294967295 rather than 4.29497e+09."""
    return str(int(number)) if number == int(number) else str(number)


def _truth(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if str(value).lower() not in words:
        raise UsageError(f"{name} is on or off, not {value!r}")
    return words[str(value).lower()]
