"""The text of a PDF, page by page, with PDFium."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.documents.document import Place
from chat.errors import DataError
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    from pathlib import Path

_LEADER = re.compile(r"(?: ?\.){5,}")  # of a table of contents


def read_pdf(path: Path, name: str) -> tuple[str, list[Place], list[str]]:
    """The text with a line before each page that names it, the places of the pages, and warnings.

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
    parts: list[str] = []
    places: list[Place] = []
    at = empty = 0
    for number, page in enumerate(file, 1):
        content = _page_text(page.get_textpage().get_text_bounded())
        page.close()
        empty += not content.strip()
        places.append(Place(at, f"page {number}"))
        parts.append(f"[page {number}]\n{content}\n\n")
        at += len(parts[-1])
    pages = counted(len(places), "page")
    if empty == len(places):
        hint = "make its text readable first, for example with `ocrmypdf`"
        raise DataError(f"{name}: has no text, only pictures of {pages}", hint=hint)
    warnings = [f"{name}: {empty:,} of {pages} have no text, only pictures"] if empty else []
    return "".join(parts).rstrip(), places, warnings


def _page_text(raw: str) -> str:
    """PDFium's text of a page; it marks a word that was parted at the end of a line by U+0002 or U+FFFE."""
    text = raw.replace("\ufffe", "").replace("\x02", "").replace("\r\n", "\n").replace("\r", "")
    return _LEADER.sub(" …", text)
