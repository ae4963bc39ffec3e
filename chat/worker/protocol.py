"""Convert the values that parent and child exchange to JSON lines and back.

A line is one JSON object in ASCII: NUL, lone surrogates and line ends inside texts survive as escapes.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import types
import typing
from typing import Any, TypeVar, Union, get_args, get_origin

from chat.core.events import (
    Completion,
    Event,
    LoadProgress,
    Notice,
    PictureProgress,
    PrefillProgress,
    ReasoningDelta,
    TextDelta,
)
from chat.errors import ERROR_OF_CODE, ChatError, ExitCode

Value = TypeVar("Value")

EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (LoadProgress, PictureProgress, PrefillProgress, ReasoningDelta, TextDelta, Notice, Completion)
}


def to_line(message: dict[str, Any]) -> bytes:
    """One message as one line; dataclasses inside become objects, tuples become lists, bytes become base64.

    Raises:
        TypeError: a value has no JSON form and is no dataclass.
    """
    return _ENCODER.encode(message).encode("ascii") + b"\n"


def from_line(line: bytes) -> dict[str, Any]:
    """The message of one line.

    Raises:
        ValueError: the line is not a JSON object.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


def pack_event(event: Event) -> dict[str, Any]:
    """An event as an object that names its class."""
    return {"kind": type(event).__name__, "fields": _fields(event)}


def unpack_event(plain: dict[str, Any]) -> Event:
    """The inverse of `pack_event`.

    Raises:
        KeyError: the class is unknown.
        TypeError: a field is missing or unknown.
    """
    return build(EVENTS[plain["kind"]], plain["fields"])


def pack_error(error: ChatError) -> dict[str, Any]:
    """An error as an object; its exit code stands for its class."""
    return {"code": int(error.exit_code), "message": error.message, "hint": error.hint}


def unpack_error(plain: dict[str, Any]) -> ChatError:
    """The inverse of `pack_error`."""
    kind = ERROR_OF_CODE.get(ExitCode(plain["code"]), ChatError)
    return kind(plain["message"], hint=plain["hint"])


def build(kind: type[Value], plain: dict[str, Any]) -> Value:
    """A dataclass from the object that `to_line` made of it; nested dataclasses are built too.

    Raises:
        TypeError: a field is missing or unknown.
    """
    hints = _hints(kind)  # type: ignore[arg-type]
    unknown = plain.keys() - hints.keys()
    if unknown:
        raise TypeError(f"{kind.__name__} has no field {min(unknown)}")
    return kind(**{name: _restore(hints[name], value) for name, value in plain.items()})


def _fields(value: Any) -> dict[str, Any] | str:
    """The fields of a dataclass, one level deep: the encoder calls this again for nested ones; bytes as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return {name: getattr(value, name) for name in _names(type(value))}  # type: ignore[arg-type]


@functools.cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind.__name__} cannot be sent")
    return tuple(field.name for field in dataclasses.fields(kind))


_ENCODER = json.JSONEncoder(default=_fields, separators=(",", ":"))  # `json.dumps` makes one for each message


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _restore(hint: Any, value: Any) -> Any:
    """The value in the type of `hint`: JSON has lists for tuples and objects for dataclasses."""
    if value is None:
        return None
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _restore(next(arg for arg in get_args(hint) if arg is not type(None)), value)
    if origin is tuple:
        args = get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_restore(args[0], item) for item in value)
        return tuple(_restore(arg, item) for arg, item in zip(args, value, strict=True))
    if hint is bytes:
        return base64.b64decode(value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    return value
