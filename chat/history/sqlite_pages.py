"""Read rows from the pages of a SQLite file while trusting nothing else of it. Knows the file format, not our tables.

The format: sqlite.org/fileformat2.html. Every table row is in a leaf page, so the leaves alone hold everything; how
they hang together, which is what damage usually hits, is not needed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE_BYTES = 4096  # ours are all of this size
MAX_ROW_BYTES = 256 << 20  # a damaged length must not ask for more memory than this

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
    """The pages of a file, numbered from 1, as its write-ahead log has them last."""

    def __init__(self, path: Path) -> None:
        self._file = path.read_bytes()
        self._newer = _logged_pages(path.with_name(path.name + "-wal"))

    def __getitem__(self, number: int) -> bytes:
        if number in self._newer:
            return self._newer[number]
        page = self._file[(number - 1) * PAGE_BYTES : number * PAGE_BYTES] if number > 0 else b""
        if not page:
            raise KeyError(number)
        return page.ljust(PAGE_BYTES, b"\0")

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, len(self) + 1))

    def __len__(self) -> int:
        return max(-(-len(self._file) // PAGE_BYTES), *self._newer, 0)


def read_rows(pages: Mapping[int, bytes]) -> Iterator[tuple[int, Row]]:
    """Every (row number, values) that can be read, of all tables, in no order; text is decoded with replacements."""
    for number in pages:
        page = pages.get(number, b"")
        if page[:1] != bytes([_TABLE_LEAF]):
            continue
        cells = int.from_bytes(page[3:5], "big")
        for (start,) in struct.iter_unpack(">H", page[8 : 8 + 2 * min(cells, (PAGE_BYTES - 8) // 2)]):
            try:
                yield _read_cell(pages, page, start)
            except (IndexError, KeyError, ValueError, struct.error):
                continue  # this cell is damaged, the next may be sound


def _read_cell(pages: Mapping[int, bytes], page: bytes, start: int) -> tuple[int, Row]:
    size, at = _varint(page, start)
    row_number, at = _varint(page, at)
    if not 0 < size <= MAX_ROW_BYTES:
        raise ValueError(f"a row of {size} bytes")
    local = size
    if size > _MAX_LOCAL:
        local = _MIN_LOCAL + (size - _MIN_LOCAL) % (PAGE_BYTES - 4)
        local = local if local <= _MAX_LOCAL else _MIN_LOCAL
    payload = bytearray(page[at : at + local])
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    while len(payload) < size:
        overflow = pages[following]
        following = int.from_bytes(overflow[:4], "big")
        payload += overflow[4 : 4 + size - len(payload)]
    return row_number, _read_record(bytes(payload))


def _read_record(payload: bytes) -> Row:
    header_bytes, at = _varint(payload, 0)
    kinds = []
    while at < header_bytes:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    ends = [header_bytes]
    for kind in kinds:
        ends.append(ends[-1] + _width(kind))
    if at != header_bytes or ends[-1] != len(payload):
        raise ValueError("the lengths of a row do not add up")
    return tuple(_value(kind, payload[a:b]) for kind, (a, b) in zip(kinds, pairwise(ends), strict=True))


def _width(kind: int) -> int:
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


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and where the next begins: 7 bits a byte, all 8 of a ninth."""
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9


def _logged_pages(log: Path) -> dict[int, bytes]:
    """Pages of committed transactions in a write-ahead log; none if there is no log."""
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
            break  # left over from an earlier round of the log
        pending[number] = data[start + _FRAME_HEADER_BYTES : start + frame_bytes]
        if size_after_commit:
            committed |= pending
            pending = {}
    return committed
