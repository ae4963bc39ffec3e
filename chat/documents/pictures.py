"""Attach pictures: their files as they are, and the paths that a terminal inserts where one is dropped.

The engine's process decodes them. Here only the size is read, from fixed places of the file.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from urllib.parse import unquote, urlsplit

from chat.core.conversation import MOST_PICTURE_BYTES, Picture
from chat.documents.document import Document
from chat.documents.kinds import HEAD_BYTES, picture_type
from chat.errors import DataError

KIND = "Picture"
AGAIN = "sha256:"  # begins the source of a picture of an earlier message
# A word of a shell's command line, and what is quoted in it
if os.sep == "/":
    _WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|\\.|[^\s'"\\])+""")
    _QUOTED = re.compile(r"""'([^']*)'|"([^"]*)"|\\(.)""")
else:  # a backslash is a part of a path
    _WORD = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s'"])+""")
    _QUOTED = re.compile(r""""([^"]*)"|'([^']*)'""")
_LONGEST_LINE = 20_000  # characters in which paths are looked for
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that a size follows


def picture_document(data: bytes, name: str, source: str) -> Document:
    """A picture as it is attached.

    Raises:
        DataError: it is larger than the limit.
    """
    if len(data) > MOST_PICTURE_BYTES:
        raise DataError(f"{name}: the picture's file is larger than the limit of {MOST_PICTURE_BYTES >> 20} MiB")
    media_type = picture_type(data[:HEAD_BYTES])
    return Document(name, "", source, KIND, picture=Picture.of_file(data, media_type, short_name(name)))


def short_name(name: str) -> str:
    """The name of a file, or what an address ends with."""
    return name.partition("?")[0].rpartition("/")[2] or name


def attached_again(picture: Picture) -> Document:
    """A picture of an earlier message as an attachment."""
    return Document(picture.name, "", f"{AGAIN}{picture.sha256}", KIND, picture=picture)


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a picture in pixels, as its file states them; None if it does not."""
    try:
        return _SIZES[picture_type(data[:HEAD_BYTES])](data)
    except (KeyError, IndexError, struct.error):
        return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        length = 0 if marker == 0xFF else struct.unpack_from(">H", data, position + 2)[0] + 1
        position += 1 + length
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    width, height = struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18)
    return abs(width), abs(height)


_SIZES = {
    "image/png": lambda data: struct.unpack_from(">II", data, 16),
    "image/jpeg": _jpeg_size,
    "image/gif": lambda data: struct.unpack_from("<HH", data, 6),
    "image/webp": _webp_size,
    "image/bmp": _bmp_size,
}


def split_dropped(text: str) -> tuple[str, list[str]]:
    """A message without the pictures that were dropped before or after its words, and their paths.

    A terminal inserts the path of a dropped file: quoted, with backslashes, or as a file:// address. Only absolute
    paths count that lead to a picture.
    """
    if path := _picture_path(text.strip()):  # unquoted, and with spaces in it
        return "", [path]
    paths: list[str] = []
    rest = text
    while found := _WORD.match(rest.lstrip()[:_LONGEST_LINE]):
        path = _picture_path(_unquoted(found.group()))
        if not path:
            break
        paths.append(path)
        rest = rest.lstrip()[found.end() :]
    trailing: list[str] = []
    while words := list(_WORD.finditer(line := rest.rstrip()[-_LONGEST_LINE:].rpartition("\n")[2])):
        path = _picture_path(_unquoted(words[-1].group()))
        if not path or words[-1].end() != len(line):
            break
        trailing.insert(0, path)
        rest = rest.rstrip()[: -len(words[-1].group())]
    found_any = paths or trailing
    return (rest.strip() if found_any else text), paths + trailing


def _unquoted(word: str) -> str:
    """A word without a shell's quotes and backslashes; of a file:// address the path."""
    if word.startswith("file://"):
        path = unquote(urlsplit(word).path)
        return path if os.sep == "/" else path.removeprefix("/")  # before the letter of a drive
    return _QUOTED.sub(lambda found: next(part for part in found.groups() if part is not None), word)


def _picture_path(text: str) -> str:
    """The absolute path of a picture; empty for anything else."""
    if text.startswith("file://"):
        text = _unquoted(text)
    if "\n" in text or len(text) > 4096:
        return ""
    try:
        path = Path(text).expanduser() if text.startswith("~") else Path(text)
        if not path.is_absolute() or not path.is_file():
            return ""
        with path.open("rb") as file:
            return str(path) if picture_type(file.read(HEAD_BYTES)) else ""
    except (OSError, ValueError, RuntimeError):
        return ""
