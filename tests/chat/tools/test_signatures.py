"""Schemas of Python functions, from their type hints and docstrings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from chat.prompts.json_schema import fault
from chat.tools.signatures import SignatureError, described


def everything(
    text: str,
    number: int,
    part: float = 1.5,
    *,
    is_on: bool = False,
    unit: Literal["C", "F"] = "C",
    maybe: str | None = None,
    names: list[str] | None = None,
    table: dict[str, int] | None = None,
    marked: Annotated[int, "How many."] = 1,
    free: Any = None,
    untyped=3,
) -> str:
    """Do everything.

    In two paragraphs.

    Args:
        text: what is
            said.
        number (int): how often.
        marked: is not taken.

    Returns:
        Nothing.
    """
    return ""


def test_hints_and_the_docstring_make_a_schema() -> None:
    description, schema = described(everything)
    assert description == "Do everything.\n\nIn two paragraphs."
    assert fault(schema) is None
    assert schema["required"] == ["text", "number"]
    assert schema["additionalProperties"] is False
    assert schema["properties"] == {
        "text": {"type": "string", "description": "what is said."},
        "number": {"type": "integer", "description": "how often."},
        "part": {"type": "number"},
        "is_on": {"type": "boolean"},
        "unit": {"enum": ["C", "F"]},
        "maybe": {"type": ["string", "null"]},
        "names": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        "table": {"anyOf": [{"type": "object", "additionalProperties": {"type": "integer"}}, {"type": "null"}]},
        "marked": {"type": "integer", "description": "How many."},
        "free": {},
        "untyped": {},
    }


def of_path(path: Path) -> None: ...


def of_pair(pair: tuple[int, str]) -> None: ...


def of_many(*names: str) -> None: ...


def of_position(name: str, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (of_path, "the argument `path` has the type Path, which JSON does not have"),
        (of_pair, "the argument `pair` is a tuple; use a list"),
        (of_many, "the argument `names` has no name that a model could give"),
        (of_position, "the argument `name` has no name that a model could give"),
    ],
)
def test_what_no_model_can_give_is_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(SignatureError, match=f"^{message}$"):
        described(function)
