"""The text of documents that are zip archives: by what each holds, the reader of its kind."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from chat.documents.book import CONTAINER, EPUB, read_epub
from chat.documents.markup import markdown_of
from chat.documents.open_document_format import is_locked, read_open_document
from chat.documents.placed_text import PlacedText
from chat.documents.slides import PRESENTATION, read_slides
from chat.documents.spreadsheets import cells_without_value, read_spreadsheet
from chat.errors import DataError
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES = 256 << 20  # unpacked, of all parts together
MOST_PARTS = 10_000
_UNPACK = "unpack it and attach the files in it"
_OTHERS = {
    "AndroidManifest.xml": ("an Android program", None),
    "META-INF/MANIFEST.MF": ("a Java archive", None),
}
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_OPEN_SPREADSHEET = f"{_OPEN_DOCUMENT}spreadsheet"
_DAMAGES = (zipfile.BadZipFile, zipfile.LargeZipFile, KeyError, NotImplementedError, RuntimeError, EOFError)


def read_archive(path: Path, name: str) -> PlacedText:
    """The text of a document as Markdown, with the places of its chapters, slides or rows.

    Raises:
        DataError: it is another kind of archive, locked, damaged, or too large when it is unpacked.
        ImportError: the libraries are not installed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = set(archive.namelist())
            unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > MOST_BYTES or len(parts) > MOST_PARTS:
                raise DataError(f"{name}: is larger than the limit of {MOST_BYTES >> 20} MiB when it is unpacked")
            kind = archive.read("mimetype")[:100].decode("ascii", "replace").strip() if "mimetype" in parts else ""
            if kind.startswith(_OPEN_DOCUMENT) and is_locked(archive):
                raise DataError(f"{name}: is locked by a password", hint="save it without one")
            for mark, read in _READERS:
                if mark in parts or kind.startswith(mark):
                    return read(archive, name)
    except RecursionError:
        raise
    except _DAMAGES as error:
        raise DataError(f"{name}: is a damaged or locked document, which cannot be read") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{name}: is a damaged document: its XML cannot be read") from error
    what, hint = next((_OTHERS[part] for part in _OTHERS if part in parts), ("a zip archive", None))
    raise DataError(f"{name}: is {what}, not text", hint=hint or _UNPACK)


def _path(archive: zipfile.ZipFile) -> Path:
    """Where the archive lies."""
    return Path(archive.filename or "")


def _read_docx(archive: zipfile.ZipFile, name: str) -> PlacedText:
    import mammoth

    with _path(archive).open("rb") as file:
        result = mammoth.convert_to_html(file, convert_image=mammoth.images.img_element(lambda _image: {}))
    found = PlacedText(name)
    found.add(markdown_of(result.value))
    if not found.text:
        raise DataError(f"{name}: has no text")
    return found


def _read_workbook(archive: zipfile.ZipFile, name: str) -> PlacedText:
    found = read_spreadsheet(_path(archive), name)
    if missing := cells_without_value(archive):
        have = "has" if missing == 1 else "have"
        found.warn(f"{counted(missing, 'cell')} {have} no value: an error, or a formula that was never computed")
    return found


def _read_open_spreadsheet(archive: zipfile.ZipFile, name: str) -> PlacedText:
    return read_spreadsheet(_path(archive), name)


# a part or the beginning of the media type by which a kind is known, and what reads it
_READERS: tuple[tuple[str, Callable[[zipfile.ZipFile, str], PlacedText]], ...] = (
    ("word/document.xml", _read_docx),
    ("xl/workbook.xml", _read_workbook),
    ("xl/workbook.bin", _read_workbook),
    (PRESENTATION, read_slides),
    (_OPEN_SPREADSHEET, _read_open_spreadsheet),
    (_OPEN_DOCUMENT, read_open_document),
    (EPUB, read_epub),
    (CONTAINER, read_epub),
)
