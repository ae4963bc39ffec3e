"""Make one prompt of stdin, attached files and the argument. Knows bytes and text, not models."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import DataError, FileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

BINARY_SAMPLE_BYTES = 8192


@dataclass(frozen=True)
class InputText:
    """Text and what had to be done to read it, in words."""

    text: str
    warnings: tuple[str, ...] = ()


def read_stdin() -> bytes:
    """All of stdin when it is no terminal, else nothing."""
    return b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()


def decode(data: bytes, name: str) -> InputText:
    """UTF-8 text of `data`; a byte order mark goes, what is no UTF-8 becomes U+FFFD with one warning. NUL is data."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return InputText(data.decode("utf-16"), (f"{name} was read as UTF-16",))
        except UnicodeDecodeError:
            pass
    text = data.decode("utf-8-sig", errors="replace")
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return InputText(text, (f"{name} is not UTF-8 from byte {error.start} on; unreadable bytes became U+FFFD",))
    return InputText(text)


def attach(path: str, stdin: bytes) -> InputText:
    """A file as a named, fenced block; `-` is stdin.

    Raises:
        FileError: it cannot be read.
        DataError: it is binary.
    """
    name = "stdin" if path == "-" else Path(path).name
    data = stdin if path == "-" else _read_bytes(path)
    if b"\0" in data[:BINARY_SAMPLE_BYTES] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is binary, not text", hint="attach text files; convert others to text first")
    content = decode(data, name)
    longest = max((len(run) for run in re.findall(r"`+", content.text)), default=0)
    fence = "`" * max(3, longest + 1)
    body = content.text if content.text.endswith("\n") else content.text + "\n"
    suffix = Path(name).suffix.removeprefix(".")
    language = suffix if suffix.isalnum() else ""
    return InputText(f"File `{name}`:\n{fence}{language}\n{body}{fence}", content.warnings)


def compose(
    words: Sequence[str], files: Sequence[str], stdin: bytes, *, keep_newlines: bool = False, may_be_empty: bool = False
) -> InputText:
    """One prompt: files first, then stdin, then the argument, a blank line between each.

    Args:
        keep_newlines: leave the ends of stdin's text alone (for `--raw`).
        may_be_empty: a prompt template will say something even so.

    Raises:
        UsageError: there is nothing at all.
    """
    attached = [attach(path, stdin) for path in files]
    piped = InputText("") if "-" in files else decode(stdin, "stdin")
    typed = " ".join(words)
    if keep_newlines and not attached and not typed:
        parts = [piped.text]
    else:
        parts = [*(each.text for each in attached), piped.text.strip("\r\n"), typed]
    text = "\n\n".join(part for part in parts if part)
    if not text.strip() and not may_be_empty:
        raise UsageError("the prompt is empty", hint='`mistral-chat "question"`, or pipe text in')
    return InputText(_without_surrogates(text), tuple(w for each in [*attached, piped] for w in each.warnings))


def _without_surrogates(text: str) -> str:
    """Arguments that are no UTF-8 arrive with lone surrogates; they become U+FFFD."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def _read_bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
