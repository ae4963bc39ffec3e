"""The JSON schema of a Python function, from its type hints and its docstring."""

from __future__ import annotations

import inspect
import re
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_LISTS = (list, tuple, set, frozenset)
_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns?|Yields|Raises|Examples?|Notes?):\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^\s+(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


class SignatureError(Exception):
    """A function that no schema describes, in one sentence."""


def described(function: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    """The description and the schema of the arguments of a function.

    Raises:
        SignatureError: it takes something that a model cannot give.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
    except (NameError, TypeError, ValueError) as error:
        raise SignatureError(f"its signature cannot be read: {error}") from error
    description, of_arguments = _docstring(function)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise SignatureError(f"the argument `{name}` has no name that a model could give")
        schema = _schema(hints.get(name, Any), name)
        if name in of_arguments:
            schema.setdefault("description", of_arguments[name])
        if parameter.default is parameter.empty:
            required.append(name)
        properties[name] = schema
    return description, {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _schema(hint: Any, name: str) -> dict[str, Any]:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if origin is Annotated:
        words = next((each for each in parts[1:] if isinstance(each, str)), None)
        return {**_schema(parts[0], name), **({"description": words} if words else {})}
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (Union, UnionType):
        choices = [_schema(each, name) for each in parts]
        if all(each.keys() == {"type"} for each in choices):
            return {"type": [each["type"] for each in choices]}
        return {"anyOf": choices}
    if hint in _LISTS or origin in _LISTS:
        inner = [each for each in parts if each is not ...]
        if origin is tuple and len(inner) != 1:
            raise SignatureError(f"the argument `{name}` is a tuple; use a list")
        return {"type": "array", **({"items": _schema(inner[0], name)} if inner else {})}
    if hint is dict or origin is dict:
        return {"type": "object", **({"additionalProperties": _schema(parts[1], name)} if parts else {})}
    raise SignatureError(
        f"the argument `{name}` has the type {getattr(hint, '__name__', hint)}, which JSON does not have"
    )


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The text before the first section, and what the section of arguments says of each (Google style)."""
    text = inspect.getdoc(function) or ""
    parts = _SECTION.split(text)
    of_arguments: dict[str, str] = {}
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        name = ""
        for line in body.splitlines() if heading in ("Args", "Arguments", "Parameters") else []:
            found = _ARGUMENT.match(line)
            if found:
                name = found[1]
                of_arguments[name] = found[2]
            elif name and line.strip():
                of_arguments[name] += f" {line.strip()}"
    return parts[0].strip(), of_arguments
