"""Read a document in a process of its own: the libraries that do it meet hostile files.

Run by `chat.worker.task`: the question is an `ExtractionQuestion`, the one message an `Extract` as plain values.
"""

from __future__ import annotations

import base64
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chat import platform
from chat.core.document_kinds import EXTRA_READS
from chat.documents.archives import read_archive
from chat.documents.compound_file import read_compound_file
from chat.documents.document import Place
from chat.documents.kinds import Kind
from chat.documents.markup import markdown_of
from chat.documents.messages import read_mail, read_notebook
from chat.documents.pdf import read_pdf
from chat.documents.placed_text import PlacedText
from chat.documents.rich_text import read_rtf
from chat.errors import ChatError, DataError, FileError, reason_text
from chat.system.installer import install_extra
from chat.system.text_files import read_bytes
from chat.worker.protocol import build
from chat.worker.task import serve_isolated_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.worker.task import Message

MOST_SECONDS = 120  # of a processor
MOST_MEMORY_BYTES = 4 << 30


@dataclass(frozen=True)
class ExtractionQuestion:
    """What is to be read.

    Attributes:
        path: of the file.
        name: of the document, for errors.
        kind: a `Kind`.
    """

    path: str
    name: str
    kind: str


@dataclass(frozen=True)
class Extract:
    """The text of a document, or pictures of its pages as base64; those of empty pages are empty."""

    text: str
    places: list[Place]
    warnings: list[str]
    pages: list[str]


def answer(question: Message, send: Callable[[Message], None]) -> None:
    """Send the text that `question`, an `ExtractionQuestion`, asks for."""
    asked = build(ExtractionQuestion, question)
    platform.limit_processor_seconds(MOST_SECONDS)
    platform.limit_memory(MOST_MEMORY_BYTES)
    try:
        found = _read(Path(asked.path), asked.name, Kind(asked.kind))
    except ImportError as error:
        raise FileError(
            f"{asked.name}: a library that reads such documents is not installed ({error.name})",
            hint=f"with `{install_extra('documents')}` {EXTRA_READS}",
        ) from error
    except MemoryError as error:
        raise DataError(f"{asked.name}: needs more than {MOST_MEMORY_BYTES >> 30} GiB of memory to be read") from error
    except ChatError:
        raise
    except RecursionError as error:
        raise DataError(f"{asked.name}: cannot be read: {reason_text(error)}") from error
    except Exception as error:  # the libraries expect documents that are whole
        traceback.print_exc()
        raise DataError(f"{asked.name}: is damaged, and cannot be read") from error
    pages = [base64.b64encode(page).decode() for page in found.pages]
    send(asdict(Extract(found.text, found.places, found.warnings, pages)))


def _read(path: Path, name: str, kind: Kind) -> PlacedText:
    if kind in _READERS_OF_FILES:
        return _READERS_OF_FILES[kind](path, name)
    return _READERS_OF_BYTES[kind](read_bytes(path), name)


def _read_page(data: bytes, name: str) -> PlacedText:
    found = PlacedText(name)
    found.add(markdown_of(data))
    if not found.text:
        raise DataError(f"{name}: is a page without text", hint="scripts are not run")
    return found


_READERS_OF_FILES: dict[Kind, Callable[[Path, str], PlacedText]] = {
    Kind.PDF: read_pdf,
    Kind.ZIP: read_archive,
    Kind.COMPOUND: read_compound_file,
}
_READERS_OF_BYTES: dict[Kind, Callable[[bytes, str], PlacedText]] = {
    Kind.HTML: _read_page,
    Kind.MAIL: read_mail,
    Kind.NOTEBOOK: read_notebook,
    Kind.RTF: read_rtf,
}


if __name__ == "__main__":
    serve_isolated_task(answer)
