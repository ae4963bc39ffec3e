"""Texts from outside may hold halves of characters (lone surrogates), which no encoding has, and fences of Markdown."""

from __future__ import annotations

import re


def whole_characters(text: str) -> str:
    """The text with its surrogate pairs joined, and U+FFFD for each half of a character."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def without_escaped_bytes(text: str) -> str:
    """The text with U+FFFD for bytes that are not UTF-8, which Python keeps as lone surrogates (PEP 383)."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def fence_around(text: str) -> str:
    """Backticks for a code block of Markdown with this text, more than stand together anywhere in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)
