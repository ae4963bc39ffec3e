"""The text of e-mails (RFC 5322) and of Jupyter notebooks (nbformat 3 and 4)."""

from __future__ import annotations

import email
import json
import re
from email import policy
from typing import TYPE_CHECKING, Any

from chat.documents.markup import markdown_of
from chat.documents.placed_text import PlacedText
from chat.errors import DataError, reason_text
from chat.system.characters import fence_around
from chat.system.terminal_text import size_text

if TYPE_CHECKING:
    from email.message import EmailMessage, MIMEPart

HEADERS = ("From", "To", "Cc", "Date", "Subject")
MOST_OUTPUT = 4000  # characters of one output of a cell
_STYLES = re.compile(r"\x1b\[[0-9;]*m")


def read_mail(data: bytes, name: str) -> PlacedText:
    """The headers that people read, the text, and the names of what is attached.

    Raises:
        DataError: it has neither sender nor text.
        ImportError: it is a page of HTML, and the libraries for that are not installed.
    """
    message: EmailMessage = email.message_from_bytes(data, policy=policy.default)
    headers = [f"{key}: {value}" for key in HEADERS if (value := str(message.get(key, "")).strip())]
    body = message.get_body(("plain", "html"))
    text = "" if body is None else _content(body)
    if not headers and not text.strip():
        raise DataError(f"{name}: is not an e-mail")
    if body is not None and body.get_content_type() == "text/html":
        text = markdown_of(text)
    attached = [
        f"- {part.get_filename() or 'a part without a name'} ({part.get_content_type()}, {_size_of(part)})"
        for part in message.iter_attachments()
    ]
    more = ["Attached, and not read:\n" + "\n".join(attached)] if attached else []
    found = PlacedText(name)
    found.add("\n\n".join(["\n".join(headers), text.replace("\r\n", "\n").strip(), *more]).strip())
    return found


def _content(part: MIMEPart) -> str:
    try:
        return str(part.get_content())
    except (LookupError, UnicodeError):  # a character set that Python does not know
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""


def _size_of(part: Any) -> str:
    payload = part.get_payload(decode=True)
    return size_text(len(payload)) if isinstance(payload, bytes) else "a message"


def read_notebook(data: bytes, name: str) -> PlacedText:
    """The cells in order, code and output in fences; pictures are left out.

    Raises:
        DataError: it is no notebook.
    """
    try:
        notebook = json.loads(data)
        cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
        language = notebook.get("metadata", {}).get("language_info", {}).get("name", "python")
        parts = [_cell(cell, language) for cell in cells]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: is not a notebook: {reason_text(error)}") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"{name}: is not a notebook: it has no cells") from error
    found = PlacedText(name)
    for number, part in enumerate(parts, 1):
        found.add(f"{part}\n\n", f"cell {number}")
    return found


def _cell(cell: dict[str, Any], language: str) -> str:
    text = _joined(cell.get("source", cell.get("input", "")))
    if cell["cell_type"] != "code":
        return text
    outputs = [_output(each) for each in cell.get("outputs", ())]
    blocks = [_fenced(text, language), *(_fenced(each, "") for each in outputs if each.strip())]
    return "\n\n".join(blocks)


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] in ("error", "pyerr"):
        text = "\n".join(output.get("traceback", ())) or f"{output.get('ename')}: {output.get('evalue')}"
    else:
        data = output.get("data", output)
        text = _joined(output.get("text", data.get("text/plain", "")))
        if any(kind.startswith("image/") for kind in data):
            text = f"{text}\n[a picture]".strip()
    text = _STYLES.sub("", text)
    return (
        text if len(text) <= MOST_OUTPUT else f"{text[:MOST_OUTPUT]}\n[and {len(text) - MOST_OUTPUT:,} more characters]"
    )


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _fenced(text: str, language: str) -> str:
    fence = fence_around(text)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
