"""The text of books (EPUB 2 and 3, W3C)."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.etree import ElementTree

from chat.documents.markup import markdown_of
from chat.documents.placed_text import PlacedText
from chat.documents.slides import tag
from chat.errors import DataError

if TYPE_CHECKING:
    import zipfile

CONTAINER = "META-INF/container.xml"
EPUB = "application/epub+zip"


def read_epub(archive: zipfile.ZipFile, name: str) -> PlacedText:
    """The chapters in reading order.

    Raises:
        DataError: it is damaged, or has no text.
        ImportError: the libraries are not installed.
        KeyError: a part is missing.
        ElementTree.ParseError: a part is damaged.
    """
    container = ElementTree.fromstring(archive.read(CONTAINER))
    book = next((each.get("full-path") for each in container.iter() if tag(each) == "rootfile"), None)
    if not book:
        raise DataError(f"{name}: is a damaged EPUB, which does not name its contents")
    package = ElementTree.fromstring(archive.read(book))
    files = {each.get("id"): each.get("href") for each in package.iter() if tag(each) == "item"}
    spine = [files.get(each.get("idref")) for each in package.iter() if tag(each) == "itemref"]
    found = PlacedText(name)
    missing = 0
    for href in spine:
        part = posixpath.normpath(posixpath.join(posixpath.dirname(book), unquote(href or "").partition("#")[0]))
        if part not in archive.namelist():
            missing += 1
            continue
        chapter = markdown_of(archive.read(part))
        if chapter:
            found.add(f"{chapter}\n\n", f"chapter {len(found.places) + 1}")
    if not found.text:
        raise DataError(f"{name}: has no text")
    if missing:
        found.warn(f"{missing} of its chapters are missing")
    return found
