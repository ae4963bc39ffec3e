"""Read the bytes of a GGUF header in sequence: numbers, strings, values.

The file is read in growing pieces, not mapped: if it is truncated meanwhile, a mapping would end the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from struct import Struct, unpack_from
from typing import TYPE_CHECKING, Any, NoReturn, overload

from chat.errors import DataError
from chat.gguf.types import ARRAY, STRING, VALUE_TYPES

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

MAX_ITEMS = 1 << 22  # array items in the whole file; the largest vocabularies need a third
MAX_HEADER_BYTES = 128 << 20
FIRST_READ_BYTES = 1 << 20
INCOMPLETE = "the download may be incomplete: fetch the file again"
U32 = Struct("<I").unpack_from
U64 = Struct("<Q").unpack_from


def shown(text: str, limit: int = 80) -> str:
    """A name from a file, quoted, without control characters and cut to `limit` characters."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


class Texts(Sequence[str]):
    """An array of strings that is decoded on first use: most readers need none of 270,000 merges."""

    def __init__(self, raw: bytes, count: int) -> None:
        """Keep `raw`, the strings as the file stores them, each after its length in 8 bytes."""
        self.raw = raw
        self._count = count

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """All strings. Decoding them joined by NUL, which few strings contain, takes half the time."""
        raw, position = self.raw, 0
        pieces: list[bytes] = []
        append = pieces.append
        for _ in range(self._count):
            start = position + 8
            position = start + U64(raw, position)[0]
            append(raw[start:position])
        joined = b"\0".join(pieces)
        if pieces and joined.count(b"\0") == len(pieces) - 1:
            return tuple(joined.decode().split("\0"))
        return tuple([piece.decode() for piece in pieces])

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self.texts[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __eq__(self, other: object) -> bool:
        return self.texts == tuple(other) if isinstance(other, (tuple, list, Texts)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"<{self._count} strings>"


class Cursor:
    """A position in a header.

    Every method raises a `DataError` for what lies beyond the end of the file, before it allocates that size.

    Attributes:
        position: Offset of the next byte.
        data: The bytes read so far.
        items: Items of all arrays so far.
        subject: What is being read, for errors.
    """

    def __init__(self, path: Path, file: FileIO, size: int) -> None:
        self.path = path
        self.file = file
        self.size = size
        self.data = b""
        self.position = 0
        self.items = 0
        self.subject = "the header"

    def fail(self, problem: str, *, hint: str | None = None) -> NoReturn:
        """Refuse the file.

        Raises:
            DataError: always.
        """
        raise DataError(f"{self.path}: {problem}", hint=hint)

    def need(self, count: int) -> None:
        """Read until `count` bytes after `position` are in `data`.

        Raises:
            DataError: the file or the limit for a header ends before.
        """
        end = self.position + count
        if end <= len(self.data):
            return
        if end > self.size:
            problem = f"{self.subject} needs {end} bytes, but the file ends at {self.size}"
            raise DataError(f"{self.path}: {problem}", hint=INCOMPLETE)
        if end > MAX_HEADER_BYTES:
            self.fail(f"{self.subject} ends at byte {end}, but the limit for a header is {MAX_HEADER_BYTES}")
        wanted = min(self.size, MAX_HEADER_BYTES, max(end, 2 * len(self.data), FIRST_READ_BYTES))
        parts = [self.data]
        have = len(self.data)
        while have < wanted:
            part = self.file.read(wanted - have)
            if not part:
                self.fail(f"{self.subject} was cut while the file was read", hint=INCOMPLETE)
            parts.append(part)
            have += len(part)
        self.data = b"".join(parts)

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes after `position`, fewer where the file ends."""
        self.need(min(count, self.size - self.position))
        return self.data[self.position : self.position + count]

    def u32(self) -> int:
        """The next number of 4 bytes."""
        self.need(4)
        self.position += 4
        return int(U32(self.data, self.position - 4)[0])

    def u64(self) -> int:
        """The next number of 8 bytes."""
        self.need(8)
        self.position += 8
        return int(U64(self.data, self.position - 8)[0])

    def text(self, limit: int, what: str) -> str:
        """A string: its length in 8 bytes, then UTF-8."""
        length = self.u64()
        if length > limit:
            self.fail(f"{what} is {length} bytes long, but the limit is {limit}")
        self.need(length)
        raw = self.data[self.position : self.position + length]
        self.position += length
        return self.decode(raw, what)

    def decode(self, raw: bytes, what: str) -> str:
        """UTF-8 to text."""
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            self.fail(f"{what} is not UTF-8 (byte {error.start})")

    def value(self) -> tuple[Any, str]:
        """A value and the name of its type."""
        kind = self.u32()
        if kind == ARRAY:
            return self.array()
        if kind == STRING:
            return self.text(MAX_HEADER_BYTES, self.subject), "str"
        if kind not in VALUE_TYPES:
            self.fail(f"{self.subject} has value type {kind}, but the last one known is 12")
        return self.numbers(kind, 1)[0], VALUE_TYPES[kind].name

    def array(self) -> tuple[Sequence[Any], str]:
        """An array and the name of its type."""
        kind, count = self.u32(), self.u64()
        if kind == ARRAY:
            self.fail(f"{self.subject} is an array of arrays, which llama.cpp cannot read")
        if kind != STRING and kind not in VALUE_TYPES:
            self.fail(f"{self.subject} is an array of value type {kind}, but the last one known is 12")
        self.items += count
        if self.items > MAX_ITEMS:
            self.fail(f"{self.subject} brings the array items to {self.items}, but the limit is {MAX_ITEMS}")
        if kind == STRING:
            return self.strings(count), "[str]"
        return self.numbers(kind, count), f"[{VALUE_TYPES[kind].name}]"

    def numbers(self, kind: int, count: int) -> tuple[Any, ...]:
        """Scalars of value type `kind`."""
        value_type = VALUE_TYPES[kind]
        self.need(count * value_type.bytes)
        values = unpack_from(f"<{count}{value_type.letter}", self.data, self.position)
        self.position += count * value_type.bytes
        if value_type.name != "bool":
            return values
        if count and max(values) > 1:
            self.fail(f"{self.subject} is bool, but holds {max(values)}")
        return tuple(map(bool, values))

    def strings(self, count: int) -> Texts:
        """Many strings. This loop dominates the time to read a vocabulary, so it does as little as possible."""
        self.need(8 * count)
        first, data, position, last = self.position, self.data, self.position, len(self.data) - 8
        long: list[int] = []
        for _ in range(count):
            if position > last:
                data, last = self.more(position)
            length = U64(data, position)[0]
            if length > 127:
                long.append(position)
            position += 8 + length
        self.position = position
        self.need(0)
        self.check_texts(first, long)
        return Texts(self.data[first:position], count)

    def more(self, position: int) -> tuple[bytes, int]:
        """Read the length of a string at `position`: the bytes read so far, and the last place of a length in them."""
        self.position = position
        self.need(8)
        return self.data, len(self.data) - 8

    def check_texts(self, first: int, long: list[int]) -> None:
        """Refuse what is not UTF-8. A length below 128 is ASCII itself, so only the lengths at `long` are left out."""
        for start, end in zip([first, *[place + 8 for place in long]], [*long, self.position], strict=True):
            try:
                self.data[start:end].decode()
            except UnicodeDecodeError as error:
                self.fail(f"{self.subject} is not UTF-8 (byte {start + error.start} of the file)")
