"""Texts from outside may hold halves of characters (lone surrogates), which no encoding has, and fences of Markdown."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn


def whole_characters(text: str) -> str:
    """The text with its surrogate pairs joined, and U+FFFD for each half of a character."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def json_text(plain: Any, *, encoding: str | None = "utf-8", indent: int | None = None) -> str:
    """The value as JSON that strict readers take: no halves of characters, and null for NaN and infinity.

    Args:
        plain: what `json.dumps` takes; other values become their text.
        encoding: of the stream for the text; if it lacks a character, all that is not ASCII is escaped.
        indent: as for `json.dumps`.
    """
    options: dict[str, Any] = {"indent": indent, "default": str}
    try:
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, **options)
        text.encode("utf-8")
    except ValueError:
        text = whole_characters(json.dumps(plain, ensure_ascii=False, **options))
        plain = json.loads(text, parse_constant=lambda _: None)
        text = json.dumps(plain, ensure_ascii=False, **options)
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(plain, **options)
    return text


def strict_json(text: str) -> Any:
    """The value of a JSON text, which no NaN or infinity is a part of, and no number that a float cannot hold.

    Raises:
        ValueError: it is not JSON, or has such a number.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number in JSON")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError("a number in it is too large")
    return number


def without_escaped_bytes(text: str) -> str:
    """The text with U+FFFD for bytes that are not UTF-8, which Python keeps as lone surrogates (PEP 383)."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def fence_around(text: str) -> str:
    """Backticks for a code block of Markdown with this text, more than stand together anywhere in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)
