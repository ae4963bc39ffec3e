"""Check that a value is a JSON Schema of draft 7, by the rules of the draft's meta-schema."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")


def fault(schema: Any, path: str = "") -> str | None:
    """The first fault of a schema with the path to it; None where there is none.

    Args:
        schema: plain JSON values.
        path: of the schema within a larger one.
    """
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return f"`{path or '/'}` is not a schema"
    for key, value in schema.items():
        check = _KEYWORDS.get(key)
        if check and (found := check(value, f"{path}/{key}")):
            return found
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer()) and value >= 0


def _is_pattern(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and len(set(value)) == len(value)


def _is_type(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and _are_names(value) and all(name in _TYPES for name in value)
    return isinstance(value, str) and value in _TYPES


def _plain(test: Callable[[Any], bool], expected: str) -> Callable[[Any, str], str | None]:
    return lambda value, path: None if test(value) else f"`{path}` is not {expected}"


def _schemas(value: Any, path: str) -> str | None:
    if not isinstance(value, list) or not value:
        return f"`{path}` is not a list of schemas"
    return next((found for index, item in enumerate(value) if (found := fault(item, f"{path}/{index}"))), None)


def _schema_or_schemas(value: Any, path: str) -> str | None:
    return _schemas(value, path) if isinstance(value, list) else fault(value, path)


def _named_schemas(value: Any, path: str) -> str | None:
    if not isinstance(value, dict):
        return f"`{path}` is not an object of schemas"
    return next((found for name, item in value.items() if (found := fault(item, f"{path}/{name}"))), None)


def _pattern_schemas(value: Any, path: str) -> str | None:
    if isinstance(value, dict) and (bad := [name for name in value if not _is_pattern(name)]):
        return f"`{path}/{bad[0]}` is not named by a regular expression"
    return _named_schemas(value, path)


def _dependencies(value: Any, path: str) -> str | None:
    if not isinstance(value, dict):
        return f"`{path}` is not an object"
    return _named_schemas({name: item for name, item in value.items() if not _are_names(item)}, path)


_TEXT = _plain(lambda value: isinstance(value, str), "text")
_NUMBER = _plain(_is_number, "a number")
_COUNT = _plain(_is_count, "a whole number from 0")
_BOOLEAN = _plain(lambda value: isinstance(value, bool), "true or false")
_LIST = _plain(lambda value: isinstance(value, list), "a list")
_KEYWORDS: dict[str, Callable[[Any, str], str | None]] = {
    **dict.fromkeys(("$id", "$schema", "$ref", "$comment", "title", "description", "format"), _TEXT),
    **dict.fromkeys(("contentMediaType", "contentEncoding"), _TEXT),
    **dict.fromkeys(("readOnly", "uniqueItems"), _BOOLEAN),
    **dict.fromkeys(("examples", "enum"), _LIST),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"), _NUMBER),
    **dict.fromkeys(("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"), _COUNT),
    **dict.fromkeys(("additionalItems", "contains", "additionalProperties", "propertyNames"), fault),
    **dict.fromkeys(("if", "then", "else", "not"), fault),
    **dict.fromkeys(("allOf", "anyOf", "oneOf"), _schemas),
    **dict.fromkeys(("definitions", "properties"), _named_schemas),
    "multipleOf": _plain(lambda value: _is_number(value) and value > 0, "a number over 0"),
    "pattern": _plain(_is_pattern, "a regular expression"),
    "items": _schema_or_schemas,
    "patternProperties": _pattern_schemas,
    "dependencies": _dependencies,
    "required": _plain(_are_names, "a list of different names"),
    "type": _plain(_is_type, "a type or a list of different types"),
}
# those that newer drafts brought, and annotations
_FURTHER = (
    *("const", "default", "deprecated", "writeOnly", "prefixItems", "minContains", "maxContains"),
    *("dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)
KEYWORDS = frozenset((*_KEYWORDS, *_FURTHER))
