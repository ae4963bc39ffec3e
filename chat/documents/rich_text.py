"""The text of RTF documents (Rich Text Format 1.9), with striprtf."""

from __future__ import annotations

import re

from chat.documents.placed_text import PlacedText
from chat.errors import DataError

_TOKEN = re.compile(r"\\\\|\\[{}]|[{}]|(?:\\\*\s*)?\\footnote(?![a-z])|\\deleted(?![a-z0])")
_NOTE = re.compile(r"\s*\[note:\s+")


def read_rtf(data: bytes, name: str) -> PlacedText:
    """The text without headers and what changes have deleted; notes stand where they are referred to.

    Cells of tables have a bar between them.

    Raises:
        DataError: it has no text.
        ImportError: the library is not installed.
    """
    from striprtf.striprtf import rtf_to_text

    text = _NOTE.sub(" [note: ", rtf_to_text(_with_notes(data.decode("latin-1")), errors="replace"))
    found = PlacedText(name)
    found.add(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip())
    if not found.text:
        raise DataError(f"{name}: has no text")
    return found


def _with_notes(source: str) -> str:
    """The document with its notes as text in brackets, and deleted text in groups that are passed over."""
    depth = 0
    notes: list[int] = []  # the depths of the groups that are notes

    def written(match: re.Match[str]) -> str:
        nonlocal depth
        token = match[0]
        if token.endswith("footnote"):
            notes.append(depth)
            return " [note: "
        if token == r"\deleted":
            return rf"\*{token}"
        is_end = token == "}" and notes[-1:] == [depth]
        if is_end:
            notes.pop()
        depth += (token == "{") - (token == "}")
        return "]}" if is_end else token

    return _TOKEN.sub(written, source)
