"""The text of a PDF, page by page, with PDFium."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.documents.placed_text import PlacedText
from chat.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

_LEADER = re.compile(r"(?: ?\.){5,}")  # of a table of contents


def read_pdf(path: Path, name: str) -> PlacedText:
    """The text with a line before each page that names it, and the places of the pages.

    Raises:
        DataError: the file is damaged, locked by a password, or has pictures in place of text.
        ImportError: the library is not installed.
    """
    import pypdfium2

    try:
        file = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise DataError(f"{name}: is locked by a password", hint="save it without one") from error
        raise DataError(f"{name}: is a damaged PDF, which cannot be read") from error
    found = PlacedText(name)
    empty = 0
    for number, page in enumerate(file, 1):
        content = _page_text(page.get_textpage().get_text_bounded())
        page.close()
        empty += not content.strip()
        found.add(f"[page {number}]\n{content}\n\n", f"page {number}")
    hint = "make its text readable first, for example with `ocrmypdf`"
    found.note_pages("page", empty=empty, hint=hint)
    return found


def _page_text(raw: str) -> str:
    """PDFium's text of a page; it marks a word that was parted at the end of a line by U+0002 or U+FFFE."""
    text = raw.replace("\ufffe", "").replace("\x02", "").replace("\r\n", "\n").replace("\r", "")
    return _LEADER.sub(" …", text)
