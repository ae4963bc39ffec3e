"""Read rows from the pages of a damaged SQLite file.

The format: sqlite.org/fileformat2.html. Every row is in a leaf page of a table, so the leaves are enough; the tree that
connects them, and the definitions of the tables, are not read.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE_BYTES = 4096  # the page size of every history
MAX_ROW_BYTES = 256 << 20  # a longer row is a damaged length

Value = int | float | str | bytes | None
Row = tuple[Value, ...]

_TABLE_LEAF = 0x0D
_LOG_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAX_LOCAL = PAGE_BYTES - 35
_MIN_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_INTEGER_BYTES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
_CONSTANTS: dict[int, Value] = {0: None, 8: 0, 9: 1}


class SqlitePages(Mapping[int, bytes]):
    """The pages of a file by number, from 1; a page in the write-ahead log replaces the one in the file."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self._logged = _logged_pages(path.with_name(path.name + "-wal"))

    def __getitem__(self, number: int) -> bytes:
        if number in self._logged:
            return self._logged[number]
        page = self._data[(number - 1) * PAGE_BYTES : number * PAGE_BYTES] if number > 0 else b""
        if not page:
            raise KeyError(number)
        return page.ljust(PAGE_BYTES, b"\0")

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, len(self) + 1))

    def __len__(self) -> int:
        return max(-(-len(self._data) // PAGE_BYTES), *self._logged, 0)


def read_rows(pages: Mapping[int, bytes]) -> Iterator[tuple[int, Row]]:
    """Read every row that can be read, of all tables, in no order.

    Yields:
        (row number, values); text is decoded with replacement characters.
    """
    for number in pages:
        page = pages.get(number, b"")
        if page[:1] != bytes([_TABLE_LEAF]):
            continue
        cells = int.from_bytes(page[3:5], "big")
        for (start,) in struct.iter_unpack(">H", page[8 : 8 + 2 * min(cells, (PAGE_BYTES - 8) // 2)]):
            try:
                yield _read_cell(pages, page, start)
            except (IndexError, KeyError, ValueError, struct.error):
                continue  # this cell is damaged, the next one may not be


def _read_cell(pages: Mapping[int, bytes], page: bytes, start: int) -> tuple[int, Row]:
    size, offset = _varint(page, start)
    row_number, offset = _varint(page, offset)
    if not 0 < size <= MAX_ROW_BYTES:
        raise ValueError(f"a row of {size} bytes")
    local = size
    if size > _MAX_LOCAL:
        local = _MIN_LOCAL + (size - _MIN_LOCAL) % (PAGE_BYTES - 4)
        local = local if local <= _MAX_LOCAL else _MIN_LOCAL
    payload = bytearray(page[offset : offset + local])
    next_page = int.from_bytes(page[offset + local : offset + local + 4], "big")
    while len(payload) < size:
        overflow = pages[next_page]
        next_page = int.from_bytes(overflow[:4], "big")
        payload += overflow[4 : 4 + size - len(payload)]
    return row_number, _read_record(bytes(payload))


def _read_record(payload: bytes) -> Row:
    header_bytes, offset = _varint(payload, 0)
    kinds = []
    while offset < header_bytes:
        kind, offset = _varint(payload, offset)
        kinds.append(kind)
    ends = [header_bytes]
    for kind in kinds:
        ends.append(ends[-1] + _width(kind))
    if offset != header_bytes or ends[-1] != len(payload):
        raise ValueError("the lengths of the values do not add up to that of the row")
    return tuple(_value(kind, payload[start:end]) for kind, (start, end) in zip(kinds, pairwise(ends), strict=True))


def _width(kind: int) -> int:
    """The bytes of a value by its serial type (section 2.1 of the format)."""
    if kind == 7:
        return 8
    return (kind - 12) // 2 if kind >= 12 else _INTEGER_BYTES[kind]


def _value(kind: int, raw: bytes) -> Value:
    if kind in _CONSTANTS:
        return _CONSTANTS[kind]
    if kind == 7:
        (number,) = struct.unpack(">d", raw)
        return float(number)
    if kind >= 12:
        return raw.decode("utf-8", "replace") if kind % 2 else raw
    return int.from_bytes(raw, "big", signed=True)


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """The variable-length integer at `offset`, and the offset after it: 7 bits a byte, but all 8 of a ninth."""
    value = 0
    for i in range(8):
        byte = data[offset + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + i + 1
    return value << 8 | data[offset + 8], offset + 9


def _logged_pages(log: Path) -> dict[int, bytes]:
    """The pages of committed transactions in a write-ahead log, by number; empty without a log."""
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return {}
    salts = data[16:24]
    committed: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    frame_bytes = _FRAME_HEADER_BYTES + PAGE_BYTES
    for start in range(_LOG_HEADER_BYTES, len(data) - frame_bytes + 1, frame_bytes):
        number, size_after_commit = struct.unpack_from(">II", data, start)
        if data[start + 8 : start + 16] != salts:
            break  # a frame of an earlier log
        pending[number] = data[start + _FRAME_HEADER_BYTES : start + frame_bytes]
        if size_after_commit:
            committed |= pending
            pending = {}
    return committed
