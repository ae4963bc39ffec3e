"""Texts from outside may hold halves of characters (lone surrogates), which no encoding has."""

from __future__ import annotations


def whole_characters(text: str) -> str:
    """The text with its surrogate pairs joined, and U+FFFD for each half of a character."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def without_escaped_bytes(text: str) -> str:
    """The text with U+FFFD for bytes that are not UTF-8, which Python keeps as lone surrogates (PEP 383)."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")
