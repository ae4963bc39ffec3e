"""Read a document in a process of its own: the libraries that do it meet hostile files.

Run by `chat.worker.task`: the question is an `ExtractionQuestion`, the one message an `Extract` as plain values.
"""

from __future__ import annotations

import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chat import platform
from chat.documents.archives import read_archive
from chat.documents.document import Place
from chat.documents.kinds import Kind
from chat.documents.markup import markdown_of
from chat.documents.messages import read_mail, read_notebook
from chat.documents.pdf import read_pdf
from chat.errors import ChatError, DataError, FileError, reason_text
from chat.system.text_files import read_bytes
from chat.worker.protocol import build
from chat.worker.task import serve_isolated_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.worker.task import Message

MOST_SECONDS = 120  # of a processor
MOST_MEMORY_BYTES = 4 << 30
MOST_CHARACTERS = 64 << 20


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
    """The text of a document."""

    text: str
    places: list[Place]
    warnings: list[str]


def answer(question: Message, send: Callable[[Message], None]) -> None:
    """Send the text that `question`, an `ExtractionQuestion`, asks for."""
    asked = build(ExtractionQuestion, question)
    platform.limit_processor_seconds(MOST_SECONDS)
    platform.limit_memory(MOST_MEMORY_BYTES)
    try:
        extract = _read(Path(asked.path), asked.name, Kind(asked.kind))
    except ImportError as error:
        raise FileError(
            f"{asked.name}: a library that reads such documents is not installed ({error.name})",
            hint="`pip install 'mistral-chat[documents]'` installs what reads PDF, DOCX, EPUB, HTML and e-mail",
        ) from error
    except MemoryError as error:
        raise DataError(f"{asked.name}: needs more than {MOST_MEMORY_BYTES >> 30} GiB of memory to be read") from error
    except ChatError:
        raise
    except RecursionError as error:
        raise DataError(f"{asked.name}: cannot be read: {reason_text(error)}") from error
    except Exception as error:  # the libraries expect documents that are whole
        traceback.print_exc()
        raise DataError(f"{asked.name}: is damaged, and cannot be read as {asked.kind}") from error
    if len(extract.text) > MOST_CHARACTERS:
        raise DataError(f"{asked.name}: has more than {MOST_CHARACTERS >> 20} million characters")
    send(asdict(extract))


def _read(path: Path, name: str, kind: Kind) -> Extract:
    if kind is Kind.PDF:
        return Extract(*read_pdf(path, name))
    if kind is Kind.ZIP:
        return Extract(*read_archive(path, name))
    data = read_bytes(path)
    if kind is Kind.MAIL:
        return Extract(read_mail(data, name), [], [])
    if kind is Kind.NOTEBOOK:
        return Extract(*read_notebook(data, name), [])
    text = markdown_of(data)
    if not text:
        raise DataError(f"{name}: is a page without text", hint="scripts are not run")
    return Extract(text, [], [])


if __name__ == "__main__":
    serve_isolated_task(answer)
