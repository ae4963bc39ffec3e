"""The text of RTF documents (Rich Text Format 1.9), with striprtf."""

from __future__ import annotations

from chat.documents.placed_text import PlacedText
from chat.errors import DataError


def read_rtf(data: bytes, name: str) -> PlacedText:
    """The text without headers and notes; cells of tables have a bar between them.

    Raises:
        DataError: it has no text.
        ImportError: the library is not installed.
    """
    from striprtf.striprtf import rtf_to_text

    source = data.decode("latin-1")
    text = rtf_to_text(source, errors="replace")
    found = PlacedText(name)
    found.add(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip())
    if not found.text:
        raise DataError(f"{name}: has no text")
    if "\\footnote" in source:
        found.warn("footnotes of an RTF document are not read; save it as DOCX or ODT to have them")
    return found
