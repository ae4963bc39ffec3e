"""The text of a PDF, page by page, with PDFium; of one without text, as a scanner makes it, pictures of its pages."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from chat.documents.placed_text import PlacedText
from chat.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

MOST_PAGES = 20  # of a scan that are read
PAGE_PIXELS = 1540  # of a picture's longer side: the most that the picture encoders of Mistral's models take
_LEADER = re.compile(r"(?: ?\.){5,}")  # of a table of contents


def read_pdf(path: Path, name: str) -> PlacedText:
    """The text with a line before each page that names it, and the places of the pages; else pictures of the pages.

    Raises:
        DataError: the file is damaged, locked by a password, or empty.
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
    if empty < len(file):
        found.note_pages("page", empty=empty)
        return found
    scan = PlacedText(name)
    scan.pages = [_jpeg(file[number]) for number in range(min(len(file), MOST_PAGES))]
    if not any(scan.pages):
        raise DataError(f"{name}: has neither text nor pictures")
    if len(file) == 1:
        scan.warn("has no text; its page is read as a picture")
    elif len(file) <= MOST_PAGES:
        scan.warn(f"has no text; its {len(file)} pages are read as pictures")
    else:
        scan.warn(f"has no text; the first {MOST_PAGES} of its {len(file):,} pages are read as pictures")
    return scan


def _jpeg(page: Any) -> bytes:
    """A picture of a page; empty for a page with nothing on it."""
    if next(page.get_objects(max_depth=1), None) is None:
        return b""
    file = io.BytesIO()
    picture = page.render(scale=PAGE_PIXELS / max(1.0, *page.get_size()))
    picture.to_pil().convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()


def _page_text(raw: str) -> str:
    """PDFium's text of a page; it marks a word that was parted at the end of a line by U+0002 or U+FFFE."""
    text = raw.replace("\ufffe", "").replace("\x02", "").replace("\r\n", "\n").replace("\r", "")
    return _LEADER.sub(" …", text)
