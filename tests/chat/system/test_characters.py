"""JSON for strict readers."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest

from chat.system.characters import json_text


def refuse(word: str) -> NoReturn:
    raise AssertionError(word)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", None])
@pytest.mark.parametrize(
    ("plain", "read"),
    [
        ({"é": "\ud83d\ude00 \ud800"}, {"é": "\U0001f600 \ufffd"}),
        ({"\udc80": ["\udfff", {"a": "\udbff\udbff"}]}, {"\ufffd": ["\ufffd", {"a": "\ufffd\ufffd"}]}),
        ([float("nan"), float("inf"), -float("inf"), 1.5], [None, None, None, 1.5]),
        ({"a": "😀", "b": 10**4000, "c": (1, "\ud800")}, {"a": "😀", "b": 10**4000, "c": [1, "\ufffd"]}),
    ],
)
def test_a_strict_reader_takes_what_is_printed(plain: Any, read: Any, encoding: str | None, indent: int | None) -> None:
    """A server's text with half of a character was printed as `\\ud800`, and a figure of a damaged file as NaN."""
    text = json_text(plain, encoding=encoding, indent=indent)
    assert "\\ud800" not in text and "\\udc" not in text.replace("\\ud83d\\ude00", "")
    assert json.loads(text.encode(encoding or "utf-8"), parse_constant=refuse) == read
