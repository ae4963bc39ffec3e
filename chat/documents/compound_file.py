"""Files of Microsoft's compound format: what Office wrote before 2007, and what it locks by a password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.documents.spreadsheets import read_spreadsheet
from chat.errors import DataError
from chat.system.text_files import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from chat.documents.placed_text import PlacedText

# names of streams, what has them, and what to do; [MS-OFFCRYPTO], [MS-DOC], [MS-PPT], [MS-OXMSG]
_OTHERS = (
    ("EncryptedPackage", "is locked by a password", "save it without one"),
    ("WordDocument", "is a Word document of before 2007, which cannot be read", "save it as DOCX"),
    ("PowerPoint Document", "is a PowerPoint presentation of before 2007, which cannot be read", "save it as PPTX"),
    ("__properties_version1.0", "is an Outlook message, which cannot be read", "save it as .eml"),
)
_WORKBOOKS = ("Workbook", "Book")


def read_compound_file(path: Path, name: str) -> PlacedText:
    """The text of a workbook (XLS).

    Raises:
        DataError: it is locked, damaged, or another kind of document, which the message names.
        ImportError: the library is not installed.
    """
    data = read_bytes(path)
    for stream, what, hint in _OTHERS:
        if _entry(stream) in data:
            raise DataError(f"{name}: {what}", hint=hint)
    if any(_entry(stream) in data for stream in _WORKBOOKS):
        return read_spreadsheet(path, name)
    raise DataError(f"{name}: is a document of an old program, which cannot be read", hint="save it as DOCX or PDF")


def _entry(stream: str) -> bytes:
    """The name of a stream as an entry of the directory begins: UTF-16 in 64 bytes, filled with zeros."""
    return stream.encode("utf-16-le").ljust(64, b"\0")
