"""Read what the user names: a file, a document, a folder, a page of the web, or the output of a command."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chat.core.conversation import Picture
from chat.documents.document import Document, Place, pictures_of
from chat.documents.kinds import HEAD_BYTES, Kind, is_document, kind_of, picture_type
from chat.documents.pictures import picture_document, short_name
from chat.documents.plain_text import InputText, decode
from chat.errors import ContextError, DataError, EngineError
from chat.system.text_files import can_be_read, read_bytes

EXTRACT = "chat.documents.extraction"
MARKDOWN = "markdown"
_NO_MEMORY = "the memory ran out"  # of what a process says that died
_ADDRESS = re.compile(r"https?://[^\s/]+", re.IGNORECASE)
_SUFFIX_OF_MEDIA = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/x-ipynb+json": ".ipynb",
    "message/rfc822": ".eml",
}


def open_document(name: str, stdin: bytes = b"") -> Document:
    """What a name stands for.

    A name that begins with `!` is a command and one with `https://` an address, unless there is such a file.

    Args:
        stdin: what `-` stands for.

    Raises:
        FileError: it cannot be read, or what reads it is not installed.
        DataError: it is no text, and no document that can be read.
        ContextError: no context holds that much.
        UsageError: the command is empty.
    """
    if name == "-":
        return _document(stdin, "stdin", "stdin", is_named=False)
    if can_be_read(name):
        return read_file(name)
    if name.startswith("!"):
        from chat.documents.command_output import run_command

        command = name[1:].strip()
        content = decode(run_command(command), f"`{command}`")
        return Document(command, content.text, name, "Output of", warnings=content.warnings)
    if _ADDRESS.match(name):
        return _read_page(name)
    if Path(name).is_dir():
        from chat.documents.folder import read_folder

        return read_folder(name, read_file)
    return read_file(name)


def text_of_stdin(data: bytes) -> InputText:
    """What was piped in: a text as it is, a picture, or the text of a document such as a PDF.

    Raises:
        DataError: it is a document that cannot be read.
        FileError: what reads it is not installed.
    """
    if picture_type(data[:HEAD_BYTES]):
        return InputText("", pictures=pictures_of([_document(data, "stdin", "stdin", is_named=False)]))
    if not is_document(data):
        return decode(data, "stdin")
    document = _document(data, "stdin", "stdin", is_named=False)
    return InputText(document.text, document.warnings, document.pages)


def read_file(name: str) -> Document:
    """A file by its path.

    Raises:
        FileError: it cannot be read, or what reads it is not installed.
        DataError: it is no text, and no document that can be read.
        ContextError: no context holds that much.
    """
    path = Path(name)
    data = read_bytes(path, too_large=ContextError)
    return _document(data, path.name, os.path.realpath(path))


def _read_page(address: str) -> Document:
    from chat.documents.web_page import fetch

    data, media = fetch(address)
    last = address.partition("?")[0].partition("#")[0].rpartition("/")[2]
    suffix = _SUFFIX_OF_MEDIA.get(media) or ("" if media.startswith("text/") else Path(last).suffix)
    document = _document(data, address, address, suffix=suffix)
    if document.pictures:
        return document
    kind = "Page" if document.language == MARKDOWN else "File"
    return Document(address, document.text, address, kind, document.language, document.places, document.warnings)


def _document(data: bytes, name: str, source: str, *, suffix: str | None = None, is_named: bool = True) -> Document:
    """A document of bytes.

    Args:
        suffix: how it is to be read, if the name does not tell.
        is_named: whether the name's suffix tells how it is to be read.
    """
    kind = kind_of(
        data[:HEAD_BYTES], name, suffix=(Path(name).suffix if suffix is None else suffix) if is_named else ""
    )
    if kind is Kind.PICTURE:
        return picture_document(data, name, source)
    if kind is Kind.TEXT:
        content = decode(data, name)
        ending = Path(name).suffix.removeprefix(".") if suffix is None else ""
        return Document(
            name, content.text, source, language=ending if ending.isalnum() else "", warnings=content.warnings
        )
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mistral-chat-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "document"  # the same bytes, whatever happens to the path; closed, as Windows wants it
        copy.write_bytes(data)
        found = _extract(str(copy), name, kind)
    places = tuple(Place(int(start), str(label)) for start, label in found["places"])
    pages = tuple(
        Picture.of_page(base64.b64decode(page), short_name(name), number)
        for number, page in enumerate(found["pages"], 1)
        if page
    )
    warnings = tuple(found["warnings"])
    return Document(name, found["text"], source, language=MARKDOWN, places=places, warnings=warnings, pages=pages)


def _extract(path: str, name: str, kind: Kind) -> dict[str, Any]:
    """An `Extract` as plain values."""
    from contextlib import closing

    from chat.documents.extraction import ExtractionQuestion
    from chat.worker.task import run_isolated_task

    question = ExtractionQuestion(path, name, kind)
    try:
        with closing(run_isolated_task(EXTRACT, asdict(question))) as messages:
            (found,) = messages
    except EngineError as error:
        if _NO_MEMORY in error.message:
            raise DataError(f"{name}: needs too much memory to be read") from error
        raise DataError(f"{name}: cannot be read: what reads it ended ({error.message})") from error
    return found
