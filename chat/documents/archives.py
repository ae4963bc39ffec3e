"""The text of documents that are zip archives: DOCX (ECMA-376) and EPUB 2 and 3 (W3C)."""

from __future__ import annotations

import posixpath
import zipfile
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.etree import ElementTree

from chat.documents.document import Place
from chat.documents.markup import markdown_of
from chat.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 256 << 20  # unpacked, of all parts together
MOST_PARTS = 10_000
_OTHERS = {
    "xl/workbook.xml": ("an Excel workbook", "save it as CSV"),
    "ppt/presentation.xml": ("a PowerPoint presentation", "save it as PDF"),
    "AndroidManifest.xml": ("an Android program", None),
    "META-INF/MANIFEST.MF": ("a Java archive", None),
}
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."


def read_archive(path: Path, name: str) -> tuple[str, list[Place], list[str]]:
    """The text of a Word document or an EPUB, as Markdown, with the places of chapters, and warnings.

    Raises:
        DataError: it is another kind of archive, damaged, or too large when it is unpacked.
        ImportError: the libraries are not installed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = set(archive.namelist())
            unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > MOST_BYTES or len(parts) > MOST_PARTS:
                raise DataError(f"{name}: is larger than the limit of {MOST_BYTES >> 20} MiB when it is unpacked")
            if "word/document.xml" in parts:
                return _read_docx(path, name)
            kind = archive.read("mimetype")[:100].decode("ascii", "replace").strip() if "mimetype" in parts else ""
            if kind == "application/epub+zip" or "META-INF/container.xml" in parts:
                return _read_epub(archive, name)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, KeyError, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"{name}: is a damaged or locked document, which cannot be read") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{name}: is a damaged document: its XML cannot be read") from error
    if kind.startswith(_OPEN_DOCUMENT):
        raise DataError(f"{name}: is an OpenDocument file", hint="save it as DOCX or PDF")
    what, hint = next((_OTHERS[part] for part in _OTHERS if part in parts), ("a zip archive", None))
    raise DataError(f"{name}: is {what}, not text", hint=hint or "unpack it and attach the files in it")


def _read_docx(path: Path, name: str) -> tuple[str, list[Place], list[str]]:
    import mammoth

    with path.open("rb") as file:
        result = mammoth.convert_to_html(file, convert_image=mammoth.images.img_element(lambda _image: {}))
    text = markdown_of(result.value)
    if not text:
        raise DataError(f"{name}: has no text")
    return text, [], []


def _read_epub(archive: zipfile.ZipFile, name: str) -> tuple[str, list[Place], list[str]]:
    """The chapters in reading order."""
    container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
    book = next((each.get("full-path") for each in container.iter() if _tag(each) == "rootfile"), None)
    if not book:
        raise DataError(f"{name}: is a damaged EPUB, which does not name its contents")
    package = ElementTree.fromstring(archive.read(book))
    files = {each.get("id"): each.get("href") for each in package.iter() if _tag(each) == "item"}
    spine = [files.get(each.get("idref")) for each in package.iter() if _tag(each) == "itemref"]
    text: list[str] = []
    places: list[Place] = []
    at = missing = 0
    for href in spine:
        part = posixpath.normpath(posixpath.join(posixpath.dirname(book), unquote(href or "").partition("#")[0]))
        if part not in archive.namelist():
            missing += 1
            continue
        chapter = markdown_of(archive.read(part))
        if chapter:
            places.append(Place(at, f"chapter {len(places) + 1}"))
            text.append(chapter + "\n\n")
            at += len(text[-1])
    if not text:
        raise DataError(f"{name}: has no text")
    return "".join(text).rstrip(), places, [f"{name}: {missing} of its chapters are missing"] if missing else []


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
