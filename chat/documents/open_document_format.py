"""The text of OpenDocument texts, presentations and drawings (ODT, ODP, ODG; OASIS OpenDocument 1.3)."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from chat.documents.markup import markdown_of
from chat.documents.placed_text import PlacedText
from chat.documents.slides import tag
from chat.errors import DataError

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

CONTENT = "content.xml"
MANIFEST = "META-INF/manifest.xml"
TEXT, SPREADSHEET = "text", "spreadsheet"  # elements of the body; those of presentations and drawings hold pages
_PAGES = {"presentation": "slide", "drawing": "page"}
_UNREAD = (
    "tracked-changes",
    "annotation",
    "forms",
    "title",
    "desc",
    "notes",
    "sequence-decls",
    "variable-decls",
    "page-number",
)
_ELEMENTS = {"list": "ul", "list-item": "li", "list-header": "li", "table": "table", "table-row": "tr",
             "table-cell": "td", "covered-table-cell": "td"}  # fmt: skip
MOST_SPACES = 80  # that one element stands for


def is_locked(archive: zipfile.ZipFile) -> bool:
    """Whether the parts of an OpenDocument file are encrypted."""
    return MANIFEST in archive.namelist() and b"encryption-data" in archive.read(MANIFEST)


def read_open_document(archive: zipfile.ZipFile, name: str) -> PlacedText:
    """The text with its headings, lists, tables and notes; pages and slides with their numbers.

    Raises:
        DataError: it is a document of another kind, or has no text.
        ImportError: the libraries are not installed.
        KeyError: a part is missing.
        ElementTree.ParseError: a part is damaged.
    """
    root = ElementTree.fromstring(archive.read(CONTENT))
    body = next((part for each in root if tag(each) == "body" for part in each), None)
    kind = "" if body is None else tag(body)
    found = PlacedText(name)
    if body is not None and kind == TEXT:
        found.add(markdown_of("".join(_blocks(body))))
    elif body is not None and kind in _PAGES:
        _add_pages(found, root, [each for each in body if tag(each) == "page"], _PAGES[kind])
    else:
        raise DataError(f"{name}: is an OpenDocument file without text", hint="save it as PDF")
    if not found.text:
        raise DataError(f"{name}: has no text")
    return found


def _add_pages(found: PlacedText, root: Element, pages: list[Element], word: str) -> None:
    hidden_styles = {
        _attribute(style, "name")
        for style in root.iter()
        if tag(style) == "style" and any(_attribute(each, "visibility") == "hidden" for each in style)
    }
    hidden = empty = 0
    for number, page in enumerate(pages, 1):
        is_hidden = _attribute(page, "style-name") in hidden_styles
        text = markdown_of("".join(_page_blocks(page)))
        hidden += is_hidden
        empty += not text
        found.add(f"[{word} {number}]{' (hidden)' if is_hidden else ''}\n{text}\n\n", f"{word} {number}")
    found.note_pages(word, empty=empty, hidden=hidden)


def _page_blocks(page: Element) -> Iterator[str]:
    for each in page:
        if tag(each) == "notes":
            if text := " ".join(_inline(part) for part in each.iter() if tag(part) == "p").strip():
                yield f"<p>Notes: {text}</p>"
        elif _attribute(each, "class") == "title":
            yield f"<h1>{' '.join(_inline(part) for part in each.iter() if tag(part) == 'p')}</h1>"
        else:
            yield from _blocks([each])


def _blocks(elements: Element | list[Element]) -> Iterator[str]:
    """HTML of paragraphs, lists and tables."""
    for each in elements:
        name = tag(each)
        if name in _UNREAD:
            continue
        if name == "h":
            level = _attribute(each, "outline-level")
            size = min(max(int(level), 1), 6) if level.isdecimal() else 1
            yield f"<h{size}>{_inline(each)}</h{size}>"
        elif name == "p":
            yield f"<p>{_inline(each)}</p>"
        elif name == "list-item" and len(each) and all(tag(part) == "list" for part in each):
            yield from _blocks(each)  # a list that begins deeper, as presentations have it for each paragraph
        elif name in _ELEMENTS:
            yield f"<{_ELEMENTS[name]}>"
            yield from _blocks(each)
            yield f"</{_ELEMENTS[name]}>"
        else:
            yield from _blocks(each)


def _inline(paragraph: Element) -> str:
    """HTML of what stands in a paragraph; notes stand where they are referred to."""
    pieces = [escape(paragraph.text or "")]
    for each in paragraph:
        name = tag(each)
        if name == "s":
            count = _attribute(each, "c")
            pieces.append(" " * (min(int(count), MOST_SPACES) if count.isdecimal() else 1))
        elif name == "tab":
            pieces.append(" ")
        elif name == "line-break":
            pieces.append("<br>")
        elif name == "note":
            text = " ".join(_inline(part) for part in each.iter() if tag(part) == "p")
            pieces.append(f" [note: {text}]")
        elif name == "p":
            pieces.append(f" {_inline(each)} ")
        elif name not in _UNREAD:
            pieces.append(_inline(each))
        pieces.append(escape(each.tail or ""))
    return "".join(pieces)


def _attribute(element: Element, name: str) -> str:
    """An attribute by its name, without namespace; empty if it is missing."""
    return next((value for key, value in element.items() if key.rpartition("}")[2] == name), "")
