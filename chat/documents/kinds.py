"""Recognize what a file holds by its first bytes, and by its name where they are text."""

from __future__ import annotations

from enum import StrEnum

from chat.errors import DataError

HEAD_BYTES = 8192  # that are looked at
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Kind(StrEnum):
    """What can be read."""

    TEXT = "text"
    PDF = "PDF"
    ZIP = "zip archive"  # DOCX, XLSX, PPTX, OpenDocument, EPUB, or something that is refused by name
    COMPOUND = "compound file"  # XLS, or something that is refused by name
    RTF = "RTF"
    HTML = "HTML"
    NOTEBOOK = "notebook"
    MAIL = "e-mail"
    PICTURE = "picture"


_PICTURE = "PNG, JPEG, WebP, GIF and BMP can be read: save it as one of them"
_UNPACK = "unpack it and attach the files in it"
_SOUND = "write down what is said"

# magic bytes, and what begins with them
_DOCUMENTS = (
    (b"PK\3\4", Kind.ZIP),
    (b"PK\5\6", Kind.ZIP),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind.COMPOUND),
    (b"{\\rtf", Kind.RTF),
)
# magic bytes, where they stand, media type
_PICTURES: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"BM", 0, "image/bmp"),
)
# magic bytes, where they stand, what it is, and what to do instead
_REFUSED: tuple[tuple[bytes, int, str, str | None], ...] = (
    (b"II*\0", 0, "a TIFF picture", _PICTURE),
    (b"MM\0*", 0, "a TIFF picture", _PICTURE),
    (b"ftypavif", 4, "an AVIF picture", _PICTURE),
    (b"ftyphei", 4, "an HEIC picture", _PICTURE),
    (b"ftypmif1", 4, "an HEIF picture", _PICTURE),
    (b"\0\0\1\0", 0, "an icon", _PICTURE),
    (b"ftyp", 4, "a video or sound", _SOUND),
    (b"\x1aE\xdf\xa3", 0, "a video", _SOUND),
    (b"WAVE", 8, "a sound", _SOUND),
    (b"ID3", 0, "a sound", _SOUND),
    (b"OggS", 0, "a sound", _SOUND),
    (b"fLaC", 0, "a sound", _SOUND),
    (b"\x1f\x8b", 0, "a gzip archive", _UNPACK),
    (b"BZh", 0, "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", 0, "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", 0, "a zstd archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z archive", _UNPACK),
    (b"Rar!\x1a\7", 0, "a RAR archive", _UNPACK),
    (b"ustar", 257, "a tar archive", _UNPACK),
    (b"SQLite format 3\0", 0, "an SQLite database", "attach the output of a query, such as `-f '!sqlite3 ...'`"),
    (b"GGUF", 0, "a GGUF model", "`-m` answers with it"),
    (b"\x7fELF", 0, "a program", None),
    (b"\xcf\xfa\xed\xfe", 0, "a program", None),
    (b"MZ", 0, "a program", None),
)
_KIND_OF_SUFFIX = {
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".ipynb": Kind.NOTEBOOK,
    ".eml": Kind.MAIL,
}
READ_BY_SUFFIX = (".ipynb", ".eml")  # in a folder, whose pages of HTML are sources
_TEXT_LIKE = (b"BM", b"MZ", b"BZh", b"ID3", b"GIF8", b"GGUF")  # a text can begin so, too


def _is_binary(head: bytes) -> bool:
    return b"\0" in head and not head.startswith(UTF_16_MARKS)


def picture_type(head: bytes) -> str:
    """The media type of a picture that can be read, by its first bytes; empty for anything else."""
    is_binary = _is_binary(head)
    return next(
        (
            media_type
            for magic, offset, media_type in _PICTURES
            if head[offset : offset + len(magic)] == magic and (is_binary or magic not in _TEXT_LIKE)
        ),
        "",
    )


def is_document(data: bytes) -> bool:
    """Whether bytes begin as a document with magic bytes of its own does."""
    return data.startswith((b"%PDF-", *(magic for magic, _ in _DOCUMENTS)))


def kind_of(head: bytes, name: str, suffix: str = "") -> Kind:
    """What the first bytes are the beginning of.

    Args:
        head: the first `HEAD_BYTES`, or all of a shorter file.
        name: for errors.
        suffix: how a text is to be read, such as `.html`.

    Raises:
        DataError: it is known to be something else than text, or binary.
    """
    if b"%PDF-" in head[:1024]:
        return Kind.PDF
    for magic, kind in _DOCUMENTS:
        if head.startswith(magic):
            return kind
    if picture_type(head):
        return Kind.PICTURE
    is_binary = _is_binary(head)
    for magic, offset, what, hint in _REFUSED:
        if head[offset : offset + len(magic)] == magic and (is_binary or magic not in _TEXT_LIKE):
            raise DataError(f"{name}: is {what}, not text", hint=hint)
    if is_binary:
        raise DataError(f"{name}: is binary, not text", hint="attach text files; convert others to text first")
    return _KIND_OF_SUFFIX.get(suffix.lower(), Kind.TEXT)
