"""The constraint on an answer that `--schema`, `--grammar`, `--regex` and `--choice` give."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.core.request import Constraint
from chat.errors import UsageError
from chat.system.text_files import is_file, read_text

if TYPE_CHECKING:
    from chat.config.options import Settings

TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
}
SCHEMA_FORMS = "fields like `name, age int, tags [str]`, a JSON schema in braces, or a file with one"
_FIELD = re.compile(r"^(?P<name>[^\W\d]\w*)(?P<optional>\?)?(?:\s+(?P<type>.+))?$")


def constraint_of(settings: Settings) -> Constraint | None:
    """What the answer must match; None if it is free.

    Raises:
        UsageError: more than one constraint, an empty one, or a schema that is no JSON.
        FileError: a named file cannot be read.
        DataError: a named file is not UTF-8.
    """
    given = [
        name
        for name, value in (
            ("--schema", settings.schema),
            ("--grammar", settings.grammar),
            ("--regex", settings.regex),
            ("--choice", settings.choice),
        )
        if value not in (None, ())
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other", hint="give one of them")
    if settings.choice and settings.logprobs:
        raise UsageError(
            "--choice and --logprobs exclude each other", hint="--json holds the probability of each choice"
        )
    if "" in (settings.schema, settings.grammar, settings.regex):  # a script's unset variable must not allow any answer
        raise UsageError(f"{given[0]} is empty", hint="leave it out for a free answer")
    if settings.schema:
        return Constraint("schema", _schema_text(settings.schema))
    if settings.grammar:
        text = read_text(Path(settings.grammar)) if is_file(settings.grammar) else settings.grammar
        return Constraint("gbnf" if "::=" in text else "lark", text)
    if settings.regex:
        return Constraint("regex", settings.regex)
    if settings.choice:
        return Constraint("choice", json.dumps(list(dict.fromkeys(settings.choice))))
    return None


def schema_of(shorthand: str) -> dict[str, Any]:
    """The schema of an object with the fields of the short form, in this order, all required but those marked `?`.

    A field is `name`, `name type` or `name? type`; a type is str, int, float, bool, `[type]` for a list, or
    `a|b|c` for one of these words.

    Raises:
        UsageError: a field has none of these forms, or a name occurs twice.
    """
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in shorthand.strip().strip(",").split(","):
        field = field.strip()
        match = _FIELD.match(field)
        if match is None:
            raise UsageError(f"--schema: cannot read the field {field!r}", hint=SCHEMA_FORMS)
        if match["name"] in properties:
            raise UsageError(f"--schema: the field `{match['name']}` occurs twice")
        properties[match["name"]] = _type_schema(match["type"] or "str", field)
        if not match["optional"]:
            required.append(match["name"])
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _type_schema(text: str, field: str) -> dict[str, Any]:
    text = text.strip()
    if text in TYPES:
        return TYPES[text]
    if text.startswith("[") and text.endswith("]") and len(text) > 2:
        return {"type": "array", "items": _type_schema(text[1:-1], field)}
    if re.fullmatch(r"[\w-]+(\|[\w-]+)+", text):
        return {"enum": text.split("|")}
    raise UsageError(
        f"--schema: no type `{text}` in the field {field!r}", hint="str, int, float, bool, [type] or a|b|c"
    )


def _schema_text(value: str) -> str:
    """The JSON text of a schema that was given as JSON, as a file with JSON, or in the short form."""
    if not value.lstrip().startswith("{") and not is_file(value):
        return json.dumps(schema_of(value))
    text = value if value.lstrip().startswith("{") else read_text(Path(value))
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--schema is not JSON: {error}", hint=SCHEMA_FORMS) from error
    return text
