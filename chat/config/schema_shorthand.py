"""Read `name, age int, tags [str]` as a JSON schema. Knows the short form only."""

from __future__ import annotations

import re
from typing import Any

from chat.errors import UsageError

TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
}
WAYS = "fields like `name, age int, tags [str]`, a JSON schema in braces, or a file with one"
_FIELD = re.compile(r"^(?P<name>[^\W\d]\w*)(?P<optional>\?)?(?:\s+(?P<type>.+))?$")


def schema_of(shorthand: str) -> dict[str, Any]:
    """The schema of an object with these fields, in this order, all required but those marked `?`.

    A field is `name`, `name type` or `name? type`; a type is str, int, float, bool, `[type]` for a list, or
    `a|b|c` for one of these words.

    Raises:
        UsageError: a field that is none of these.
    """
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in _split(shorthand):
        match = _FIELD.match(field)
        if match is None:
            raise UsageError(
                f"--schema: cannot read the field {field!r}",
                hint=WAYS,
            )
        if match["name"] in properties:
            raise UsageError(f"--schema: the field `{match['name']}` stands twice")
        properties[match["name"]] = _type(match["type"] or "str", field)
        if not match["optional"]:
            required.append(match["name"])
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _split(shorthand: str) -> list[str]:
    return [part.strip() for part in shorthand.strip().strip(",").split(",")]


def _type(text: str, field: str) -> dict[str, Any]:
    text = text.strip()
    if text in TYPES:
        return TYPES[text]
    if text.startswith("[") and text.endswith("]") and len(text) > 2:
        return {"type": "array", "items": _type(text[1:-1], field)}
    if re.fullmatch(r"[\w-]+(\|[\w-]+)+", text):
        return {"enum": text.split("|")}
    raise UsageError(
        f"--schema: no type `{text}` in the field {field!r}", hint="str, int, float, bool, [type] or a|b|c"
    )
