"""Schemas are accepted and refused as jsonschema does by the meta-schema of draft 7."""

from __future__ import annotations

import random
from typing import Any

import pytest
from jsonschema import Draft7Validator
from jsonschema.exceptions import SchemaError

from chat.prompts.json_schema import _KEYWORDS, fault
from tests.grids import FULL

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2.0, 2.5, 1e300, "", "text", "string", "(", "a|b", [], {}, ["a"], ["a", "a"]),
    *([1], ["string", "null"], ["string", "string"], ["thing"], [{}], [True], [{"type": 3}], {"a": {}}, {"a": 7}),
    *({"(": {}}, {"a": ["b"]}, {"a": ["b", "b"]}, {"a": True}, {"type": "object"}, {"minimum": "1"}),
)


def schema(dice: random.Random, depth: int = 0) -> Any:
    made: dict[str, Any] = {}
    for _ in range(dice.randrange(4)):
        key = dice.choice((*_KEYWORDS, "default", "const", "unknown"))
        made[key] = schema(dice, depth + 1) if depth < 3 and dice.random() < 0.4 else dice.choice(VALUES)
    return dice.choice((made, made, made, made, [made], {"a": made}))


def is_schema(value: Any) -> bool:
    try:
        Draft7Validator.check_schema(value)
    except SchemaError:
        return False
    return True


def test_random_schemas_are_accepted_as_by_the_reference() -> None:
    dice = random.Random(7)
    right = 0
    for _ in range(20_000 if FULL else 2000):
        value = schema(dice)
        assert (fault(value) is None) == is_schema(value), value
        right += is_schema(value)
    assert right > 300


@pytest.mark.parametrize("key", [*_KEYWORDS, "default", "const", "readOnly"])
def test_every_keyword_is_accepted_as_by_the_reference(key: str) -> None:
    for value in VALUES:
        assert (fault({key: value}) is None) == is_schema({key: value}), value
