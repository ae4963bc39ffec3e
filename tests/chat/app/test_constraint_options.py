"""The short form of a schema."""

from __future__ import annotations

import pytest

from chat.app.constraint_options import schema_of
from chat.errors import UsageError


def test_fields_become_properties_in_their_order() -> None:
    assert schema_of("name, age int, tags [str], mood good|bad, note? str, grid [[float]], ok bool,") == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "mood": {"enum": ["good", "bad"]},
            "note": {"type": "string"},
            "grid": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "ok": {"type": "boolean"},
        },
        "required": ["name", "age", "tags", "mood", "grid", "ok"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age integer", "--schema: no type `integer` in the field 'age integer'"),
        ("1a", "--schema: cannot read the field '1a'"),
        ("", "--schema: cannot read the field ''"),
        ("a,,b", "--schema: cannot read the field ''"),
        ("a, a", "--schema: the field `a` occurs twice"),
        ("a []", "--schema: no type `[]` in the field 'a []'"),
        ("a [str", "--schema: no type `[str` in the field 'a [str'"),
    ],
)
def test_what_is_no_field_is_refused_with_the_field(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        schema_of(text)
    assert caught.value.message == message
