"""Find the records of a PyTorch zip archive in its mapped file.

A strict reader of its own, since a zip file can say one thing in its directory and another before its data, and can
unpack to any size: here all records are stored as they are, lie apart from each other, and nothing follows the end.
"""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING, NamedTuple

from chat.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.checkpoint.mapped_file import MappedFile

RECORD_LIMIT = 100_000
DIRECTORY_LIMIT_BYTES = 64 << 20
_LOCAL, _CENTRAL, _END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_END_64, _LOCATOR_64 = b"PK\6\6", b"PK\6\7"
_LOCAL_BYTES, _CENTRAL_BYTES, _END_BYTES = 30, 46, 22
_END_64_BYTES, _LOCATOR_64_BYTES = 56, 20
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF  # the value stands elsewhere, in 64 bits
_ZIP_64 = 1  # the extra field it then stands in
_DESCRIPTOR, _UTF_8 = 1 << 3, 1 << 11  # the only flags allowed
_INCOMPLETE = "the download is incomplete; fetch the file again"


class ArchiveRecord(NamedTuple):
    """One stored file of the archive."""

    name: str
    offset: int  # of its first byte, in the archive
    nbytes: int


class _Listed(NamedTuple):
    """One entry of the directory."""

    name: bytes
    start: int  # of its local header
    nbytes: int


def read_records(file: MappedFile) -> dict[str, ArchiveRecord]:
    """Every record of the archive, by its name.

    Raises:
        DataError: a rule is broken: compressed, encrypted, overlapping, outside the file, named twice or like a path.
    """
    count, directory, end = _find_directory(file)
    listed = list(_read_directory(file, count, directory, end))
    records: dict[str, ArchiveRecord] = {}
    free = 0
    for entry in sorted(listed, key=lambda entry: entry.start):
        record = _read_local(file, entry, directory)
        if entry.start < free:
            raise DataError(f"{file.path}: record {_shown(entry.name)} overlaps the one before it")
        free = record.offset + record.nbytes
        if record.name in records:
            raise DataError(f"{file.path}: record {_shown(entry.name)} appears twice")
        records[record.name] = record
    return records


def _find_directory(file: MappedFile) -> tuple[int, int, int]:
    """Number of entries, and where the directory begins and ends."""
    at = file.size - _END_BYTES
    if at < 0 or bytes(file.view(at, 4)) != _END:
        raise DataError(f"{file.path}: does not end like an archive", hint=_INCOMPLETE)
    disk, first_disk, here, count, size, start, comment = unpack("<4H2LH", file.view(at + 4, _END_BYTES - 4))
    end = at
    locator = at - _LOCATOR_64_BYTES
    if locator >= 0 and bytes(file.view(locator, 4)) == _LOCATOR_64:
        disk_64, end, disks = unpack("<LQL", file.view(locator + 4, _LOCATOR_64_BYTES - 4))
        if end != locator - _END_64_BYTES or bytes(file.view(end, 4)) != _END_64 or disk_64 or disks != 1:
            raise DataError(f"{file.path}: its 64-bit end does not lie before its end")
        large = unpack("<Q2H2L4Q", file.view(end + 4, _END_64_BYTES - 4))
        _agree(file, (disk, first_disk, here, count, size, start), large[3:])
        disk, first_disk, here, count, size, start = large[3:]
    if disk or first_disk or here != count or comment:
        raise DataError(f"{file.path}: is an archive in several parts or with a comment, which PyTorch never writes")
    if count > RECORD_LIMIT or size > DIRECTORY_LIMIT_BYTES:
        raise DataError(
            f"{file.path}: lists {count} records in {size} bytes; the limits are {RECORD_LIMIT:,} and 64 MiB"
        )
    if start + size != end:
        raise DataError(f"{file.path}: its directory does not reach from {start} to its end at {end}", hint=_INCOMPLETE)
    return count, start, end


def _agree(file: MappedFile, small: tuple[int, ...], large: tuple[int, ...]) -> None:
    """Both ends of an archive say the same, so that no two programs can read it differently."""
    for old, new in zip(small, large, strict=True):
        if old not in (new, _FULL_16, _FULL_32):
            raise DataError(f"{file.path}: its two ends disagree: {old} and {new}")


def _read_directory(file: MappedFile, count: int, at: int, end: int) -> Iterator[_Listed]:
    for number in range(count):
        if end - at < _CENTRAL_BYTES or bytes(file.view(at, 4)) != _CENTRAL:
            raise DataError(f"{file.path}: its directory breaks off at record {number} of {count}")
        fields = unpack("<6H3L5H2L", file.view(at + 4, _CENTRAL_BYTES - 4))
        _, _, flags, method, _, _, _, packed, nbytes, name_bytes, extra_bytes, comment_bytes, disk, _, _, start = fields
        body = at + _CENTRAL_BYTES
        at = body + name_bytes + extra_bytes + comment_bytes
        if at > end:
            raise DataError(f"{file.path}: its directory breaks off at record {number} of {count}")
        name = bytes(file.view(body, name_bytes))
        extra = bytes(file.view(body + name_bytes, extra_bytes))
        nbytes, packed, start = _in_64_bits(file, name, extra, (nbytes, packed, start))
        _check_stored(file, name, flags, method)
        if packed != nbytes or disk:
            raise DataError(
                f"{file.path}: record {_shown(name)} takes {packed} bytes for {nbytes}, so it is not stored as is"
            )
        yield _Listed(name, start, nbytes)
    if at != end:
        raise DataError(f"{file.path}: {end - at} bytes after the last record of its directory")


def _in_64_bits(file: MappedFile, name: bytes, extra: bytes, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """The values, those that do not fit 32 bits from the extra field."""
    at, wide = 0, b""
    while at + 4 <= len(extra):
        kind, length = unpack("<2H", extra[at : at + 4])
        if kind == _ZIP_64:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    found = []
    for value in values:
        if value == _FULL_32:
            if len(wide) < 8:
                raise DataError(f"{file.path}: record {_shown(name)} lacks its size in 64 bits")
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        found.append(value)
    return found[0], found[1], found[2]


def _check_stored(file: MappedFile, name: bytes, flags: int, method: int) -> None:
    if flags & ~(_DESCRIPTOR | _UTF_8):
        raise DataError(f"{file.path}: record {_shown(name)} is encrypted or patched (flags {flags:#x})")
    if method:
        raise DataError(
            f"{file.path}: record {_shown(name)} is compressed, which PyTorch never writes",
            hint="the file was packed again by another program; download the original",
        )


def _read_local(file: MappedFile, entry: _Listed, directory: int) -> ArchiveRecord:
    """Where the record's bytes are, after the header before them has said the same as the directory."""
    where = f"{file.path}: record {_shown(entry.name)}"
    if entry.start + _LOCAL_BYTES > directory or bytes(file.view(entry.start, 4)) != _LOCAL:
        raise DataError(f"{where} does not lie before the directory", hint=_INCOMPLETE)
    fields = unpack("<5H3L2H", file.view(entry.start + 4, _LOCAL_BYTES - 4))
    _, flags, method, _, _, _, packed, nbytes, name_bytes, extra_bytes = fields
    _check_stored(file, entry.name, flags, method)
    body = entry.start + _LOCAL_BYTES
    offset = body + name_bytes + extra_bytes
    if offset + entry.nbytes > directory:
        raise DataError(f"{where} ends at byte {offset + entry.nbytes}, inside the directory", hint=_INCOMPLETE)
    if bytes(file.view(body, name_bytes)) != entry.name:
        raise DataError(f"{where} has another name before its data")
    later = bool(flags & _DESCRIPTOR)  # sizes follow the data then, and are 0 here
    if any(size not in (entry.nbytes, _FULL_32) and not (later and size == 0) for size in (packed, nbytes)):
        raise DataError(f"{where} has {entry.nbytes} bytes in the directory, but {nbytes} before its data")
    return ArchiveRecord(_checked_name(where, entry.name), offset, entry.nbytes)


def _checked_name(where: str, raw: bytes) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} has a name that is not UTF-8") from error
    if not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise DataError(f"{where} has a name that could be a path elsewhere")
    return name


def _shown(raw: bytes) -> str:
    return repr(raw[:80].decode(errors="replace"))
